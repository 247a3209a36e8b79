"""The worker with each way of delivery and of forming a group, killed and restarted."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas.dead_letter import read_dead_letter
from schemas.decision import Decision
from tests.integration.worker.harness import DECODER, SOON_MISSED, Topics, events, order_inversions
from tests.integration.worker.test_kafka_adapters import seen
from tests.waiting import PATIENCE_S, wait_for

EXACTLY_ONCE = {"RSAFE_KAFKA__DELIVERY": "exactly-once"}
CONSUMER_PROTOCOL = {"RSAFE_KAFKA__GROUP_PROTOCOL": "consumer"}
SLOW = {"RSAFE_GUARD__SCRIPTED_DELAY_MS": "20", "RSAFE_GUARD__MAX_CONCURRENCY": "8"}


def decided(topics: Topics) -> list[Decision]:
    return [DECODER.decode(value) for value in seen(topics, "decisions")]


def reached(topics: Topics, count: int) -> bool:
    return topics.committed() >= count


def assert_each_once(topics: Topics, count: int) -> None:
    decisions = decided(topics)
    assert len(decisions) == count
    assert {decision.event_id for decision in decisions} == {f"event-{number}" for number in range(count)}
    assert order_inversions(decisions) == 0


@pytest.mark.parametrize("identity", [{}, {"RSAFE_KAFKA__GROUP_INSTANCE_ID": "worker-0"}])
def test_exactly_once_shows_each_decision_once_though_the_worker_is_killed(
    topics: Topics, identity: dict[str, str]
) -> None:
    values, keys = events(900, topics.name, texts=900)
    topics.produce(values, keys)
    for target in (150, 450):
        worker = topics.start(**EXACTLY_ONCE, **SLOW, **SOON_MISSED, **identity)
        wait_for(partial(reached, topics, target), f"{target} to be committed")
        worker.kill()
    last = topics.start(**EXACTLY_ONCE, **SOON_MISSED, **identity)
    wait_for(lambda: topics.committed() == 900, "everything committed")
    assert last.stop() == 0
    assert_each_once(topics, 900)


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_worker_joins_and_leaves_without_a_double(topics: Topics, delivery: str, protocol: str) -> None:
    values, keys = events(900, topics.name, conversations=23, texts=900)
    topics.produce(values[:450], keys[:450])
    options = {
        "RSAFE_KAFKA__DELIVERY": delivery,
        "RSAFE_KAFKA__GROUP_PROTOCOL": protocol,
        **SLOW,
    }
    first = topics.start(**options)
    wait_for(lambda: topics.committed() >= 50, "the first to work")
    second = topics.start(**options)
    wait_for(lambda: second.partitions() and len(first.partitions() or []) < 3, "both to have partitions")
    topics.produce(values[450:], keys[450:])
    wait_for(lambda: topics.committed() >= 500, "both to work")
    assert first.stop() == 0
    wait_for(lambda: topics.committed() == 900, "everything committed")
    assert second.stop() == 0
    assert_each_once(topics, 900)


def test_in_a_transaction_a_decision_too_large_for_its_topic_becomes_a_dead_letter(topics: Topics) -> None:
    from tests.integration.worker.test_worker import big_message

    names = [secrets.token_urlsafe(190) for _ in range(4)]  # such as no compression makes small
    topics.produce([big_event(names, big_message(names))], [b"k"])
    values, keys = events(30, topics.name)
    topics.produce(values, keys)
    topics.limit("decisions", 2_600)
    worker = topics.start(**EXACTLY_ONCE)
    wait_for(lambda: topics.committed() == 31, "everything committed")
    assert worker.stop() == 0
    assert len(seen(topics, "dead")) == 1
    assert_each_once(topics, 30)


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_a_record_that_is_too_large_for_the_dead_letters_is_named_without_its_bytes(
    topics: Topics, delivery: str
) -> None:
    """Topics count compressed bytes, and the sender's compression may be far better than the worker's."""
    topics.limit("events", 100_000)
    topics.limit("dead", 120_000)
    # What repeats is further away than lz4 looks; no JSON begins so.
    block = b"\xff" + secrets.token_bytes(79_999)
    sender = Producer({"bootstrap.servers": topics.bootstrap, "compression.type": "zstd"})
    sender.produce(f"{topics.name}.events", block * 8, b"k", headers={"from": b"sender"}, partition=1)
    assert sender.flush(30) == 0
    values, keys = events(30, topics.name)
    topics.produce(values, keys)
    worker = topics.start(RSAFE_KAFKA__DELIVERY=delivery)
    wait_for(lambda: topics.committed() == 31, "everything committed")
    assert worker.stop() == 0
    (letter,) = topics.records("dead")
    told = read_dead_letter(letter.headers())
    assert (letter.key(), letter.value()) == (b"k", None)
    assert (told.reason, told.partition, told.offset) == ("undecodable", 1, 0)
    assert 640_000 < told.left_out_bytes < 641_000
    assert "from" not in dict(letter.headers())
    assert_each_once(topics, 30)


def big_event(names: list[str], message: dict[str, Any]) -> bytes:
    from tests.integration.worker.harness import event

    return event(names[0], names[1], names[2], "a big one", message=message)


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_an_output_topic_that_is_deleted_stops_the_worker_and_is_named(topics: Topics, delivery: str) -> None:
    values, keys = events(2_000, topics.name, texts=2_000)
    topics.produce(values[:100], keys[:100])
    worker = topics.start(RSAFE_KAFKA__DELIVERY=delivery)
    wait_for(lambda: topics.committed() == 100, "the worker to work")
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    admin.delete_topics([f"{topics.name}.decisions"])[f"{topics.name}.decisions"].result()
    topics.produce(values[100:], keys[100:])
    assert worker.process.wait(PATIENCE_S) == 4
    assert f"topic {topics.name}.decisions is gone" in worker.log.read_text().splitlines()[-1]
    assert topics.committed() == 100
