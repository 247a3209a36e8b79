"""What `rsafe load` does with Kafka: sends events as fast as it is told, and takes in outcomes as they come.

Lean, because both share one core: no object for a record, and nothing waits for a batch to fill.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
)
from confluent_kafka import TopicPartition as Place

from schemas.keys import PARTITIONER
from workers.adapters.kafka_options import Option
from workers.adapters.topics_io import OF_NO_GROUP, headers_of, partitions_of, quiet_logger
from workers.errors import StreamStopped, UsageError

# Events that wait for delivery: a second or two of the fastest sending, and some 50 MB of short texts.
MAX_QUEUED: Final = 50_000
# A client that wants an answer soon does not wait longer for a batch to fill, in ms.
LINGER_MS: Final = 1
# Most outcomes that are taken together; while they are decoded nothing else is.
_BATCH: Final = 1_000


class EventSender:
    """Sends events to one topic.

    Raises `StartError` when the broker does not answer within `timeout_s` or has no such topic.
    """

    def __init__(
        self, options: Mapping[str, Option], topic: str, *, timeout_s: float, delivery_timeout_ms: int
    ) -> None:
        self._topic = topic
        self._delivery_timeout_s = delivery_timeout_ms / 1000
        self._producer = Producer(
            {
                **options,
                "partitioner": PARTITIONER,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": LINGER_MS,
                "delivery.timeout.ms": delivery_timeout_ms,
                "queue.buffering.max.messages": MAX_QUEUED,
                "logger": quiet_logger(),
            }
        )
        partitions_of(self._producer, topic, options, timeout_s)
        self.acknowledged = 0
        """Events so far."""
        self.stamped: bool | None = None
        """Whether the broker stamps events with its own time; None before the first is acknowledged."""
        self._failure = ""

    def send(self, key: bytes, value: bytes) -> bool:
        """Queue an event; False when the queue is full. Raises `StreamStopped` and `UsageError`."""
        try:
            self._producer.produce(self._topic, value, key, on_delivery=self._delivered)
        except BufferError:
            return False
        except KafkaException as error:
            raise UsageError(f"{self._topic}: {error.args[0].str()} ({len(value)} bytes)") from error
        return True

    def serve(self, wait_s: float = 0) -> None:
        """Take in acknowledgements, the first of them for so long. Raises `StreamStopped`."""
        self._producer.poll(wait_s)
        if self._failure:
            raise StreamStopped(f"{self._topic}: an event was not delivered: {self._failure}")

    def finish(self) -> None:
        """Wait until all are acknowledged. Raises `StreamStopped` when one was not delivered."""
        waiting = self._producer.flush(self._delivery_timeout_s + 1)
        self.serve()
        if waiting:
            raise StreamStopped(f"{self._topic}: {waiting} events were not acknowledged in time")

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failure = self._failure or error.str()
            return
        self.acknowledged += 1
        if self.stamped is None:
            self.stamped = message.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME


class Arrival(NamedTuple):
    """A record of an outcomes topic."""

    value: bytes | None
    stamp_ms: float
    """The broker's time of it in Unix milliseconds; nan where the topic keeps the sender's."""
    headers: list[tuple[str, bytes | None]] | None
    """Of a dead letter; None for a decision."""


class OutcomeReader:
    """Reads decisions and dead letters from where their topics end now. Joins no group, commits nothing.

    Raises `StartError` and `StreamStopped`.
    """

    def __init__(
        self, options: Mapping[str, Option], decisions: str, dead_letters: str, *, timeout_s: float
    ) -> None:
        self._decisions = decisions
        self._consumer: Any = Consumer(
            {
                **options,
                # Assigned readers join no group. librdkafka wants a name nevertheless.
                "group.id": "rsafe-load",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                # A decision can be acted on when its transaction is committed.
                "isolation.level": "read_committed",
                "logger": quiet_logger(),
            }
        )
        try:
            self._consumer.assign(
                [
                    # As a number: an end that the client looks up later may lie behind the first outcomes.
                    Place(topic, number, self._end(topic, number, timeout_s))
                    for topic in (decisions, dead_letters)
                    for number in partitions_of(self._consumer, topic, options, timeout_s)
                ]
            )
        except BaseException:
            self._consumer.close()
            raise

    def take(self, wait_s: float) -> Sequence[Arrival]:
        """What has come; waits so long for the first record, and for no other."""
        first = self._consumer.poll(wait_s)
        if first is None:
            return ()
        # With a time-out it would wait until the batch is full.
        found = (first, *self._consumer.consume(_BATCH, 0))
        return [self._arrival(message) for message in found if not _of_no_group(message)]

    def close(self) -> None:
        self._consumer.close()

    def _end(self, topic: str, partition: int, timeout_s: float) -> int:
        try:
            _, end = self._consumer.get_watermark_offsets(Place(topic, partition), timeout=timeout_s)
        except KafkaException as error:
            raise StreamStopped(f"reading {topic}: {error.args[0].str()}") from error
        return int(end)

    def _arrival(self, message: Any) -> Arrival:
        error: KafkaError | None = message.error()
        if error is not None:
            raise StreamStopped(f"reading outcomes: {error.str()}")
        kind, stamp_ms = message.timestamp()
        stamp = float(stamp_ms) if kind == TIMESTAMP_LOG_APPEND_TIME else math.nan
        if message.topic() == self._decisions:
            return Arrival(message.value(), stamp, None)
        return Arrival(message.value(), stamp, headers_of(message))


def _of_no_group(message: Any) -> bool:
    error: KafkaError | None = message.error()
    return error is not None and error.code() in OF_NO_GROUP
