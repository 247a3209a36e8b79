"""Dead letters back onto the topic that they came from, each once. Pure: Kafka is behind two ports.

A run reads the dead-letters topic twice. The first time it learns which letters were put back before, from
the marks behind them, and where each partition ends now. The second time it puts back what is chosen, in
the order of the letters of a partition, up to that end: what fails again meanwhile is for another run.

Each batch of records goes onto the source topic in one transaction with the marks of its letters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from schemas.dead_letter import DeadLetter, read_dead_letter
from schemas.redrive import Headers, headers_to_put_back, mark_headers, read_mark
from workers.adapters.topics_io import Record

# Of one transaction. Readers of the source topic wait until it is committed, so it is kept short.
BATCH_RECORDS: Final = 200
BATCH_BYTES: Final = 4_000_000
# Offsets that share one integer: dense offsets cost a byte each at most, single ones some 150.
_BITS: Final = 256
# Records that are named one by one.
_MOST_NAMED: Final = 20

Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be written. `partition` None: the key decides."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers


class DeadLetterReader(Protocol):
    """The dead-letters topic."""

    def all(self) -> Iterator[list[Record]]:
        """Every record, in order within a partition, up to the present end."""
        ...

    def span(self, partition: int, first: int, last: int) -> Iterator[list[Record]]:
        """The records of one partition from offset `first` to `last`, both included."""
        ...


class BatchWriter(Protocol):
    """Writes all or nothing."""

    def write(self, records: Sequence[Outgoing]) -> Collection[int]:
        """Empty: all of them are committed. Else the indexes that their topic refuses as too large."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are asked for. Times in Unix milliseconds, of the letter; `until_ms` is excluded."""

    reasons: frozenset[str] = frozenset()
    """Empty: all."""
    since_ms: float | None = None
    until_ms: float | None = None

    def takes(self, letter: DeadLetter, timestamp_ms: int) -> bool:
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (self.since_ms is None or timestamp_ms >= self.since_ms)
            and (self.until_ms is None or timestamp_ms < self.until_ms)
        )


class Places:
    """A set of places, small where their offsets lie close together."""

    def __init__(self) -> None:
        self._bits: dict[tuple[str, int], dict[int, int]] = {}

    def add(self, place: Place) -> None:
        topic, partition, offset = place
        chunks = self._bits.setdefault((topic, partition), {})
        chunk, bit = divmod(offset, _BITS)
        chunks[chunk] = chunks.get(chunk, 0) | 1 << bit

    def __contains__(self, place: Place) -> bool:
        topic, partition, offset = place
        chunk, bit = divmod(offset, _BITS)
        return bool(self._bits.get((topic, partition), {}).get(chunk, 0) >> bit & 1)


@dataclass(slots=True)
class Named:
    """Records that something was wrong with: all counted, the first ones by partition and offset."""

    count: int = 0
    first: list[tuple[int, int]] = field(default_factory=list)

    def add(self, record: Record) -> None:
        self.count += 1
        if len(self.first) < _MOST_NAMED:
            self.first.append((record.partition, record.offset))


@dataclass(slots=True)
class Found:
    """What the first reading found."""

    done: Places = field(default_factory=Places)
    """Records whose letters were put back before."""
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    """First and last offset of a dead letter, per partition."""
    letters: int = 0
    unreadable: Named = field(default_factory=Named)
    """Neither a dead letter nor a mark."""


@dataclass(slots=True)
class Summary:
    """What became of the dead letters, counted."""

    put_back: Counter[str] = field(default_factory=Counter)
    """Per reason."""
    earlier: int = 0
    """Chosen, and put back by an earlier run; or a second letter of the same record."""
    not_chosen: int = 0
    elsewhere: int = 0
    """Came from another topic than the one that is put back to."""
    refused: Named = field(default_factory=Named)
    """Larger than the source topic takes."""


