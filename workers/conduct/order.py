"""Which record of each partition comes next: what makes sure that none is skipped, whatever Faust skips.

Faust loses records around rebalances: its queues are cleared when reading resumes, after some of them were
filled; its client does not go back where nothing was committed yet; what was read twice may be dropped both
times. So a record is taken only where it is the next one of its partition. One that is further ahead makes
the client go back; when the same one comes again, nothing lies between (offsets have gaps, too, where a topic
is compacted or written in transactions). Where nothing comes although there is more, the client goes back
as well. Pure: no Kafka, and the clock is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

# How long a partition may stand still, with nothing of its topic in hand, before its records are read again.
_STILL_S: Final = 2.0
# The same while other partitions of its topic go on: its records may wait behind theirs.
_BEHIND_OTHERS_S: Final = 30.0
# Where there is nothing to read in spite of the end offset, this seldom at last.
_MOST_S: Final = 120.0

Verdict = Literal["take", "skip", "go_back"]


@dataclass(slots=True)
class _Place:
    """A partition that is here."""

    next: int
    committed: int
    moved_at: float
    ahead: int | None = None
    """The first record that came in place of the next one."""
    tries: int = 0


class Order:
    """The partitions that are here, by (topic, partition). `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._places: dict[Any, _Place] = {}
        self._topic_moved_at: dict[str, float] = {}

    def begin(self, positions: Mapping[Any, int]) -> None:
        """Only these partitions are here from now on, and their next records are these."""
        now = self._clock()
        self._places = {tp: _Place(offset, offset, now) for tp, offset in positions.items()}
        self._topic_moved_at = {tp.topic: now for tp in positions}

    def clear(self) -> None:
        """No partition is here."""
        self._places = {}

    def judge(self, tp: Any, offset: int) -> Verdict:
        """What to do with a record that came."""
        place = self._places.get(tp)
        if place is None or offset < place.next:
            return "skip"  # not ours any more, or done already
        if offset == place.next or offset == place.ahead:
            return "take"
        if place.ahead is not None and offset > place.ahead:
            return "skip"  # what was read before the client went back
        place.ahead = offset
        return "go_back"

    def done(self, tp: Any, offset: int) -> None:
        """All of this record is published and acknowledged."""
        place = self._places.get(tp)
        if place is None:
            return
        place.next, place.ahead, place.tries = offset + 1, None, 0
        place.moved_at = self._topic_moved_at[tp.topic] = self._clock()

    def next(self, tp: Any) -> int | None:
        """The record that the partition has to go on with; None: it is not here."""
        place = self._places.get(tp)
        return None if place is None else place.next

    def positions(self) -> dict[Any, int]:
        """The next records of all partitions that are here."""
        return {tp: place.next for tp, place in self._places.items()}

    def to_commit(self) -> dict[Any, int]:
        """What was done and is not committed."""
        return {tp: place.next for tp, place in self._places.items() if place.next > place.committed}

    def committed(self, offsets: Mapping[Any, int]) -> None:
        """These are committed."""
        for tp, offset in offsets.items():
            if (place := self._places.get(tp)) is not None:
                place.committed = max(place.committed, offset)

    def stalled(self, tp: Any, end: int | None) -> bool:
        """Whether the partition stands still although it goes on until `end`. True once per waiting time,
        which doubles each time."""
        place = self._places.get(tp)
        if place is None or end is None or end <= place.next:
            return False
        now = self._clock()
        still = place.ahead is not None or now - self._topic_moved_at[tp.topic] >= _STILL_S
        wait_s = (_STILL_S if still else _BEHIND_OTHERS_S) * 2**place.tries
        if now - place.moved_at < min(wait_s, _MOST_S):
            return False
        place.moved_at, place.tries = now, min(place.tries + 1, 10)
        return True
