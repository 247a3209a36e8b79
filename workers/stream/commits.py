"""Commits what is finished of each partition: now and then, when it makes room, when a note must be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final, Protocol

from workers.ports import Clock, Journal, Outcomes, Position
from workers.stream.partition import AssignedPartition
from workers.stream.window import Window

# A coordinator that moves refuses for a moment. What is not committed then is judged again by the next owner.
_LAST_TRY_S: Final = 3.0
_LAST_PAUSE_S: Final = 0.2


class CommitObserver(Protocol):
    """Is told how many partitions were asked for and how many the broker took; must not wait."""

    def committed(self, asked: int, taken: int) -> None: ...


class Commits:
    """One per stream. After a refusal nothing is tried before `interval_s` is over."""

    def __init__(
        self,
        outcomes: Outcomes,
        journal: Journal,
        window: Window,
        *,
        interval_s: float,
        clock: Clock,
        observer: CommitObserver,
    ) -> None:
        self._outcomes, self._journal, self._window = outcomes, journal, window
        self._interval_s, self._clock, self._observer = interval_s, clock, observer
        self._next_at = 0.0
        self._refused = False

    def due(self, partitions: Collection[AssignedPartition]) -> bool:
        """Whether it is time, or a note must be kept without delay.

        A note whose partition has not been read yet waits for its first record: there is no offset to commit.
        """
        if self._clock.monotonic_s() >= self._next_at:
            return True
        if self._refused or not (stale := self._journal.stale()):
            return False
        return any(part.number in stale and part.offsets.base is not None for part in partitions)

    def frees(self, partitions: Collection[AssignedPartition]) -> bool:
        """Whether a commit would make so much room in the window that it should not be put off."""
        return not self._refused and self._window.frees([partition.finished for partition in partitions])

    async def commit(self, partitions: Collection[AssignedPartition]) -> bool:
        """Commit what is finished of these, with their notes. False when the broker refused any of it.

        Raises `StreamStopped`.
        """
        self._next_at = self._clock.monotonic_s() + self._interval_s
        stale = self._journal.stale()
        asked: dict[int, tuple[AssignedPartition, Position]] = {}
        for partition in partitions:
            number = partition.number
            at = partition.offsets.ask(anyway=number in stale)
            if at is not None:
                asked[number] = partition, Position(at, self._journal.note(number))
        if not asked:
            return True
        taken = await self._outcomes.commit({number: position for number, (_, position) in asked.items()})
        for number in taken:
            partition, position = asked[number]
            partition.offsets.taken()
            self._journal.written(number, position.note)
        self._refused = len(taken) < len(asked)
        self._observer.committed(len(asked), len(taken))
        return not self._refused

    async def commit_last(self, partitions: Collection[AssignedPartition]) -> None:
        """As `commit`, and again for some seconds while refused: nobody comes back to partitions that go."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LAST_TRY_S
        while not await self.commit(partitions):
            if loop.time() >= until:
                return
            await asyncio.sleep(_LAST_PAUSE_S)
