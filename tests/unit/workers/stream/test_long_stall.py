"""A guard that hangs for an hour, on a clock that needs no hour."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from tests.unit.workers.stream.simulation import WINDOW, Broker, FakeTimeLoop, Life
from workers.ports import Record

HOUR_S = 3600.0


@pytest.fixture
def events() -> Iterator[FakeTimeLoop]:
    loop = FakeTimeLoop()
    yield loop
    loop.close()


class Polls:
    """The longest time without a poll: the group takes a member's partitions away after max.poll.interval."""

    def __init__(self, life: Life, events: FakeTimeLoop) -> None:
        self.longest_s, self._last_s, self._events = 0.0, events.time(), events
        self._fetch = life.source.fetch
        life.source.fetch = self.fetch  # type: ignore[method-assign]

    async def fetch(self, limit: int, timeout_s: float) -> list[Record]:
        self.longest_s = max(self.longest_s, self._events.time() - self._last_s)
        records = await self._fetch(limit, timeout_s)
        self._last_s = self._events.time()
        return records


def test_memory_is_flat_and_the_source_is_polled_for_as_long_as_the_guard_hangs(events: FakeTimeLoop) -> None:
    broker = Broker()
    for number in (0, 1):
        for offset in range(500):
            broker.append(number, "ask", b"%d" % (offset % 7), 1)

    async def scenario() -> None:
        life = Life(broker)
        polls = Polls(life, events)
        for number in (0, 1):
            life.source.give(number)
        life.outcomes.at_once = True
        await asyncio.sleep(60)
        gc.collect()
        before = life.loop.load, len(life.path.gates), len(asyncio.all_tasks()), len(gc.get_objects())
        await asyncio.sleep(HOUR_S)
        life.source.revoke(1)  # the group goes on meanwhile
        await asyncio.sleep(5)
        life.source.give(1)
        await asyncio.sleep(HOUR_S)
        gc.collect()
        after = life.loop.load, len(life.path.gates), len(asyncio.all_tasks()), len(gc.get_objects())
        # The partition that came back in the middle is not read before there is room for it.
        assert after[0].records <= before[0].records <= WINDOW.total.records
        assert after[1:3] <= before[1:3]
        assert after[3] < before[3] + 100
        assert polls.longest_s < 2.0
        assert broker.written == []
        while any(broker.start_of(number) < 500 for number in (0, 1)):
            for gate in list(life.path.gates.values()):
                if not gate.done():
                    gate.set_result(None)
            await asyncio.sleep(0.1)
        assert broker.inversions() == []
        assert not broker.undecided(0)
        assert not broker.undecided(1)
        life.stopping.set()
        await life.task
        await life.outage.close()

    events.run_until_complete(scenario())
