"""Whether a group has done all that stands on its topics."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.waiting import patiently, wait_for
from workers.adapters.admin import WantedTopic, create_topics
from workers.adapters.embedded_addresses import Addresses
from workers.adapters.group_progress import Progress, all_done, group_progress
from workers.adapters.kafka_options import client_options
from workers.settings import KafkaSettings


def commit(bootstrap: str, group: str, topic: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        place = TopicPartition(topic, 0, offset)
        patiently(lambda: consumer.commit(offsets=[place], asynchronous=False))
    finally:
        consumer.close()


def test_a_group_is_done_when_it_committed_every_record(
    local_stack: Addresses, fresh_name: Callable[[str], str]
) -> None:
    bootstrap, name = local_stack.bootstrap_servers, fresh_name("progress")
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    create_topics(client_options(kafka), [WantedTopic(name, 2, 1, {})], timeout_s=30)

    def done() -> bool:
        return all_done(group_progress(kafka, name, [name]))

    assert wait_for(done, "the coordinator of a new group")  # nothing to do
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in (b"one", b"two"):
        producer.produce(name, value, partition=0)
    assert producer.flush(30) == 0
    assert group_progress(kafka, name, [name]) == {(name, 0): Progress(0, 2), (name, 1): Progress(0, 0)}
    assert not done()
    commit(bootstrap, name, name, 1)
    assert not done()
    commit(bootstrap, name, name, 2)
    assert done()


def test_nothing_is_said_of_a_topic_that_is_absent(
    local_stack: Addresses, fresh_name: Callable[[str], str]
) -> None:
    kafka = KafkaSettings(bootstrap_servers=local_stack.bootstrap_servers)
    assert group_progress(kafka, "g", [fresh_name("absent")]) is None
    assert not all_done(None)
