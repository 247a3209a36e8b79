"""What is read next: how many records, and of which partitions.

A partition that stays full is paused alone, so that the others are read on. Pausing throws its prefetched
records away, so it waits for a moment before, and goes on only when half of its window is free again.
Pure; the instants come from the caller's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from typing import Final

from workers.stream.window import Load, Window, total

# A partition that waits only for acknowledgements is free again within milliseconds. Nothing is read for so
# long at worst, in seconds, before a full partition is paused.
GRACE_S: Final = 0.25
# A partition that was paused lately is slow for a reason of its own and is paused again without that moment.
SLOW_S: Final = 30.0
# Share of the newest batch in what is taken as usual, when it is lighter; a heavier one counts at once.
_NEWEST_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Plan:
    """Records to read now, 0: none; what to pause and to resume before that; all that are assigned."""

    limit: int
    pause: Set[int] = frozenset()
    resume: Set[int] = frozenset()
    partitions: Set[int] = frozenset()


WAIT: Final = Plan(0)


class Flow:
    """One per worker."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._usual = Load()
        self._full_since: dict[int, float] = {}
        self._paused: set[int] = set()
        self._slow_until: dict[int, float] = {}

    @property
    def paused(self) -> Collection[int]:
        """Partitions that are not read for now."""
        return self._paused

    def full(self, loads: Mapping[int, Load]) -> bool:
        """Whether the worker, or a partition that is read, has too little room."""
        return self._window.total.full(total(loads.values()), self._window.batch) or any(
            self._window.full(load) for number, load in loads.items() if number not in self._paused
        )

    def plan(self, loads: Mapping[int, Load], now_s: float) -> Plan:
        """What to read, given what each partition has in flight. A plan with a limit is carried out."""
        full = {n for n, load in loads.items() if n not in self._paused and self._window.full(load)}
        for number in self._full_since.keys() - full:
            del self._full_since[number]
        resume = {n for n in self._paused if self._window.partition.low(loads[n])}
        read = {
            n: load for n, load in loads.items() if n not in full and (n not in self._paused or n in resume)
        }
        if loads and not read:
            return WAIT
        skipped = [load for number, load in loads.items() if number not in read]
        limit = self._window.room(read.values(), self._usual, total(skipped))
        if not limit:
            return WAIT
        for number in full:
            since = self._full_since.setdefault(number, now_s)
            if now_s - since < GRACE_S and now_s >= self._slow_until.get(number, now_s):
                limit = 0
        if not limit:
            return WAIT
        for number in full:
            self._slow_until[number] = now_s + SLOW_S
            del self._full_since[number]
        self._paused = (self._paused - resume) | full
        return Plan(limit, full, resume, loads.keys())

    def weigh(self, batch: Load) -> None:
        """Learn from a batch what a record usually weighs."""
        if batch.records:
            self._usual = Load(
                1,
                _learn(self._usual.size, batch.size / batch.records),
                _learn(self._usual.tokens, batch.tokens / batch.records),
            )

    def forget(self, number: int) -> None:
        """The partition goes; it is not paused when it comes again."""
        self._paused.discard(number)
        self._full_since.pop(number, None)
        self._slow_until.pop(number, None)


def _learn(known: int, newest: float) -> int:
    return round(max(newest, known + (newest - known) * _NEWEST_SHARE))
