"""Poison, and the broker's time, on a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.dead_letter import read_dead_letter
from schemas.keys import record_key
from tests.integration.worker.harness import Topics, event, wait_for
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


def notes(topics: Topics) -> set[str]:
    """What stands beside the commits of the group."""
    consumer = Consumer({"bootstrap.servers": topics.bootstrap, "group.id": topics.name})
    try:
        places = [TopicPartition(f"{topics.name}.events", n) for n in range(topics.partitions)]
        return {place.metadata or "" for place in consumer.committed(places, 10)}
    finally:
        consumer.close()


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_the_message_that_ends_the_guard_is_found_and_the_others_are_judged(
    topics: Topics, delivery: str
) -> None:
    put(topics, *(f"hello {topics.name} {n}" for n in range(4)), f"[[rsafe-fault kill]] {topics.name}")
    worker = topics.start(**HOOKS, RSAFE_KAFKA__DELIVERY=delivery)
    wait_for(lambda: topics.committed() == 5, "everything committed")
    (letter,) = [read_dead_letter(record.headers()) for record in topics.records("dead")]
    assert letter.reason == "poisoned"
    assert {decision.status for decision in topics.decisions()} == {"judged"}
    wait_for(lambda: notes(topics) == {""}, "the notes cleared")
    assert worker.stop() == 0


def test_the_death_of_a_worker_counts_when_a_message_was_alone(topics: Topics) -> None:
    put(topics, f"[[rsafe-fault slow:600s]] {topics.name}")
    suspect(topics)
    for marker in ("1;0!", "1;0.1!"):
        worker = topics.start(**HOOKS)
        wait_for(lambda marker=marker: marker in notes(topics), "the marker")  # type: ignore[misc]
        worker.kill()
    last = topics.start(**HOOKS)
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
    assert abs(clock.now_ms() - time.time() * 1000) < 1000


async def test_a_topic_with_the_producers_time_leaves_the_clock_as_it_is(
    local_stack: Addresses, fresh_name: Callable[[str], str]
) -> None:
    clock = BrokerClock(lambda: time.time() * 1000 + HOUR_MS, time.monotonic)
    await publish(local_stack.bootstrap_servers, fresh_name("unstamped"), clock, "CreateTime")
    assert clock.sure
    assert abs(clock.now_ms() - time.time() * 1000 - HOUR_MS) < 1000


async def publish(bootstrap: str, topic: str, clock: BrokerClock, timestamps: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    (made,) = admin.create_topics(
        [NewTopic(topic, 1, 1, config={"message.timestamp.type": timestamps})]
    ).values()
    made.result()
    outcomes = KafkaOutcomes(
        KafkaSettings(bootstrap_servers=bootstrap),
        source=None,  # type: ignore[arg-type]
        clock=clock,
    )
    outcomes.publish("ticket", Publication(topic, b"k", b"v", [], b"k"))
    await outcomes.flush(30)
    assert outcomes.collect() == (["ticket"], [])
    outcomes.close()
