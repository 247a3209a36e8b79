"""Reads from the source what the plan says; waits without losing its place in the group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from workers.ports import Clock, EventSource, Record
from workers.stream.flow import Flow, Plan
from workers.stream.window import Load

# How often delivery reports are collected while nothing is fetched, in seconds. They release the window and
# nothing that a client waits for.
TICK_S: Final = 0.005
# Fetch timeout while paused: rebalances are served in fetches.
PAUSED_FETCH_S: Final = 0.1


class Reader:
    """One per stream.

    `stall_s`: a full window is waited for so long without fetching, since pausing throws prefetched records
    away; then the source is paused and polled after all. Far below any max.poll.interval.
    """

    def __init__(
        self, source: EventSource, flow: Flow, *, poll_s: float, stall_s: float, clock: Clock
    ) -> None:
        self._source, self._flow, self._clock = source, flow, clock
        self._poll_s, self._stall_s = poll_s, stall_s
        self._paused = False
        self._left_paused: set[int] = set()
        self._stalled_at: float | None = None

    def left(self, number: int) -> None:
        """The partition is not assigned any more."""
        if self._paused or number in self._flow.paused:
            # librdkafka remembers a pause beyond the assignment: when the partition comes back, it would
            # never be fetched again unless it is resumed.
            self._left_paused.add(number)
        self._flow.forget(number)

    def plan(self, loads: Mapping[int, Load]) -> Plan:
        """What may be read now, given what each assigned partition has in flight."""
        return self._flow.plan(loads, self._clock.monotonic_s())

    async def read(self, plan: Plan) -> Sequence[Record]:
        """Carry out a plan whose limit is not 0."""
        self._stalled_at = None
        if self._paused:
            await self._source.resume()
            self._paused = False
            self._left_paused -= plan.partitions
            if self._flow.paused:
                await self._source.pause(self._flow.paused)
        else:
            back = self._left_paused & plan.partitions
            self._left_paused -= back
            if resume := back | plan.resume:
                await self._source.resume(resume)
            if plan.pause:
                await self._source.pause(plan.pause)
        return await self._source.fetch(plan.limit, self._poll_s)

    async def wait(self, *, long: bool) -> Sequence[Record]:
        """Let a moment pass while nothing may be read; `long`: it is known that this lasts.

        What comes all the same, of a partition that was assigned just now, is given, since the source will
        not give it again.
        """
        now = self._clock.monotonic_s()
        if self._stalled_at is None:
            self._stalled_at = now
        if not long and now - self._stalled_at < self._stall_s:
            await asyncio.sleep(TICK_S)
            return ()
        if not self._paused:
            await self._source.pause()
            self._paused = True
        records = await self._source.fetch(1, PAUSED_FETCH_S)
        if records:  # its partition is read in spite of the pause; once, not for as long as the wait lasts
            await self._source.pause()
        return records
