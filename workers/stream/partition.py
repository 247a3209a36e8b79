"""What the stream keeps of a partition while it is assigned."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from workers.ports import Publication, Record, Stage
from workers.stream.offsets import PartitionOffsets
from workers.stream.ordering import Lines


class Ticket:
    """A record in flight, and the assignment under which it was read."""

    __slots__ = ("partition", "record", "stage")

    def __init__(self, partition: AssignedPartition, record: Record) -> None:
        self.partition = partition
        self.record = record
        self.stage: Stage = "cache"


@dataclass(eq=False, slots=True)
class AssignedPartition:
    """Lives from assignment to revocation. Delivery reports after it was discarded change nothing."""

    number: int
    offsets: PartitionOffsets = field(default_factory=PartitionOffsets)
    lines: Lines[tuple[Ticket, Publication]] = field(default_factory=Lines)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    discarded: bool = False

    def discard(self) -> None:
        """Stop its tasks; whatever they and the broker still report is ignored."""
        self.discarded = True
        for task in self.tasks:
            task.cancel()
