"""What the stream keeps of a partition while it is assigned."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from workers.ports import Oldest, Publication, Record, Stage
from workers.stream.lag import Reach
from workers.stream.offsets import Opened, PartitionOffsets
from workers.stream.ordering import Lines
from workers.stream.window import Load


class Ticket(Opened):
    """A record in flight, the assignment under which it was read, and what it waits for.

    `record` is there until its outcome is delivered, so that what waits behind a slow one costs no memory.
    """

    __slots__ = ("partition", "record", "stage", "timestamp_ms")

    def __init__(self, partition: AssignedPartition, record: Record, size: int, read_s: float) -> None:
        # Not by way of the base class: one call less for each record that is read.
        self.offset = record.offset
        self.size = size
        self.read_s = read_s
        self.state = "new"
        self.partition = partition
        self.record = record
        self.timestamp_ms = partition.newest_ms = record.timestamp_ms
        self.stage: Stage = "cache"

    def report(self, stage: Stage) -> None:
        """Say what it waits for from now on."""
        self.stage = stage


@dataclass(eq=False, slots=True)
class AssignedPartition:
    """Lives from assignment to revocation. Delivery reports after it was discarded change nothing."""

    number: int
    offsets: PartitionOffsets[Ticket] = field(default_factory=PartitionOffsets)
    lines: Lines[tuple[Ticket, Publication]] = field(default_factory=Lines)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    tokens: int = 0
    """Prompt tokens of the questions in flight."""
    newest_ms: int | None = None
    """The broker's timestamp of the last record that was read."""
    ended: bool = False
    """Its tasks were cancelled."""
    discarded: bool = False

    @property
    def load(self) -> Load:
        """What it holds of the window."""
        return Load(self.offsets.records, self.offsets.size, self.tokens)

    @property
    def finished(self) -> Load:
        """What of it a commit would free."""
        return Load(self.offsets.finished, self.offsets.finished_size)

    def oldest(self, now_s: float) -> Oldest:
        """What the oldest offset waits for; a commit only when that is all that its record waits for."""
        offsets = self.offsets
        if (since := offsets.uncommitted_since) is not None:
            return Oldest(self.number, offsets.base or 0, max(0.0, now_s - since), "commit")
        if (first := offsets.oldest) is not None:
            return Oldest(self.number, first.offset, max(0.0, now_s - first.read_s), first.stage)
        return Oldest(self.number, offsets.base or 0, 0.0, None)

    @property
    def reach(self) -> Reach:
        """How far it has come."""
        first = self.offsets.oldest
        stamp = self.newest_ms if first is None else first.timestamp_ms
        return Reach(self.number, self.offsets.base, stamp, first is not None)

    def end(self) -> None:
        """Stop its tasks."""
        self.ended = True
        for task in self.tasks:
            task.cancel()

    def discard(self) -> None:
        """Stop its tasks; whatever they and the broker still report is ignored."""
        self.discarded = True
        self.end()
