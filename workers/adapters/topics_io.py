"""Read all, publish all: what the commands do with topics (the worker has `workers.adapters.kafka`).

A reader is assigned its partitions: it joins no group and commits nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as Place

from schemas.keys import PARTITIONER
from workers.adapters.kafka_options import Option, client_options
from workers.adapters.kafka_refusals import look_for_refusal
from workers.errors import StartError, StreamStopped, UsageError
from workers.settings import KafkaSettings

# The largest record that `moderation.dead-letters` takes; librdkafka's own default is below it.
MAX_RECORD_BYTES: Final = 2_097_152
# Most records that wait for delivery; a million is librdkafka's default, and a gigabyte of texts.
MAX_QUEUED: Final = 20_000
_BATCH: Final = 500
_POLL_S: Final = 0.2
# Silence of the broker, in start time-outs, that ends a reading which is to end: nothing takes it so long.
STALLED: Final = 3.0
# The client asks for the coordinator of the group whose name it was given, and a user without a right on
# groups is refused. It reads all the same.
OF_NO_GROUP: Final = frozenset({KafkaError.GROUP_AUTHORIZATION_FAILED})


@dataclass(frozen=True, slots=True)
class Record:
    """A record as the broker has it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """Milliseconds since 1970, the broker's or the producer's as the topic says; -1 when there is none."""
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


Start = Literal["beginning", "end"] | int
"""Where a reader begins: `beginning`, `end`, or that many records before the end of each partition."""


