"""Dead letters back onto the topic that they came from, each once. Pure: Kafka is behind two ports.

A run reads the dead-letters topic twice. The first time it learns which letters were put back before, from
the marks behind them, and where each partition ends now. The second time it puts back what is chosen, in
the order of the letters of a partition, up to that end: what fails again meanwhile is for another run.

Each batch of records goes onto the source topic in one transaction with the marks of its letters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from schemas.dead_letter import DeadLetter, read_dead_letter
from schemas.redrive import Headers, headers_to_put_back, mark_headers, read_mark
from workers.adapters.topics_io import Record
from workers.redrive_account import Choice, Found, Summary

# Of one transaction. Readers of the source topic wait until it is committed, so it is kept short.
BATCH_RECORDS: Final = 200
BATCH_BYTES: Final = 4_000_000


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

    def write(self, records: Sequence[Outgoing]) -> bool:
        """Whether all of them are committed; False when a topic refuses one as too large, and none is."""
        ...


def look(reader: DeadLetterReader, found: Found, told: Callable[[], None]) -> None:
    """The first reading, into `found`; `told` is called after each batch."""
    for batch in reader.all():
        for record in batch:
            mark = read_mark(record.headers)
            if mark is not None:
                found.done.add((mark.redriven_topic, mark.redriven_partition, mark.redriven_offset))
            elif read_letter(record) is None:
                found.unreadable.add(record)
            else:
                first, _ = found.spans.get(record.partition, (record.offset, 0))
                found.spans[record.partition] = first, record.offset
                found.letters += 1
        told()


def chosen(
    reader: DeadLetterReader,
    found: Found,
    source_topic: str,
    choice: Choice,
    summary: Summary,
    told: Callable[[], None],
) -> Iterator[tuple[Record, DeadLetter]]:
    """The second reading: letters to be put back, in the order of their partition; the rest is counted.

    `told` is called after each batch that was read.
    """
    for record in _again(reader, found, told):
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
        elif letter.left_out_bytes:
            summary.without_record.add(record)
        else:
            found.done.add(place)  # a second letter of the same record may follow
            yield record, letter


def _again(reader: DeadLetterReader, found: Found, told: Callable[[], None]) -> Iterator[Record]:
    for partition, (first, last) in sorted(found.spans.items()):
        for batch in reader.span(partition, first, last):
            yield from batch
            told()


def put_back(
    letters: Iterable[tuple[Record, DeadLetter]],
    writer: BatchWriter,
    summary: Summary,
    *,
    source_partitions: Collection[int],
) -> None:
    """Write each letter's record and its mark. What the summary counts as put back is committed.

    Raises `StreamStopped` as the writer does.
    """
    for batch in _batches(letters):
        _write(batch, writer, summary, source_partitions)


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
    records = [
        outgoing
        for record, letter in batch
        for outgoing in (record_to_put_back(record, letter, source_partitions), mark_of(record, letter))
    ]
    if writer.write(records):
        summary.put_back.update(letter.reason for _, letter in batch)
    elif len(batch) == 1:
        summary.refused.add(batch[0][0])
    else:
        # The broker refuses together what travelled together. By halves, the order stays.
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            _write(half, writer, summary, source_partitions)


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
