"""How much may be in flight, read and not committed: in all and per partition."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

# Reading a handful of records at a time would give the batch away, so reading goes on only when this share of
# a cap, or a whole batch, is free.
_REFILL_SHARE = 4
# Tokens keep the guard busy, so less of them must be free.
_TOKENS_REFILL_SHARE = 8
# A paused partition is read again when it is down to this share of its caps: what was prefetched of it is
# fetched anew, which must not happen every few records.
_LOW_WATER = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """Records and bytes that are read and not committed, and prompt tokens of the questions among them."""

    records: int = 0
    size: int = 0
    tokens: int = 0


def total(loads: Collection[Load]) -> Load:
    """All together."""
    return Load(
        sum(load.records for load in loads),
        sum(load.size for load in loads),
        sum(load.tokens for load in loads),
    )


@dataclass(frozen=True, slots=True)
class Caps:
    """The most of each, 1 or more. Bytes and tokens are known when a record is read and not before, so a
    single batch may pass them."""

    records: int
    size: int
    tokens: int

    def full(self, load: Load, batch: int) -> bool:
        """Whether too little is free to read on."""
        enough = max(1, min(batch, self.records // _REFILL_SHARE))
        return (
            self.records - load.records < enough
            or self.size - load.size <= self.size // _REFILL_SHARE
            or load.tokens > self.tokens - self.tokens // _TOKENS_REFILL_SHARE
        )

    def low(self, load: Load) -> bool:
        """Whether so much is free that a paused partition is worth reading again."""
        return (
            load.records <= self.records * _LOW_WATER
            and load.size <= self.size * _LOW_WATER
            and load.tokens <= self.tokens * _LOW_WATER
        )

    def frees(self, load: Load) -> bool:
        """Whether this much is worth a commit of its own."""
        return load.records * _REFILL_SHARE >= self.records or load.size * _REFILL_SHARE >= self.size

    def room(self, load: Load, usual: Load) -> int:
        """Records that fit, when each is of the usual size; at least 1."""
        records = self.records - load.records
        if usual.size:
            records = min(records, (self.size - load.size) // usual.size)
        if usual.tokens:
            records = min(records, (self.tokens - load.tokens) // usual.tokens)
        return max(1, records)


@dataclass(frozen=True, slots=True)
class Window:
    """Caps on what is read and not committed: of the worker, and of each of its partitions. Pure.

    >>> window = Window(total=Caps(100, 9000, 900), partition=Caps(60, 5000, 500), batch=50)
    >>> window.room([Load(40), Load(20)], usual=Load())
    20
    """

    total: Caps
    partition: Caps
    batch: int

    def full(self, load: Load) -> bool:
        """Whether nothing more of a partition should be read now."""
        return self.partition.full(load, self.batch)

    def frees(self, finished: Collection[Load]) -> bool:
        """Whether a commit of what is finished of each partition would make room for a batch."""
        return self.total.frees(total(finished)) or any(map(self.partition.frees, finished))

    def room(self, loads: Collection[Load], usual: Load, skipped: Load = Load()) -> int:
        """How many records may be read now of partitions with these loads; 0: wait.

        No partition passes its cap of records, whichever the records come from. `usual` is what one record
        usually weighs, `skipped` the load of the partitions that are not read.
        """
        load = total([*loads, skipped])
        if self.total.full(load, self.batch) or any(map(self.full, loads)):
            return 0
        rooms = [self.partition.room(part, usual) for part in loads]
        return min(self.batch, self.total.room(load, usual), *rooms)
