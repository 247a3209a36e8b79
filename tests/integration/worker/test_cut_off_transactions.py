"""A broker is killed while a transaction sends its offsets: a call of the client that may never return.

Not the broker of the other tests: this one is killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.conftest import require
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_server import ServerProcess
from workers.adapters.kafka_transactions import make_transactor
from workers.adapters.kafka_transactor import Job, Outgoing, Transactor
from workers.errors import StartError
from workers.ports import Publication, Record
from workers.settings import KafkaSettings

EVENTS, DECISIONS, ROUNDS = "events", "decisions", 2


@pytest.fixture
def broker() -> Iterator[ServerProcess]:
    stack = LocalStack(ephemeral=True)
    try:
        stack.start()
    except StartError as error:
        require(False, str(error))
    try:
        yield stack.kafka
    finally:
        stack.stop()


def cut_off_while_sending_offsets(transactor: Transactor, broker: ServerProcess) -> None:
    """Of the next transaction only."""
    send = transactor._send_offsets

    def cut_off(producer: Any, job: Job) -> None:
        transactor._send_offsets = send  # type: ignore[method-assign]
        producer.flush(10)
        thread = threading.Thread(target=broker.restart)
        broker.kill()
        thread.start()
        try:
            send(producer, job)
        finally:
            thread.join()

    transactor._send_offsets = cut_off  # type: ignore[method-assign]


def test_each_outcome_is_committed_once_whatever_becomes_of_the_call(broker: ServerProcess) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker.address)
    with AdminClient({"bootstrap.servers": broker.address}) as admin:
        for future in admin.create_topics([NewTopic(name, 1, 1) for name in (EVENTS, DECISIONS)]).values():
            future.result(10)
    member = Consumer({"bootstrap.servers": broker.address, "group.id": kafka.group_id})
    member.subscribe([EVENTS])
    until = time.monotonic() + 30
    while not member.assignment() and time.monotonic() < until:
        member.poll(0.1)
    transactor = make_transactor(kafka, "cut-off", None)
    try:
        for number in range(ROUNDS):
            cut_off_while_sending_offsets(transactor, broker)
            committed = False
            until = time.monotonic() + 60
            while not committed and time.monotonic() < until:
                member.poll(0.1)
                committed = transactor.run(job(number, member)).committed
            assert committed
    finally:
        transactor.close()
        member.close()
    assert committed_outcomes(broker.address) == [b"%d" % number for number in range(ROUNDS)]


def job(number: int, member: Consumer) -> Job:
    record = Record(EVENTS, 0, number, b"k", b"v", None, 0)
    outcome = Outgoing(number, Publication(DECISIONS, b"k", b"%d" % number, [], b"k"), record)
    places = [TopicPartition(EVENTS, 0, number + 1)]
    return Job([outcome], places, frozenset({0}), member.consumer_group_metadata())


def committed_outcomes(address: str) -> list[bytes]:
    reader = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    reader.assign([TopicPartition(DECISIONS, 0, 0)])
    found: list[bytes] = []
    try:
        while (message := reader.poll(30)) is not None:
            if (error := message.error()) is None:
                found.append(message.value() or b"")
            elif error.code() == KafkaError._PARTITION_EOF:
                return found
    finally:
        reader.close()
    raise AssertionError("the end of the decisions was not reached")