def look(reader: DeadLetterReader) -> Found:
    """The first reading."""
    found = Found()
    for record in (record for batch in reader.all() for record in batch):
        mark = read_mark(record.headers)
        if mark is not None:
            found.done.add((mark.redriven_topic, mark.redriven_partition, mark.redriven_offset))
        elif read_letter(record) is None:
            found.unreadable.add(record)
        else:
            first, _ = found.spans.get(record.partition, (record.offset, 0))
            found.spans[record.partition] = first, record.offset
            found.letters += 1
    return found


def chosen(
    reader: DeadLetterReader, found: Found, source_topic: str, choice: Choice, summary: Summary
) -> Iterator[tuple[Record, DeadLetter]]:
    """The second reading: letters to be put back, in the order of their partition; the rest is counted."""
    for partition, (first, last) in sorted(found.spans.items()):
        for record in (record for batch in reader.span(partition, first, last) for record in batch):
            letter = read_letter(record)
            if letter is None or read_mark(record.headers) is not None:
                continue
            place = letter.topic, letter.partition, letter.offset
            if letter.topic != source_topic:
                summary.elsewhere += 1
            elif not choice.takes(letter, record.timestamp_ms):
                summary.not_chosen += 1
            elif place in found.done:
                summary.earlier += 1
            else:
                found.done.add(place)  # a second letter of the same record may follow
                yield record, letter


def put_back(
    letters: Iterable[tuple[Record, DeadLetter]],
    writer: BatchWriter,
    summary: Summary,
    *,
    source_partitions: Collection[int],
    told: Callable[[Summary], None],
) -> None:
    """Write each letter's record and its mark. `told` is called after each batch.

    Raises `StreamStopped` as the writer does; what `told` was called with is committed then.
    """
    for batch in _batches(letters):
        _write(batch, writer, summary, source_partitions)
        told(summary)


def record_to_put_back(record: Record, letter: DeadLetter, source_partitions: Collection[int]) -> Outgoing:
    """The original record: key, value and headers as they were, and where it stood first in more headers.

    A record without a key goes to the partition where it stood, when there is one of that number.
    """
    partition = letter.partition if record.key is None and letter.partition in source_partitions else None
    headers = headers_to_put_back(record.headers, letter)
    return Outgoing(letter.topic, partition, record.key, record.value, headers)


def mark_of(record: Record, letter: DeadLetter) -> Outgoing:
    """The mark of a letter. In the letter's partition, so that it is never deleted before the letter."""
    return Outgoing(record.topic, record.partition, None, None, mark_headers(letter))


def read_letter(record: Record) -> DeadLetter | None:
    """The dead letter that a record is, or None. Never raises."""
    try:
        return read_dead_letter(record.headers)
    except msgspec.ValidationError:
        return None


def _write(
    batch: list[tuple[Record, DeadLetter]],
    writer: BatchWriter,
    summary: Summary,
    source_partitions: Collection[int],
) -> None:
    if not batch:
        return
    # The mark stands behind its record, so that an index says which letter it belongs to.
    records = [
        outgoing
        for record, letter in batch
        for outgoing in (record_to_put_back(record, letter, source_partitions), mark_of(record, letter))
    ]
    refused = {index // 2 for index in writer.write(records)}
    if not refused:
        summary.put_back.update(letter.reason for _, letter in batch)
    elif len(batch) == 1:
        summary.refused.add(batch[0][0])
    else:
        # The broker refuses records together that travelled together: each that it refused is tried alone.
        _write(
            [one for index, one in enumerate(batch) if index not in refused],
            writer,
            summary,
            source_partitions,
        )
        for index in sorted(refused):
            _write([batch[index]], writer, summary, source_partitions)


def _batches(letters: Iterable[tuple[Record, DeadLetter]]) -> Iterator[list[tuple[Record, DeadLetter]]]:
    batch: list[tuple[Record, DeadLetter]] = []
    size = 0
    for record, letter in letters:
        batch.append((record, letter))
        size += len(record.value or b"")
        if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def by_reason(counts: Mapping[str, int]) -> str:
    """`unknown_policy 7, invalid 2`, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{reason} {count}" for reason, count in ordered)
