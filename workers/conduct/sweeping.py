"""Asks for the deletion of what has expired.

What expires is told by the newest time at which the broker had a message that was counted: not by a clock of
this machine, so that catching up after an outage deletes nothing that is still to be counted with; and not by
times that a chat system or a reviewer gave, whose clock may be ahead. One partition may be read far ahead of
another, here or in another process. So that time is used only after the whole group has read whatever there
was when it was taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from workers.adapters.group_progress import Places
from workers.conduct.engine import Engine
from workers.conduct.entries import Entry, Sweep
from workers.conduct.state import State

# A partition whose reader stands still for so long has nothing left to be read: what is missing to its end is
# of transactions, whose marks have offsets too. Longer than a rebalance takes, and than `order` waits before
# it goes back for records that it misses.
UNMOVED_S: Final = 180.0


class App(Protocol):
    """What is asked of `app.ConductApp`."""

    @property
    def ready(self) -> bool: ...

    def states(self) -> AsyncIterator[list[State]]: ...

    async def publish(self, entries: Iterable[Entry]) -> None: ...

    def fail(self, error: BaseException) -> None: ...


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at a time."""

    at_s: float
    """Monotonic seconds."""
    newest_ms: int
    """Newest time at which the broker had a message that counts in a state here."""
    places: Places


def passed(look: Look, places: Places, now_s: float) -> bool:
    """Whether the group has read all that stood on its topics then. A topic that is gone has nothing."""
    return all(
        (now := places.get(place)) is None
        or now.next >= then.end
        or (now.next == then.next and now_s - look.at_s >= UNMOVED_S)
        for place, then in look.places.items()
    )


class Sweeper:
    """Looks every `every_s` seconds. `progress` may block; None: it is not known, and nothing is deleted."""

    def __init__(
        self, app: App, engine: Engine, progress: Callable[[], Places | None], clock: Callable[[], float]
    ) -> None:
        self._app, self._engine, self._progress, self._clock = app, engine, progress, clock
        self._look: Look | None = None

    async def run(self, every_s: float) -> None:
        """Until it is cancelled; what goes wrong stops the app."""
        try:
            while True:
                await asyncio.sleep(every_s)
                if self._app.ready:
                    await self.once()
        except Exception as error:  # noqa: BLE001 - nobody awaits this task; the app stops, uncommitted
            self._app.fail(error)

    async def once(self) -> None:
        """Delete what had expired at the last look, where the group is past it, and look anew."""
        if self._look is not None:
            places = await asyncio.to_thread(self._progress)
            if places is None or not passed(self._look, places, self._clock()):
                return
        newest_ms = await self._sweep(0 if self._look is None else self._look.newest_ms)
        ends = await asyncio.to_thread(self._progress)
        self._look = None if ends is None else Look(self._clock(), newest_ms, ends)

    async def _sweep(self, by_ms: int) -> int:
        newest_ms = 0
        async for states in self._app.states():
            newest_ms = max(newest_ms, *(state.seen_ms for state in states))
            expired = [state for state in states if self._engine.expired(state, by_ms)]
            await self._app.publish(
                Sweep(subject=one.subject, by_ms=by_ms) for one in expired if one.subject is not None
            )
        return newest_ms
