"""When a snapshot takes the place of another, and what becomes of bad records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from guard.calibration import Scales
from schemas.dead_letter import DeadLetter
from schemas.policy import Policy
from tests.unit.workers.test_policy_state import published
from workers.adapters.topics_io import Record
from workers.errors import StartError, StreamStopped
from workers.moderation.choose_policy import PolicyBook, make_ready
from workers.moderation.outcome import ChosenPolicy
from workers.policy_follower import PolicyFollower
from workers.settings import KafkaSettings, PoliciesSettings

KAFKA = KafkaSettings(start_timeout_s=0.05)


class Topic:
    """Gives batches of records, and says at which of them its end is reached."""

    def __init__(self, *batches: Sequence[tuple[bytes, bytes]], end_after: int = 1) -> None:
        self.batches, self.end_after = [list(batch) for batch in batches], end_after
        self.opened, self.read_batches, self.offset = 0, 0, 0

    def open(self, kafka: KafkaSettings) -> None:
        self.opened, self.read_batches, self.offset = self.opened + 1, 0, 0

    def read(self) -> tuple[Sequence[Record], bool]:
        batch = self.batches[self.read_batches] if self.read_batches < len(self.batches) else []
        self.read_batches += 1
        records = []
        for key, value in batch:
            records.append(Record("policies", 0, self.offset, 1, key, value, []))
            self.offset += 1
        return records, self.read_batches >= self.end_after

    def close(self) -> None: ...


class Letters:
    def __init__(self, fails: int = 0) -> None:
        self.sent: list[tuple[Record, DeadLetter]] = []
        self.fails = fails

    def send(self, kafka: KafkaSettings, record: Record, letter: DeadLetter) -> None:
        if self.fails:
            self.fails -= 1
            raise StreamStopped("not delivered")
        self.sent.append((record, letter))


class Observer:
    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.books: list[PolicyBook] = []
        self.failures: list[str] = []

    def policy_record(self, outcome: str) -> None:
        self.outcomes.append(outcome)

    def policy_refused(self, letter: DeadLetter) -> None: ...

    def policies_changed(self, book: PolicyBook) -> None:
        self.books.append(book)

    def policies_not_followed(self, why: str) -> None:
        self.failures.append(why)


def ready(policy: Policy) -> ChosenPolicy:
    return make_ready(policy, Scales(why_raw="a test"))


def follower(topic: Topic, letters: Letters | None = None, **policies: Any) -> PolicyFollower:
    chosen = PoliciesSettings(source="topic", **policies)
    made = PolicyFollower(KAFKA, chosen, records=topic, letters=letters or Letters(), ready=ready)
    made.observer = Observer()
    return made


def versions(book: PolicyBook) -> dict[str, str]:
    return {policy.id: policy.version for policy in book.policies.all}


async def until(follower: PolicyFollower, done: Callable[[], bool]) -> None:
    following = asyncio.create_task(follower.follow())
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110 - what is waited for happens in a thread
            await asyncio.sleep(0)
    follower.stop()
    await following


def test_the_start_waits_for_the_end_of_the_topic() -> None:
    topic = Topic([published("community", None, "1")], [published("community", None, "2")], end_after=3)
    assert versions(follower(topic).load()) == {"community": "2"}
    assert topic.read_batches == 3


def test_an_end_that_does_not_come_ends_the_start() -> None:
    with pytest.raises(StartError, match=r"its end was not reached within 0.05 s"):
        follower(Topic(end_after=10**9)).load()


def test_a_topic_without_the_default_policy_ends_the_start() -> None:
    with pytest.raises(StartError, match=r"RSAFE_POLICIES__DEFAULT: topic .* holds no policy 'community'"):
        follower(Topic([published("community", "acme", "1")])).load()
    assert versions(follower(Topic(), default="").load()) == {}


async def test_a_change_replaces_the_snapshot_as_a_whole() -> None:
    topic = Topic(
        [published("community", None, "1")],
        [],
        [published("community", None, "2"), published("b", None, "1")],
    )
    one = follower(topic)
    before = one.load()
    used: list[PolicyBook] = []
    one.attach(used.append)
    await until(one, lambda: len(used) == 2)
    assert [versions(book) for book in used] == [{"community": "1"}, {"community": "2", "b": "1"}]
    assert versions(before) == {"community": "1"}
    assert used[0] is before


async def test_a_bad_record_is_told_at_each_start_until_another_takes_its_place() -> None:
    bad, good = (b"/community", b"{"), published("community", None, "1")
    letters = Letters()
    mended = follower(Topic([bad, good, (b"/b", b"{")]), letters)
    mended.load()
    await until(mended, lambda: bool(letters.sent))
    assert [record.key for record, _ in letters.sent] == [b"/b"]
    while_running = follower(Topic([good], [], [bad, published("community", None, "2")]), letters)
    while_running.load()
    await until(while_running, lambda: len(letters.sent) == 2)
    assert letters.sent[1][0].key == b"/community"


async def test_a_bad_record_leaves_the_version_before_and_is_a_dead_letter_once() -> None:
    letters, key = Letters(fails=1), b"/community"
    topic = Topic([published("community", None, "1"), (key, b"{")])
    one = follower(topic, letters)
    assert versions(one.load()) == {"community": "1"}
    one.renew(KAFKA)  # it is read again, and not told again
    await until(one, lambda: bool(letters.sent) and topic.opened == 2 and topic.read_batches > 3)
    ((record, letter),) = letters.sent
    assert (record.key, record.value) == (key, b"{")
    assert (letter.reason, letter.offset) == ("invalid_policy", 1)
    assert versions(one.book) == {"community": "1"}
    assert isinstance(one.observer, Observer)
    assert one.observer.outcomes.count("refused") == 1
    assert one.observer.failures == ["not delivered"]


async def test_a_letter_that_cannot_be_written_keeps_no_good_version_out_of_force() -> None:
    good = [published("community", None, "1")], [(b"/community", b"{"), published("community", None, "2")]
    one = follower(Topic(*good), Letters(fails=10**9))
    one.load()
    observer = one.observer
    assert isinstance(observer, Observer)
    await until(one, lambda: bool(observer.failures))
    assert versions(one.book) == {"community": "2"}


async def test_new_credentials_never_show_a_half_read_topic() -> None:
    topic = Topic([published("community", None, "1")], [published("community", None, "2")], end_after=2)
    one = follower(topic)
    one.load()
    used: list[PolicyBook] = []
    one.attach(used.append)
    one.renew(KAFKA)
    await until(one, lambda: len(used) == 2)
    assert [versions(book) for book in used] == [{"community": "2"}, {"community": "2"}]


async def test_a_topic_that_cannot_be_read_any_more_ends_the_following() -> None:
    class Broken(Topic):
        def read(self) -> tuple[Sequence[Record], bool]:
            if self.read_batches:
                raise StreamStopped("no right to read")
            return super().read()

    one = follower(Broken([published("community", None, "1")]))
    one.load()
    with pytest.raises(StreamStopped, match="no right"):
        await one.follow()