def read_records(
    options: Mapping[str, Option],
    topic: str,
    *,
    start: Start,
    follow: bool,
    timeout_s: float,
    silence_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[Record]]:
    """Batches of records, in order within a partition; ends at the end that the topic has when it is reached.

    With `follow` it never ends, and gives an empty batch now and then, so that the caller may stop. Raises
    `StartError` (no broker within `timeout_s`, no such topic) and `StreamStopped`: also when nothing comes
    for more than `silence_s`, neither record nor end (None, and with `follow`: it waits).
    """
    consumer = reader(options)
    try:
        places = [
            Place(topic, partition, _first(consumer, topic, partition, start, timeout_s))
            for partition in partitions_of(consumer, topic, options, timeout_s)
        ]
        consumer.assign(places)
        unfinished = {place.partition for place in places}
        heard_s = clock()
        while unfinished or follow:
            batch = []
            for message in consumer.consume(_BATCH, _POLL_S):
                error = message.error()
                if error is None:
                    batch.append(as_record(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.discard(message.partition())
                    heard_s = clock()
                elif error.code() not in OF_NO_GROUP:
                    raise StreamStopped(f"reading {topic}: {error.str()}")
            if batch or follow:
                yield batch
                heard_s = clock()  # what the caller did meanwhile is no silence of the broker
            _stop_at_silence(topic, clock() - heard_s, None if follow else silence_s)
    except KafkaException as error:
        raise StreamStopped(f"reading {topic}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def read_whole(kafka: KafkaSettings, topic: str) -> Iterator[list[Record]]:
    """`read_records` from the beginning to the end; a broker that falls silent ends it, as `STALLED` says."""
    options, timeout_s = client_options(kafka), kafka.start_timeout_s
    silence_s = timeout_s * STALLED
    return read_records(
        options, topic, start="beginning", follow=False, timeout_s=timeout_s, silence_s=silence_s
    )


def read_span(
    options: Mapping[str, Option],
    topic: str,
    partition: int,
    first: int,
    last: int,
    *,
    silence_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[Record]]:
    """The records of one partition from offset `first` to `last`, both included, as far as they are there.

    Raises `StreamStopped`, also when nothing comes for more than `silence_s` (None: it waits).
    """
    consumer = reader(options)
    try:
        consumer.assign([Place(topic, partition, first)])
        reached, heard_s = first - 1, clock()
        while reached < last:
            batch = []
            for message in consumer.consume(_BATCH, _POLL_S):
                error = message.error()
                if error is None:
                    reached = message.offset()
                    if reached <= last:
                        batch.append(as_record(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    reached = last  # the rest was deleted meanwhile
                elif error.code() not in OF_NO_GROUP:
                    raise StreamStopped(f"reading {topic}: {error.str()}")
            if batch:
                yield batch
                heard_s = clock()
            _stop_at_silence(topic, clock() - heard_s, silence_s)
    except KafkaException as error:
        raise StreamStopped(f"reading {topic}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _stop_at_silence(topic: str, silent_s: float, longest_s: float | None) -> None:
    if longest_s is not None and silent_s > longest_s:
        raise StreamStopped(f"reading {topic}: the broker has fallen silent")


def reader(options: Mapping[str, Option]) -> Any:
    """A consumer that is assigned its partitions; the caller closes it."""
    return Consumer(
        {
            **options,
            # Assigned readers join no group. librdkafka wants a name nevertheless.
            "group.id": "rsafe-reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            # Where records were deleted meanwhile, the oldest that is left comes next.
            "auto.offset.reset": "earliest",
            # What a transaction took back is not there.
            "isolation.level": "read_committed",
            "logger": quiet_logger(),
        }
    )


def _first(consumer: Any, topic: str, partition: int, start: Start, timeout_s: float) -> int:
    if start == "beginning":
        return int(OFFSET_BEGINNING)
    if start == "end":
        return int(OFFSET_END)
    low, high = consumer.get_watermark_offsets(Place(topic, partition), timeout=timeout_s)
    return int(max(low, high - start))


def headers_of(message: Any) -> list[tuple[str, bytes | None]]:
    """Of a message; none where a name is not UTF-8, which no client of ours writes."""
    try:
        return message.headers() or []
    except UnicodeDecodeError:
        return []


def as_record(message: Any) -> Record:
    """Of a message without an error."""
    return Record(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=headers_of(message),
    )


class RecordWriter:
    """Publishes records; `finish` returns when each of them is acknowledged.

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
                "linger.ms": 5,
                "delivery.timeout.ms": delivery_timeout_ms,
                "message.max.bytes": MAX_RECORD_BYTES,
                "queue.buffering.max.messages": MAX_QUEUED,
                "logger": quiet_logger(),
            }
        )
        partitions_of(self._producer, topic, options, timeout_s)
        self.delivered = 0
        """Records that are acknowledged so far."""
        self._failure = ""

    def send(
        self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]] = ()
    ) -> None:
        """Queue one record; waits while the queue is full. Raises as `finish` does, and `UsageError`."""
        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, headers=list(headers), on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(_POLL_S)
            except KafkaException as error:
                raise UsageError(
                    f"{self._topic}: {error.args[0].str()} ({len(value or b'')} bytes)"
                ) from error
            else:
                self._producer.poll(0)
                return self._raise_failure()

    def finish(self) -> None:
        """Wait for every acknowledgement. Raises `StreamStopped` when a record was not delivered."""
        waiting = self._producer.flush(self._delivery_timeout_s + 1)
        self._raise_failure()
        if waiting:
            raise StreamStopped(f"{self._topic}: {waiting} records were not acknowledged in time")

    def _delivered(self, error: Any, _message: Any) -> None:
        if error is None:
            self.delivered += 1
        else:
            self._failure = self._failure or error.str()

    def _raise_failure(self) -> None:
        if self._failure:
            raise StreamStopped(f"{self._topic}: a record was not delivered: {self._failure}")


def unreachable(options: Mapping[str, Option], timeout_s: float, error: KafkaError) -> StartError:
    """The error of a broker that does not answer, or that turns us away, with the setting to look at."""
    return StartError(
        look_for_refusal(options)
        or f"RSAFE_KAFKA__BOOTSTRAP_SERVERS: no broker at {options['bootstrap.servers']} answered "
        f"within {timeout_s:g} s ({error.name()})"
    )


def quiet_logger() -> logging.Logger:
    """A logger for librdkafka's own lines: they would stand between the rows on the screen.

    What matters of them is raised as an error.
    """
    logger = logging.getLogger("rsafe.librdkafka")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def partitions_of(client: Any, topic: str, options: Mapping[str, Option], timeout_s: float) -> list[int]:
    """Partitions of the topic, in ascending order. Raises `StartError`."""
    try:
        found = client.list_topics(topic, timeout=timeout_s).topics[topic]
    except KafkaException as error:
        raise unreachable(options, timeout_s, error.args[0]) from error
    if found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise StartError(f"there is no topic {topic}; `rsafe topics create` makes it")
    if found.error is not None:
        raise StartError(f"topic {topic}: {found.error.str()}")
    return sorted(found.partitions)
