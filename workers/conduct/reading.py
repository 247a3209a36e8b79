"""Where the app's client reads and what is committed: `order` against a consumer of Faust's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from workers.conduct.order import Order

# How long going back may take; it waits for the broker only where a partition has no such offset.
_SEEK_S: Final = 20.0


class Reading:
    """The partitions of the topics `sources` that are here. All times of one event loop."""

    def __init__(
        self, app: Any, sources: Iterable[str], fill: Callable[[Iterable[Any]], Awaitable[None]]
    ) -> None:
        self._app, self._sources, self._fill = app, frozenset(sources), fill
        self._order = Order(time.monotonic)
        # Whether Faust has moved its client since it was last put where the order wants it.
        self._moved = True
        # Whether the stores are those of these partitions, and of which assignment they are.
        self._filled, self._era = False, 0

    @property
    def resting(self) -> bool:
        """Whether Faust is between two assignments, or the state of this one is not read yet."""
        return self._faust_rests or not self._filled

    @property
    def _faust_rests(self) -> bool:
        return bool(self._app.rebalancing or self._app.in_recovery)

    def here(self, tp: Any) -> bool:
        """Whether the partition's records are still this process's to do."""
        return self._order.next(tp) is not None

    async def one(self, event: Any, step: Callable[[Any], Awaitable[None]]) -> None:
        """Do the step for a record where it is the next one of its partition. Raises as the step does."""
        tp, offset = event.message.tp, event.message.offset
        if self.resting:
            self._moved = True  # it comes again
            return
        verdict = self._order.judge(tp, offset)
        if verdict == "take":
            await step(event)
            self._order.done(tp, offset)
        elif verdict == "go_back":
            await self._go_back([tp])

    async def begin(self, assigned: Iterable[Any]) -> None:
        """These are the partitions now. They begin at their committed offsets; where there is none, at their
        beginning: Faust's client would stay where it was before, and what it read then is thrown away."""
        sources = [tp for tp in assigned if tp.topic in self._sources]
        consumer = self._app.consumer
        positions = dict(await consumer.seek_to_committed()) if sources else {}
        unknown = [tp for tp in sources if not positions.get(tp)]
        if unknown:
            positions |= await consumer.earliest_offsets(*unknown)
        self._order.begin({tp: positions[tp] for tp in sources})
        self._changed()

    def end(self) -> None:
        """No partition is here."""
        self._order.clear()
        self._changed()

    def _changed(self) -> None:
        self._moved, self._filled = True, False
        self._era += 1

    async def settle(self) -> None:
        """Read the state of new partitions. Put the client where the order wants it: once Faust has moved it,
        and where nothing comes."""
        if self._faust_rests:
            return
        if not self._filled:
            era = self._era
            await self._fill(self._order.positions())
            if era != self._era or self._faust_rests:
                return
            self._filled = True
        if self._moved:
            self._moved = False
            await self._go_back(self._order.positions())
            return
        consumer = self._app.consumer
        assigned = consumer.assignment()
        await self._go_back(
            [
                tp
                for tp in self._order.positions()
                if tp in assigned and self._order.stalled(tp, consumer.highwater(tp))
            ]
        )

    async def commit(self) -> None:
        """Commit what is done. What Faust itself commits is what it acknowledged, so not by its `commit`."""
        consumer = self._app.consumer
        assigned = consumer.assignment()
        mine = {tp: offset for tp, offset in self._order.to_commit().items() if tp in assigned}
        if mine and await consumer._commit(mine):
            self._order.committed(mine)

    async def _go_back(self, tps: Iterable[Any]) -> None:
        consumer = self._app.consumer
        assigned = consumer.assignment()
        places = {tp: offset for tp in tps if (offset := self._order.next(tp)) is not None and tp in assigned}
        if places:
            async with asyncio.timeout(_SEEK_S):
                await consumer.seek_wait(places)
