from __future__ import annotations

import json
import re
import secrets
import socket
from collections import Counter

import pytest

from schemas.dead_letter import read_dead_letter
from schemas.decision import Decision
from schemas.keys import record_key
from tests.integration.worker.harness import SOON_MISSED, Topics, event, events, order_inversions
from tests.waiting import PATIENCE_S, wait_for

STABLE_FIELDS = [
    name
    for name in Decision.__struct_fields__
    if name not in ("score", "raw_score", "cache", "timings", "tokens", "steps", "trace_id", "categories")
]


def assert_complete(topics: Topics, count: int) -> list[Decision]:
    """Every event has a decision, duplicates agree, and conversations are in order."""
    decisions = topics.decisions()
    by_id: dict[str, Decision] = {}
    for decision in decisions:
        first = by_id.setdefault(decision.decision_id, decision)
        assert [getattr(first, name) for name in STABLE_FIELDS] == [
            getattr(decision, name) for name in STABLE_FIELDS
        ]
    assert {decision.event_id for decision in decisions} == {f"event-{number}" for number in range(count)}
    assert len(by_id) == count
    assert order_inversions(decisions) == 0
    return decisions


def test_events_become_decisions_and_sigterm_leaves_no_duplicates(topics: Topics) -> None:
    values, keys = events(600, topics.name)
    topics.produce(values[:300], keys[:300])
    first = topics.start()
    topics.wait_decided(50)
    assert first.stop() == 0
    done = topics.count("decisions")
    assert topics.committed() == done
    topics.produce(values[300:], keys[300:])
    second = topics.start()
    topics.wait_decided(600)
    assert second.stop() == 0
    decisions = assert_complete(topics, 600)
    assert len(decisions) == 600
    assert topics.committed() == 600
    # 40 texts, each of one tenant: more judgements than that would mean that neither Redis nor sharing works.
    assert Counter(decision.cache.hit for decision in decisions)[False] == 40
    text = (topics.folder / "worker-0.log").read_text() + (topics.folder / "worker-1.log").read_text()
    assert "message text" not in text
    assert not any(b"message text" in record.value() for record in topics.records("decisions"))


def test_kill_and_restart_lose_nothing_and_repeat_the_same_decisions(topics: Topics) -> None:
    values, keys = events(900, topics.name, texts=900)
    topics.produce(values, keys)
    for target in (100, 400):
        worker = topics.start(
            **SOON_MISSED, RSAFE_GUARD__SCRIPTED_DELAY_MS="20", RSAFE_GUARD__MAX_CONCURRENCY="8"
        )
        topics.wait_decided(target)
        worker.kill()
    topics.start(**SOON_MISSED)
    wait_for(lambda: topics.committed() == 900, "everything committed")
    assert_complete(topics, 900)


ADAPTIVE = """
id: adaptive
version: "1"
mode: adaptive
uncertain_band: {low: 0.3, high: 0.5}
categories:
  - {code: X1, title: Rivals, definition: acme; globex}
"""


def test_an_adaptive_policy_goes_both_ways_and_says_so(topics: Topics) -> None:
    folder = topics.folder / "policies"
    folder.mkdir()
    (folder / "adaptive.yaml").write_text(ADAPTIVE)
    policies = {"RSAFE_POLICIES__PATH": str(folder), "RSAFE_POLICIES__DEFAULT": "adaptive"}
    worker = topics.start(**policies)
    topics.produce(*events(120, topics.name))
    topics.wait_decided(120)
    shown = worker.get("/metrics")
    assert worker.stop() == 0
    decisions = assert_complete(topics, 120)
    by_text: dict[str, set[str | None]] = {}
    for decision in decisions:
        by_text.setdefault(decision.content_mac, set()).add(decision.answered_in)
        steps = [step.mode for step in decision.steps]
        if decision.cache.hit:
            assert steps == []
        else:
            assert steps == (["fast"] if decision.answered_in == "fast" else ["fast", "think"])
    assert all(len(ways) == 1 for ways in by_text.values())
    assert set.union(*by_text.values()) == {"fast", "think"}
    for way in ("fast", "think"):
        asked = sum(not one.cache.hit and one.answered_in == way for one in decisions)
        assert f'rsafe_guard_verdicts_total{{answered_in="{way}",mode="adaptive"}} {asked}.0' in shown
    (folder / "adaptive.yaml").write_text(ADAPTIVE.replace("uncertain_band", "# uncertain_band"))
    assert topics.start(**policies).process.wait(PATIENCE_S) == 2
    assert "policy 'adaptive': mode: `adaptive` needs" in topics.workers[-1].log.read_text().splitlines()[-1]


