from __future__ import annotations

from collections.abc import Collection

from workers.ports import RebalanceListener, Record
from workers.stream.flow import GRACE_S, Flow
from workers.stream.reader import Reader
from workers.stream.window import Caps, Load, Window

FULL, FREE = Load(100), Load(0)
CAPS = Caps(100, 10**6, 10**6)


class Source:
    """Writes down what it is told; gives what the test puts in `ready`."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ready: list[Record] = []

    async def join(self, listener: RebalanceListener) -> None: ...

    async def fetch(self, limit: int, timeout_s: float) -> list[Record]:
        self.told.append(f"fetch {limit}")
        given, self.ready = self.ready[:limit], self.ready[limit:]
        return given

    async def pause(self, partitions: Collection[int] | None = None) -> None:
        self.told.append(f"pause {'all' if partitions is None else sorted(partitions)}")

    async def resume(self, partitions: Collection[int] | None = None) -> None:
        self.told.append(f"resume {'all' if partitions is None else sorted(partitions)}")

    async def leave(self) -> None: ...


class Clock:
    now = 0.0

    def now_ms(self) -> float:
        return self.now * 1000

    def monotonic_s(self) -> float:
        return self.now


class World:
    def __init__(self) -> None:
        self.source, self.clock = Source(), Clock()
        self.flow = Flow(Window(Caps(1000, 10**6, 10**6), CAPS, 50))
        self.reader = Reader(self.source, self.flow, poll_s=0.005, stall_s=5.0, clock=self.clock)

    async def read(self, loads: dict[int, Load]) -> list[str]:
        """What the source was told meanwhile."""
        before = len(self.source.told)
        plan = self.reader.plan(loads)
        assert plan.limit
        await self.reader.read(plan)
        return self.source.told[before:]

    async def pause_zero(self) -> None:
        self.reader.plan({0: FULL, 1: FREE})
        self.clock.now += GRACE_S
        assert await self.read({0: FULL, 1: FREE}) == ["pause [0]", "fetch 50"]


async def test_a_full_partition_is_paused_once_and_resumed_once() -> None:
    world = World()
    await world.pause_zero()
    assert await world.read({0: FULL, 1: FREE}) == ["fetch 50"]
    assert await world.read({0: FREE, 1: FREE}) == ["resume [0]", "fetch 50"]
    assert await world.read({0: FREE, 1: FREE}) == ["fetch 50"]


async def test_a_short_stall_pauses_nothing_and_a_long_one_all_while_the_source_is_polled() -> None:
    world = World()
    assert await world.reader.wait(long=False) == ()
    assert world.source.told == []
    world.clock.now = 5.0
    await world.reader.wait(long=False)
    await world.reader.wait(long=False)
    assert world.source.told == ["pause all", "fetch 1", "fetch 1"]
    assert await world.read({0: FREE}) == ["resume all", "fetch 50"]
    world.source.told.clear()
    await world.reader.wait(long=False)  # the next stall begins anew
    assert world.source.told == []


async def test_what_is_known_to_last_pauses_at_once() -> None:
    world = World()
    await world.reader.wait(long=True)
    assert world.source.told == ["pause all", "fetch 1"]


async def test_what_comes_in_spite_of_the_pause_is_given_and_is_the_last() -> None:
    world = World()
    world.source.ready = [Record("t", 0, 0, None, None, None, 0)]
    assert len(await world.reader.wait(long=True)) == 1
    assert world.source.told == ["pause all", "fetch 1", "pause all"]


async def test_a_partition_paused_alone_stays_so_when_the_others_are_resumed() -> None:
    world = World()
    await world.pause_zero()
    await world.reader.wait(long=True)
    assert await world.read({0: FULL, 1: FREE}) == ["resume all", "pause [0]", "fetch 50"]


async def test_a_partition_that_left_paused_is_resumed_when_it_comes_back() -> None:
    world = World()
    await world.pause_zero()
    world.reader.left(0)
    assert await world.read({1: FREE}) == ["fetch 50"]
    assert await world.read({0: FREE, 1: FREE}) == ["resume [0]", "fetch 50"]
    assert await world.read({0: FREE, 1: FREE}) == ["fetch 50"]


async def test_one_that_left_while_all_were_paused_is_resumed_when_it_comes_back_later() -> None:
    world = World()
    await world.reader.wait(long=True)
    world.reader.left(0)
    assert await world.read({1: FREE}) == ["resume all", "fetch 50"]
    assert await world.read({0: FREE, 1: FREE}) == ["resume [0]", "fetch 50"]
