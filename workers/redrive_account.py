"""What a redrive is asked for, what it remembers, and what it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from schemas.dead_letter import DeadLetter
from workers.adapters.topics_io import Record

# Offsets that share one integer: a byte each where they lie close together, 115 where they lie far apart.
_BITS: Final = 256
# Records that are named one by one.
_MOST_NAMED: Final = 20

Place = tuple[str, int, int]
"""Topic, partition, offset."""


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
    without_record: Named = field(default_factory=Named)
    """Chosen, and the letter holds no record to put back."""

    @property
    def seen(self) -> int:
        """Letters that were looked at, and are done with."""
        others = self.earlier + self.not_chosen + self.elsewhere
        others += self.refused.count + self.without_record.count
        return self.put_back.total() + others


def by_reason(counts: Mapping[str, int]) -> str:
    """`unknown_policy 7, invalid 2`, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{reason} {count}" for reason, count in ordered)
