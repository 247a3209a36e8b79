"""Records by their coordinates: what stood at a topic, partition and offset, as far as it is still there."""

from __future__ import annotations

import itertools
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from workers.adapters.kafka_options import Option
from workers.adapters.topics_io import (
    OF_NO_GROUP,
    STALLED,
    Record,
    as_record,
    read_span,
    reader,
    unreachable,
)
from workers.errors import StartError, StreamStopped

# To read over so many records takes about as long as to begin anew behind them: some 30 ms,
# most of it for what was fetched ahead in vain.
_READ_OVER: Final = 10_000
_BATCH: Final = 500
_POLL_S: Final = 0.2
# What is fetched ahead of the wanted records is thrown away.
_PREFETCH_RECORDS: Final = 1_000
# librdkafka stops fetching for so long when that much lies ready; its default of a second was paid per jump.
_FETCH_BACKOFF_MS: Final = 20


# What Kafka takes for a name. There are others that its client cannot even ask for.
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")

Why = Literal["expired", "absent", "refused"]


@dataclass(frozen=True, slots=True)
class Gone:
    """What is not there any more, and why."""

    topic: str
    partition: int
    offset: int
    why: Why
    """`expired`: the topic begins behind it; `absent`: no such topic, partition or offset; `refused`: the
    topic may not be read, or is not there, which a broker with access rules does not tell apart."""


def fetch_records(
    options: Mapping[str, Option],
    wanted: Mapping[tuple[str, int], Sequence[int]],
    *,
    needed_topic: str,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Record | Gone]:
    """Each wanted record once, or why it is gone: offsets by topic and partition, of which none comes twice.

    In order of topic, partition and offset. Raises `StartError` (no broker within `timeout_s`, no right to
    read `needed_topic`) and `StreamStopped`, also when the broker falls silent.
    """
    consumer = reader(
        {
            **options,
            "queued.min.messages": _PREFETCH_RECORDS,
            "fetch.queue.backoff.ms": _FETCH_BACKOFF_MS,
        }
    )
    partitions: dict[str, frozenset[int] | None] = {}
    try:
        for (topic, partition), offsets in sorted(wanted.items()):
            ordered = sorted(set(offsets))
            if topic not in partitions:
                partitions[topic] = _partitions(consumer, topic, options, timeout_s)
            there = partitions[topic]
            if there is None and topic == needed_topic:
                raise _refusal(topic)
            if there is None or partition not in there:
                why: Why = "refused" if there is None else "absent"
                yield from (Gone(topic, partition, offset, why) for offset in ordered)
                continue
            one = _Partition(consumer, options, Place(topic, partition), timeout_s, clock)
            for found in one.fetch(ordered):
                if topic == needed_topic and isinstance(found, Gone) and found.why == "refused":
                    raise _refusal(topic)
                yield found
    except KafkaException as error:
        raise StreamStopped(f"reading events: {error.args[0].str()}") from error
    finally:
        consumer.close()


class _Partition:
    def __init__(
        self,
        consumer: Any,
        options: Mapping[str, Option],
        place: Place,
        timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._consumer, self._options, self._place = consumer, options, place
        self._timeout_s, self._clock = timeout_s, clock

    def fetch(self, offsets: Sequence[int]) -> Iterator[Record | Gone]:
        """Every offset, ascending."""
        low, high = self._bounds()
        todo = deque(offset for offset in offsets if low <= offset < high)
        yield from (self._gone(offset, low) for offset in offsets if offset < low)
        while todo:
            yield from self._run(todo)
        yield from (self._gone(offset, low) for offset in offsets if offset >= high)

    def _run(self, todo: deque[int]) -> Iterator[Record | Gone]:
        """From the first offset on, for as long as the next one is near; takes away what it has done."""
        topic, partition = self._place.topic, self._place.partition
        self._consumer.assign([Place(topic, partition, todo[0])])
        reached, heard_s = todo[0] - 1, self._clock()
        while todo and todo[0] - reached <= _READ_OVER:
            # What has come by the first one's time is taken with it: to ask for many waits for many.
            first = self._consumer.consume(1, _POLL_S)
            for message in itertools.chain(first, self._consumer.consume(_BATCH, 0) if first else ()):
                error = message.error()
                if error is None:
                    reached = message.offset()
                    while todo and todo[0] < reached:
                        yield self._again(todo.popleft())
                    if todo and todo[0] == reached:
                        todo.popleft()
                        yield as_record(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    while todo:
                        yield self._again(todo.popleft())
                elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    # The topic may be looked at, and not read.
                    yield from (Gone(topic, partition, offset, "refused") for offset in todo)
                    todo.clear()
                elif error.code() not in OF_NO_GROUP:
                    raise StreamStopped(f"reading {topic}: {error.str()}")
                # Behind the message: what was done with it took time, and was no silence of the broker.
                heard_s = self._clock()
            if self._clock() - heard_s > self._timeout_s * STALLED:
                raise StreamStopped(f"reading {topic}: the broker has fallen silent")

    def _again(self, offset: int) -> Record | Gone:
        """A record that did not come in its turn, asked for alone: nobody's label is dropped by accident."""
        topic, partition = self._place.topic, self._place.partition
        silence_s = self._timeout_s * STALLED
        for batch in read_span(self._options, topic, partition, offset, offset, silence_s=silence_s):
            for record in batch:
                return record
        return self._gone(offset, self._bounds()[0])

    def _gone(self, offset: int, low: int) -> Gone:
        why: Why = "expired" if offset < low else "absent"
        return Gone(self._place.topic, self._place.partition, offset, why)

    def _bounds(self) -> tuple[int, int]:
        low, high = self._consumer.get_watermark_offsets(self._place, timeout=self._timeout_s)
        return low, high


def _refusal(topic: str) -> StartError:
    return StartError(f"topic {topic}: {KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED).str()}")


def _partitions(
    consumer: Any, topic: str, options: Mapping[str, Option], timeout_s: float
) -> frozenset[int] | None:
    """No partition where there is no such topic: it was deleted since, or the name is none.

    None where the broker does not let us know. Raises `StartError`.
    """
    if not _TOPIC.fullmatch(topic):
        return frozenset()
    try:
        found = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
    except KafkaException as error:
        raise unreachable(options, timeout_s, error.args[0]) from error
    if found.error is None:
        return frozenset(found.partitions)
    if found.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION):
        return frozenset()
    if found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return None
    raise StartError(f"topic {topic}: {found.error.str()}")
