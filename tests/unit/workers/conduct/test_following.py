"""Where the rules come from, and the wait for a version that a decision names."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
import structlog
import yaml

from schemas.dead_letter import DeadLetter
from schemas.policy import Policy, policy_hash
from schemas.policy_change import policy_key
from tests.unit.workers.conduct.world import policy, rule
from tests.waiting import until
from workers.adapters.topics_io import Record
from workers.conduct import following as module
from workers.conduct.following import PolicyLog, arrival, open_rules
from workers.errors import StartError
from workers.published_policies import new_change
from workers.settings import KafkaSettings, PoliciesSettings, Settings

FIRST, SECOND = policy(rule()), policy(rule("other"), version="2")
TOPIC = Settings(
    policies=PoliciesSettings(source="topic", default="house"), kafka=KafkaSettings(start_timeout_s=0.05)
)


class Clock:
    """Time that passes only where it is slept; stands for `time` and `asyncio` alike."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "asyncio", clock)
    return clock


class Topic:
    """Batches of records; its end is reached with the first."""

    def __init__(self, *batches: Sequence[Policy]) -> None:
        self.batches = [[self.record(one) for one in batch] for batch in batches]
        self.closed = False

    def record(self, made: Policy) -> Record:
        change = new_change("published", made, changed_by="t", why="t", now=datetime.now(UTC))
        key = policy_key(made.tenant, made.id)
        return Record("policies", 0, 0, 1, key, msgspec.json.encode(change), [])

    def open(self, kafka: KafkaSettings) -> None: ...

    def read(self) -> tuple[Sequence[Record], bool]:
        return (self.batches.pop(0) if self.batches else []), True

    def close(self) -> None:
        self.closed = True


def test_policies_of_files_are_read_once(tmp_path: Path) -> None:
    content = {name: value for name, value in msgspec.to_builtins(FIRST).items() if value is not None}
    (tmp_path / "house.yaml").write_text(yaml.safe_dump(content))
    chosen = PoliciesSettings(path=str(tmp_path), default="house")
    book, follower = open_rules(Settings(policies=chosen))
    assert follower is None
    assert book.policy("acme", "house") == FIRST


async def test_every_version_that_the_topic_has_is_known_and_the_last_is_in_force() -> None:
    topic = Topic([FIRST, SECOND])
    book, follower = open_rules(TOPIC, lambda: topic)
    assert follower is not None
    assert book.policy("acme", "house") == SECOND
    assert book.policy("acme", "house", policy_hash(FIRST)) == FIRST


async def test_a_change_is_in_force_when_it_is_read() -> None:
    topic = Topic([FIRST], [SECOND])
    book, follower = open_rules(TOPIC, lambda: topic)
    assert follower is not None and book.policy("acme", "house") == FIRST
    following = asyncio.create_task(follower.follow())
    await until(lambda: book.policy("acme", "house") == SECOND)
    follower.stop()
    await following


def test_a_topic_without_the_default_is_an_error_and_is_closed() -> None:
    topic = Topic([policy(id="other")])
    with pytest.raises(StartError, match="no policy 'house'"):
        open_rules(TOPIC, lambda: topic)
    assert topic.closed


async def test_a_version_that_is_on_its_way_is_waited_for_and_one_that_is_gone_only_once(
    clock: Clock,
) -> None:
    book, follower = open_rules(TOPIC, lambda: Topic([FIRST]))
    wait = arrival(book, follower, wait_s=5.0)
    await wait(policy_hash(FIRST))
    assert clock.now_s == 0
    book.learn(SECOND)
    await wait(policy_hash(SECOND))
    assert clock.now_s == 0
    await wait("f" * 64)
    waited_s = clock.now_s
    assert 5.0 <= waited_s < 5.2
    for _ in range(100):
        await wait("f" * 64)
    assert clock.now_s == waited_s


async def test_an_empty_hash_is_not_waited_for_and_few_are_remembered(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MISSED", 2)
    book, follower = open_rules(TOPIC, lambda: Topic([FIRST]))
    wait = arrival(book, follower, wait_s=5.0)
    await wait("")
    assert clock.now_s == 0
    for digit in "abc":
        await wait(digit * 64)
    waited_s = clock.now_s
    await wait("c" * 64)
    await wait("b" * 64)
    assert clock.now_s == waited_s
    await wait("a" * 64)  # forgotten meanwhile
    assert clock.now_s >= waited_s + 5.0


async def test_with_files_nothing_is_waited_for(clock: Clock) -> None:
    await arrival(open_rules(TOPIC, lambda: Topic([FIRST]))[0], None, wait_s=60)("f" * 64)
    assert clock.now_s == 0


def test_the_log_tells_once_that_the_topic_is_away_and_quotes_nothing_of_a_refused_record() -> None:
    with structlog.testing.capture_logs() as logs:
        told = PolicyLog(structlog.get_logger("t"))
        told.policies_not_followed("away")
        told.policies_not_followed("away")
        told.policy_record("published")
        letter = DeadLetter(
            topic="p",
            partition=1,
            offset=2,
            reason="invalid_policy",
            sentence="s",
            field="$.policy",
            timestamp_ms=0,
        )
        told.policy_refused(letter)
    assert [one["log_level"] for one in logs] == ["warning", "error"]
    assert logs[1]["field"] == "$.policy" and logs[1]["why"] == "s"