def test_two_workers_share_and_take_over(topics: Topics) -> None:
    values, keys = events(1200, topics.name, conversations=23, texts=1200)
    topics.produce(values[:400], keys[:400])
    slow = {"RSAFE_GUARD__SCRIPTED_DELAY_MS": "20", "RSAFE_GUARD__MAX_CONCURRENCY": "8"}
    first = topics.start(**slow)
    topics.wait_decided(50)
    second = topics.start(**slow)
    wait_for(lambda: second.partitions() and len(first.partitions() or []) < 3, "both to have partitions")
    topics.produce(values[400:800], keys[400:800])
    topics.wait_decided(500)
    assert first.stop() == 0
    topics.produce(values[800:], keys[800:])
    wait_for(lambda: topics.committed() == 1200, "everything committed")
    # A join and a clean leave repeat nothing: what was in flight is finished before partitions go.
    assert len(assert_complete(topics, 1200)) == 1200


def test_what_is_no_event_becomes_a_dead_letter_untouched(topics: Topics) -> None:
    poison: list[tuple[bytes, str]] = [
        (b"", "empty"),
        (b"\xff\xfe\x00", "undecodable"),
        (b"[" * 100_000, "invalid"),
        (b'{"a":' * 100_000, "undecodable"),
        (b'{"event_id": 7}', "invalid"),
        (json.dumps({"event_id": "x", "tenant": "t", "conversation_id": "c"}).encode(), "invalid"),
        (event("long", "t", "c", "x" * 40_000), "over_limit"),
        (event("unknown", "t", "c", "hello", policy="no-such-policy"), "unknown_policy"),
    ]
    values, keys = events(20, topics.name)
    headers = [("trace", b"\x00\xff"), ("trace", b"again"), ("none", None)]
    topics.produce([value for value, _ in poison], [b"key"] * len(poison), headers)
    topics.produce(values, keys)
    topics.start()
    wait_for(lambda: topics.committed() == 20 + len(poison), "everything committed")
    assert_complete(topics, 20)
    letters = topics.records("dead")
    expected = Counter(poison)
    found = Counter[tuple[bytes, str]]()
    for letter in letters:
        assert letter.key() == b"key"
        assert letter.headers()[:3] == headers
        reason = read_dead_letter(letter.headers())
        assert reason.topic == f"{topics.name}.events"
        found[letter.value() or b"", reason.reason] += 1
    assert found == expected


def test_a_slow_message_does_not_let_its_conversation_overtake(topics: Topics) -> None:
    """Remembered texts stand behind new ones of the same conversation, and wait for them."""
    known = [
        event(f"warm-{number}", "t", f"w-{number}", f"known text {number} {topics.name}")
        for number in range(5)
    ]
    topics.produce(known, [record_key("t", f"w-{number}") for number in range(5)])
    worker = topics.start(RSAFE_GUARD__SCRIPTED_DELAY_MS="300")
    topics.wait_decided(5)
    values = [
        event(
            f"e-{number}",
            "t",
            "one",
            f"known text {number % 5} {topics.name}" if number % 2 else f"new text {number} {topics.name}",
        )
        for number in range(40)
    ]
    topics.produce(values, [record_key("t", "one")] * 40)
    topics.wait_decided(45)
    assert worker.stop() == 0
    decisions = [decision for decision in topics.decisions() if decision.conversation_id == "one"]
    assert [decision.event_id for decision in decisions] == [f"e-{number}" for number in range(40)]
    assert sum(decision.cache.hit for decision in decisions) == 20


def test_without_redis_everything_is_judged(topics: Topics) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        topics.redis_url = f"redis://127.0.0.1:{unused.getsockname()[1]}/0"
        values, keys = events(100, topics.name)
        topics.produce(values, keys)
        worker = topics.start()
        topics.wait_decided(100)
        assert worker.stop() == 0
    assert_complete(topics, 100)
    assert worker.said("Redis does not answer; the worker runs without it and tries again now and then.")


