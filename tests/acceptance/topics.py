"""Reads topics from their first offset, and follows them while a run goes on. Sees committed records only."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from tests.acceptance.records import Place, Record
from tests.waiting import patiently

_METADATA_TIMEOUT_S: Final = 10.0
_BATCH_RECORDS: Final = 2_000
_POLL_S: Final = 0.1
# A broker that is away or comes back, and a topic that is gone for a while: the client tries again by itself,
# and whoever waits for records has a timeout of its own.
_PASSING_ERRORS: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


class TopicsNotReached(AssertionError):
    """What was waited for did not come in time."""


class TopicFollower:
    """Keeps every record of the topics, in order per partition, and takes in what arrives.

    No group, no commits: several followers do not disturb each other or the worker.
    """

    def __init__(self, bootstrap_servers: str, topics: Iterable[str]) -> None:
        self._topics = tuple(topics)
        self._records: dict[str, list[Record]] = defaultdict(list)
        self._at_end: set[tuple[str, int]] = set()
        self._consumer: Any = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "checker",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "log.connection.close": False,
            }
        )
        self._partitions: set[tuple[str, int]] = set()
        for topic in self._topics:
            metadata = self._consumer.list_topics(topic, _METADATA_TIMEOUT_S).topics[topic]
            if metadata.error is not None:
                raise KafkaException(metadata.error)
            self._partitions |= {(topic, number) for number in metadata.partitions}
        self._consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in self._partitions]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def records(self, topic: str) -> list[Record]:
        """What was read of the topic so far: partitions interleaved, offsets ascending in each."""
        return self._records[topic]

    @property
    def at_end(self) -> bool:
        """Whether the end of every partition was reached, and nothing has come since."""
        return self._at_end == self._partitions

    def poll(self, wait_s: float = _POLL_S) -> list[Record]:
        """Takes in what arrives within `wait_s` and returns it. Raises `KafkaException`.

        A broker that is away for a while is no error.
        """
        new = []
        for message in self._consumer.consume(_BATCH_RECORDS, wait_s):
            if (error := message.error()) is not None:
                if error.code() in _PASSING_ERRORS:
                    continue
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                self._at_end.add((message.topic(), message.partition()))
                continue
            self._at_end.discard((message.topic(), message.partition()))
            record = _record(message)
            self._records[record.place.topic].append(record)
            new.append(record)
        return new

    def follow(
        self,
        until: Callable[[list[Record]], bool],
        *,
        timeout_s: float,
        awaited: str,
    ) -> None:
        """Reads on until `until(new records)` holds; it sees each record once, and is asked after every poll.

        It may raise to end the wait, such as when the worker is gone. Raises `TopicsNotReached` naming
        `awaited` and how much was read.
        """
        end = time.monotonic() + timeout_s
        while not until(self.poll()):
            if time.monotonic() > end:
                read = ", ".join(f"{topic}: {len(self._records[topic])}" for topic in self._topics)
                raise TopicsNotReached(f"no {awaited} after {timeout_s:.0f} s; records read: {read}")


def read_topics(bootstrap_servers: str, *topics: str, timeout_s: float = 60.0) -> dict[str, list[Record]]:
    """Each topic from its first offset to its present end. Raises `TopicsNotReached`."""
    with TopicFollower(bootstrap_servers, topics) as follower:
        follower.follow(lambda _: follower.at_end, timeout_s=timeout_s, awaited="end of the topics")
        return {topic: follower.records(topic) for topic in topics}


def committed(bootstrap_servers: str, group: str, topic: str) -> dict[int, int]:
    """Partition → the offset that the group has committed; negative: none. Raises `KafkaException`."""
    with _asking(bootstrap_servers, group) as consumer:
        return {place.partition: place.offset for place in patiently(lambda: _committed(consumer, topic))}


def uncommitted(bootstrap_servers: str, group: str, topic: str) -> int:
    """How many records of the topic the group has not committed: its lag. Raises `KafkaException`."""
    with _asking(bootstrap_servers, group) as consumer:
        return patiently(lambda: _lag(consumer, topic))


@contextmanager
def _asking(bootstrap_servers: str, group: str) -> Iterator[Any]:
    consumer: Any = Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": group, "enable.auto.commit": False}
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _committed(consumer: Any, topic: str) -> list[TopicPartition]:
    numbers = consumer.list_topics(topic, _METADATA_TIMEOUT_S).topics[topic].partitions
    asked = [TopicPartition(topic, number) for number in numbers]
    found: list[TopicPartition] = consumer.committed(asked, timeout=_METADATA_TIMEOUT_S)
    return found


def _lag(consumer: Any, topic: str) -> int:
    lag = 0
    for place in _committed(consumer, topic):
        low, high = consumer.get_watermark_offsets(place, timeout=_METADATA_TIMEOUT_S)
        lag += high - max(low, place.offset)  # a negative offset: nothing was committed
    return lag


def _record(message: Any) -> Record:
    kind, timestamp_ms = message.timestamp()
    return Record(
        place=Place(message.topic(), message.partition(), message.offset()),
        value=message.value(),
        key=message.key(),
        headers=tuple(message.headers() or ()),
        timestamp_ms=0 if kind == TIMESTAMP_NOT_AVAILABLE else timestamp_ms,
    )
