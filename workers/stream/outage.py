"""The guard is down: who must wait, until when, and who brings it back.

Being down says nothing of an event, so events of policies that hold wait here, the stream stops reading while
anybody waits, and what waited is judged when the guard is back, however late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

# First pause between tries to bring the guard back, in seconds; doubled up to the longest. A model takes a
# minute to load, so pauses are short against it.
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
# A guard that dies within so many seconds of its return was not brought back: pauses go on growing. What dies
# of its first questions does so within seconds.
STEADY_S: Final = 10.0


class OutageObserver(Protocol):
    """Is told how the guard fares; must not wait."""

    def guard_changed(self, down: bool) -> None: ...

    def guard_not_back(self, error: Exception, pause_s: float) -> None:
        """A try has failed; the next one comes after the pause."""
        ...


class _Nobody:
    def guard_changed(self, down: bool) -> None: ...
    def guard_not_back(self, error: Exception, pause_s: float) -> None: ...


class Outage:
    """One per worker. `restart` brings the guard back, or raises one of `recoverable`.

    Any other error ends the tries: it is kept as `failure`, raised to everybody who waits, and `gave_up` is
    called. `alive` tells whether the guard answers; a death that was dealt with already begins nothing.
    """

    def __init__(
        self,
        restart: Callable[[], Awaitable[None]],
        recoverable: type[Exception] | tuple[type[Exception], ...],
        *,
        observer: OutageObserver | None = None,
        alive: Callable[[], bool] = lambda: False,
        gave_up: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._restart, self._recoverable, self._alive, self._gave_up = restart, recoverable, alive, gave_up
        self._observer, self._sleep, self._clock = observer or _Nobody(), sleep, clock
        self._back: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._holding = 0
        self._pause_s = FIRST_PAUSE_S
        self._back_at = float("-inf")
        self.failure: Exception | None = None

    @property
    def down(self) -> bool:
        return self._back is not None

    @property
    def holding(self) -> bool:
        """Whether any event waits for the guard."""
        return self._holding > 0

    async def bring_up(self, again: type[Exception], tries: int) -> None:
        """The first start. Only `again` makes it try again, so often in all; every other error is raised.

        A guard that never ran may be set up wrongly, which no waiting mends.
        """
        for _ in range(tries - 1):
            try:
                return await self._restart()
            except again as error:
                self._observer.guard_not_back(error, self._pause_s)
                await self._rest()
        return await self._restart()

    def watch(self, gone: Callable[[], Awaitable[None]]) -> None:
        """Begin an outage whenever `gone` returns, so that a guard that dies idle is missed at once."""
        self._spawn(self._watch(gone))

    def begin(self) -> None:
        """The guard was found dead; tries to bring it back begin, unless they run or it is back already."""
        if self._back is None and not self._alive():
            self._back = asyncio.get_running_loop().create_future()
            self._observer.guard_changed(True)
            self._spawn(self._bring_back(self._back))

    async def hold(self) -> None:
        """Wait until the guard is back. Raises what a restart raised, unless that was recoverable."""
        if self._back is None:
            return
        self._holding += 1
        try:
            await asyncio.shield(self._back)
        finally:
            self._holding -= 1

    async def close(self) -> None:
        """Stop watching and trying."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._back is not None:
            self._back.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, gone: Callable[[], Awaitable[None]]) -> None:
        while self.failure is None:
            await gone()
            self.begin()
            if self._back is not None:
                await asyncio.wait([self._back])

    async def _bring_back(self, back: asyncio.Future[None]) -> None:
        if self._clock() - self._back_at >= STEADY_S:
            self._pause_s = FIRST_PAUSE_S
        else:
            await self._rest()
        while True:
            try:
                await self._restart()
            except self._recoverable as error:
                self._observer.guard_not_back(error, self._pause_s)
                await self._rest()
            except Exception as error:  # noqa: BLE001 - handed to everybody who waits, who then stop
                self.failure = error
                back.set_exception(error)
                back.exception()  # nobody may be waiting
                self._gave_up()
                return
            else:
                break
        self._back, self._back_at = None, self._clock()
        self._observer.guard_changed(False)
        back.set_result(None)

    async def _rest(self) -> None:
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        await self._sleep(pause_s)
