"""Poison, and the broker's time, on a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.dead_letter import read_dead_letter
from schemas.keys import record_key
from tests.integration.worker.harness import SOON_MISSED, Topics, event, make_topics
from tests.waiting import wait_for
from workers.adapters.embedded_addresses import Addresses
from workers.adapters.kafka_outcomes import KafkaOutcomes
from workers.ports import Publication
from workers.settings import KafkaSettings
from workers.stream.broker_clock import BrokerClock

HOOKS = {"RSAFE_TEST_HOOKS": "messages-may-break-the-guard", "RSAFE_GUARD__SCRIPTED_DELAY_MS": "50"}
HOUR_MS = 3_600_000.0


def put(topics: Topics, *texts: str) -> None:
    values = [event(f"e-{n}", "tenant", f"c-{n}", text) for n, text in enumerate(texts)]
    topics.produce(values, [record_key("tenant", f"c-{n}") for n in range(len(texts))])


def ask(topics: Topics, event_id: str, text: str, policy: str) -> None:
    topics.produce(
        [event(event_id, "tenant", f"c-{event_id}", f"{text} {event_id} {topics.name}", policy=policy)],
        [record_key("tenant", f"c-{event_id}")],
    )


def notes(topics: Topics) -> set[str]:
    """What stands beside the commits of the group."""
    consumer = Consumer({"bootstrap.servers": topics.bootstrap, "group.id": topics.name})
    try:
        places = [TopicPartition(f"{topics.name}.events", n) for n in range(topics.partitions)]
        return {place.metadata or "" for place in consumer.committed(places, 10)}
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("fault", "delivery"), [("kill", "at-least-once"), ("kill", "exactly-once"), ("hang", "at-least-once")]
)
def test_the_message_that_ends_the_guard_is_found_and_the_others_are_judged(
    topics: Topics, fault: str, delivery: str
) -> None:
    put(topics, *(f"hello {topics.name} {n}" for n in range(4)), f"[[rsafe-fault {fault}]] {topics.name}")
    worker = topics.start(**HOOKS, RSAFE_KAFKA__DELIVERY=delivery, RSAFE_GUARD__HANG_TIMEOUT_MS="2000")
    wait_for(lambda: topics.committed() == 5, "everything committed")
    (letter,) = [read_dead_letter(record.headers()) for record in topics.records("dead")]
    assert letter.reason == "poisoned"
    assert {decision.status for decision in topics.decisions()} == {"judged"}
    wait_for(lambda: notes(topics) == {""}, "the notes cleared")
    assert worker.stop() == 0


AWAY = (503, "the guard is not ready\n")
READY = (200, "ready\n")
DEATHS = 5
ACTIONS = ["review", "allow", "block"]
POLICY = """
id: {id}
version: "1"
title: What happens while the guard is away
on_unavailable: {id}
on_unjudged: {unjudged}
categories:
  - {{code: X1, title: Rivals, definition: acme; globex, action: flag}}