def test_health_and_metrics_say_what_happens(topics: Topics) -> None:
    values, keys = events(50, topics.name)
    topics.produce(values, keys)
    worker = topics.start()
    topics.wait_decided(50)
    assert worker.get("/health/live") == "live\n"
    assert worker.get("/health/ready") == "ready\n"
    # The age is counted when the broker has said that it has the decision, which may be after we read it.
    wait_for(
        lambda: "rsafe_verdict_age_seconds_count 50.0" in worker.get("/metrics"), "an age for each decision"
    )
    metrics = worker.get("/metrics")
    assert 'rsafe_dead_letters_total{reason="empty"} 0.0' in metrics
    assert "rsafe_assigned_partitions 3.0" in metrics
    assert "rsafe_decision_seconds_count 50.0" in metrics
    assert "rsafe_policy_set_info{" in metrics
    assert 'engine="scripted"' in metrics
    wait_for(
        lambda: (
            worker.get("/metrics").count('rsafe_lag_records{partition="') == 3
            and not re.search(r"rsafe_lag_records\{.*\} [1-9]", worker.get("/metrics"))
        ),
        "the lag of all partitions to be known, and nothing",
    )


def test_deadline_and_trace_context_are_understood(topics: Topics) -> None:
    traceparent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = [("ce_id", b"cloud-1"), ("traceparent", traceparent)]
    topics.produce([event("late", "t", "c", "late text", deadline_ms=1)], [b"k"], headers)
    topics.start()
    topics.wait_decided(1)
    (record,) = topics.records("decisions")
    (decision,) = topics.decisions()
    assert (decision.status, decision.reason, decision.action) == ("unjudged", "late", "review")
    assert decision.trace_id == "0af7651916cd43dd8448eb211c80319c"
    found = dict(record.headers())
    assert found["ce_causationid"] == b"cloud-1"
    assert found["ce_id"] == decision.decision_id.encode()
    assert found["traceparent"] == traceparent
    assert record.key() == record_key("t", "c")


def test_a_decision_too_large_for_its_topic_becomes_a_dead_letter(topics: Topics) -> None:
    # Incompressible names in every field that a decision takes over: about 1,300 bytes more than the others.
    names = [secrets.token_urlsafe(190) for _ in range(4)]
    big = event(names[0], names[1], names[2], "a big one", message=big_message(names))
    topics.produce([big], [b"k"])
    values, keys = events(30, topics.name)
    topics.produce(values, keys)
    # Below the size of two decisions: a batch must not drag others along that would fit alone.
    topics.limit("decisions", 2_600)
    topics.start()
    wait_for(lambda: topics.committed() == 31, "everything committed")
    (letter,) = topics.records("dead")
    assert read_dead_letter(letter.headers()).reason == "undeliverable"
    assert letter.value() == big
    assert_complete(topics, 30)


def big_message(names: list[str]) -> dict[str, str]:
    return {
        "id": names[3],
        "role": "user",
        "author": names[0],
        "text": "big",
        "sent_at": "2026-01-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"RSAFE_KAFKA__DECISIONS_TOPIC": "absent"}, 3, ["absent", "rsafe topics create"]),
        (
            {"RSAFE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "RSAFE_KAFKA__START_TIMEOUT_S": "2"},
            3,
            ["RSAFE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"],
        ),
        ({"RSAFE_GUARD__CHECKPOINT": "nowhere"}, 3, ["nowhere"]),
        ({"RSAFE_KAFKA__MIN_PARTITIONS": "4"}, 3, ["RSAFE_KAFKA__MIN_PARTITIONS", "3 partitions"]),
        ({"RSAFE_GUARD__ENGINE": "remote"}, 2, ["RSAFE_GUARD__ENDPOINTS"]),
        ({"RSAFE_POLICIES__PATH": "nowhere"}, 2, ["RSAFE_POLICIES__PATH"]),
        ({"RSAFE_REDIS__URL": "http://secret@host"}, 2, ["RSAFE_REDIS__URL"]),
    ],
)
def test_what_is_wrong_at_the_start_is_said_in_one_sentence(
    topics: Topics, changes: dict[str, str], code: int, words: list[str]
) -> None:
    worker = topics.start(**changes)
    assert worker.process.wait(PATIENCE_S) == code
    text = worker.log.read_text()
    assert "Traceback" not in text
    assert "secret" not in text
    last = text.splitlines()[-1]
    for word in words:
        assert word in last


def test_a_port_in_use_is_named(topics: Topics) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        worker = topics.start(RSAFE_HEALTH__PORT=port)
        assert worker.process.wait(PATIENCE_S) == 3
    assert f"RSAFE_HEALTH__PORT: 127.0.0.1:{port}" in worker.log.read_text()
