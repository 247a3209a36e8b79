"""Tells publications what became of them, where traces ask for that.

In front of `Outcomes` that report an outcome when the broker has it; transactions, which report it before,
tell it themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from workers.ports import Outcomes, Position, Publication, Refused


class TellingOutcomes:
    """`Outcomes` that calls `Publication.settled`.

    What goes with its partition is never settled: of it, as many are remembered as may be in flight, and the
    oldest is forgotten first.
    """

    def __init__(self, outcomes: Outcomes, most: int) -> None:
        """`most`: records that may be in flight."""
        self._outcomes, self._most = outcomes, most
        self._waiting: dict[Any, Callable[[bool], None]] = {}

    def publish(self, ticket: Any, publication: Publication) -> None:
        self._waiting.pop(ticket, None)
        if publication.settled is not None:
            if len(self._waiting) >= self._most:
                del self._waiting[next(iter(self._waiting))]
            self._waiting[ticket] = publication.settled
        self._outcomes.publish(ticket, publication)

    def collect(self) -> tuple[Sequence[Any], Sequence[Refused]]:
        delivered, refused = self._outcomes.collect()
        if self._waiting:
            for ticket in delivered:
                self._tell(ticket, taken=True)
            for one in refused:
                self._tell(one.ticket, taken=False)
        return delivered, refused

    def _tell(self, ticket: Any, *, taken: bool) -> None:
        settled = self._waiting.pop(ticket, None)
        if settled is not None:
            settled(taken)

    async def commit(self, positions: Mapping[int, Position]) -> Collection[int]:
        return await self._outcomes.commit(positions)

    async def flush(self, timeout_s: float) -> None:
        await self._outcomes.flush(timeout_s)