"""


def test_while_the_guard_is_away_each_policy_says_what_happens_and_readiness_says_why(topics: Topics) -> None:
    folder = topics.folder / "policies"
    folder.mkdir()
    # Another word for what gets no verdict, so that it is seen which of the two decides.
    for name, unjudged in zip(["hold", *ACTIONS], ["allow", "block", "review", "allow"], strict=True):
        (folder / f"{name}.yaml").write_text(POLICY.format(id=name, unjudged=unjudged))
    worker = topics.start(**HOOKS, RSAFE_POLICIES__PATH=str(folder), RSAFE_POLICIES__DEFAULT="hold")
    wait_for(lambda: worker.answer("/health/ready") == READY, "readiness")
    # Each death so soon after the last is followed by a longer pause: at once, 1, 2, 4 and 8 s.
    for number in range(DEATHS):
        wait_for(lambda: worker.answer("/health/ready") == READY, "the guard to be back")
        ask(topics, f"deadly-{number}", "[[rsafe-fault kill]]", "review")
        topics.wait_decided(number + 1)
    assert worker.answer("/health/ready") == AWAY
    for action in ACTIONS:
        ask(topics, action, "hello", action)
    wait_for(
        lambda: topics.committed() == DEATHS + len(ACTIONS), "what does not wait for the guard, committed"
    )
    ask(topics, "hold", "hello", "hold")
    assert worker.answer("/health/ready") == AWAY
    wait_for(lambda: worker.answer("/health/ready") == READY, "readiness to come back")
    wait_for(lambda: topics.committed() == DEATHS + len(ACTIONS) + 1, "what waited for the guard, committed")
    decided = {decision.event_id: decision for decision in topics.decisions()}
    for action in ACTIONS:
        found = decided[action]
        assert (found.status, found.reason, found.action) == ("unjudged", "unavailable", action)
        assert found.guard is None
    assert [decided[f"deadly-{number}"].reason for number in range(DEATHS)] == ["unavailable"] * DEATHS
    assert decided["hold"].status == "judged"
    assert topics.count("dead") == 0
    assert worker.stop() == 0


def test_the_death_of_a_worker_counts_when_a_message_was_alone(topics: Topics) -> None:
    put(topics, f"[[rsafe-fault slow:600s]] {topics.name}")
    suspect(topics)
    for marker in ("1;0!", "1;0.1!"):
        worker = topics.start(**HOOKS, **SOON_MISSED)
        wait_for(lambda marker=marker: marker in notes(topics), "the marker")  # type: ignore[misc]
        worker.kill()
    last = topics.start(**HOOKS, **SOON_MISSED)
    wait_for(lambda: topics.committed() == 1, "the dead letter")
    assert last.stop() == 0
    (letter,) = [read_dead_letter(record.headers()) for record in topics.records("dead")]
    assert letter.reason == "poisoned"


def suspect(topics: Topics) -> None:
    """As if a worker had noted the guard's death with the first message of each partition in it."""
    consumer = Consumer({"bootstrap.servers": topics.bootstrap, "group.id": topics.name})
    try:
        places = [TopicPartition(f"{topics.name}.events", n, 0, "1;0") for n in range(topics.partitions)]
        consumer.commit(offsets=places, asynchronous=False)
    finally:
        consumer.close()


@pytest.mark.parametrize("hours", [-1.0, 1.0])
async def test_an_acknowledged_outcome_sets_a_wrong_clock_right(
    local_stack: Addresses, fresh_name: Callable[[str], str], hours: float
) -> None:
    clock = BrokerClock(lambda: time.time() * 1000 + hours * HOUR_MS, time.monotonic)
    await publish(local_stack.bootstrap_servers, fresh_name("stamped"), clock, "LogAppendTime")
    assert clock.sure
    # The broker runs on this machine.
    assert abs(clock.now_ms() - time.time() * 1000) < HOUR_MS / 100  # as long as the answer may have taken


async def test_a_topic_with_the_producers_time_leaves_the_clock_as_it_is(
    local_stack: Addresses, fresh_name: Callable[[str], str]
) -> None:
    clock = BrokerClock(lambda: time.time() * 1000 + HOUR_MS, time.monotonic)
    await publish(local_stack.bootstrap_servers, fresh_name("unstamped"), clock, "CreateTime")
    assert clock.sure
    assert abs(clock.now_ms() - time.time() * 1000 - HOUR_MS) < HOUR_MS / 100


async def publish(bootstrap: str, topic: str, clock: BrokerClock, timestamps: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    make_topics(admin, [NewTopic(topic, 1, 1, config={"message.timestamp.type": timestamps})])
    outcomes = KafkaOutcomes(
        KafkaSettings(bootstrap_servers=bootstrap),
        source=None,  # type: ignore[arg-type]
        clock=clock,
    )
    outcomes.publish("ticket", Publication(topic, b"k", b"v", [], b"k"))
    await outcomes.flush(30)
    assert outcomes.collect() == (["ticket"], [])
    outcomes.close()
