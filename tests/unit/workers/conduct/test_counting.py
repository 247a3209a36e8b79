"""What is published before what is kept, and what goes with an author who is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from tests.unit.workers.conduct.test_engine import read_strike
from tests.unit.workers.conduct.world import START_S, World, decision, policy, rule
from workers.conduct.counting import Counting
from workers.conduct.engine import Step
from workers.conduct.entries import Erase, Forget, Subject, author_digest
from workers.conduct.metrics import ConductMetrics
from workers.conduct.states import Change, States
from workers.errors import StreamStopped


class Tp:
    topic, partition = "entries", 1


class Memory:
    """States, two at a time, and how what was published and what was kept followed each other."""

    def __init__(self, states: dict[bytes, bytes]) -> None:
        self.states, self.events = states, list[str]()
        self.steps: list[Step] = []

    def get(self, key: bytes) -> bytes | None:
        return self.states.get(key)

    async def keep(self, partition: int, changes: list[Change]) -> None:
        assert partition == 1
        self.events.append("kept")
        for key, value in changes:
            if value is None:
                self.states.pop(key, None)
            else:
                self.states[key] = value

    async def chunks(
        self, partition: int, here: Callable[[], bool]
    ) -> AsyncIterator[list[tuple[bytes, bytes]]]:
        items = sorted(self.states.items())
        for first in range(0, len(items), 2):
            if not here():
                return
            yield items[first : first + 2]

    async def step(self, made: Step) -> None:
        self.events.append("published")
        self.steps.append(made)


class Site:
    """Counting into memory."""

    def __init__(self, world: World) -> None:
        self.memory, self.here = Memory(world.states), True
        self.metrics = ConductMetrics()
        self.counting = Counting(
            world.engine, cast(States, self.memory), self.memory, self.metrics, lambda _: self.here
        )

    async def take(self, *entries: Any) -> None:
        for one in entries:
            await self.counting.take(Tp, one)

    def count(self, result: str) -> float:
        found = self.metrics.registry.get_sample_value("rsafe_conduct_entries_total", {"result": result})
        assert found is not None
        return found


async def test_what_follows_is_published_before_the_state_is_kept() -> None:
    world = World([policy(rule())])
    site = Site(world)
    await site.take(*read_strike(world, 1, 1), *read_strike(world, 1, 1))
    assert site.memory.events == ["published", "kept", "published"]
    assert (site.count("counted"), site.count("repeated")) == (1, 1)


async def test_the_state_of_another_process_is_not_written() -> None:
    world = World([policy(rule())])
    site = Site(world)
    site.here = False
    with pytest.raises(StreamStopped):
        await site.take(*read_strike(world, 1, 1))
    assert site.memory.states == {}


async def test_a_forget_goes_to_every_partition_and_leaves_the_author_in_no_state_of_this_one() -> None:
    world = World([policy(rule(), rule("room", per="conversation"))])
    world.decide(decision(1, 1), decision(2, 2), decision(3, 3, author="b"))
    site = Site(world)
    await site.take(Forget(subject=Subject("author", "acme", "a"), until_ms=(START_S + 9) * 1000))
    ((erase,),) = [step.entries for step in site.memory.steps]
    assert isinstance(erase, Erase)
    await site.take(erase, erase)
    digest = author_digest("acme", "a").encode()
    assert not any(digest in value for value in site.memory.states.values())
    room = world.state("conversation", "c")
    assert room is not None and list(room.strikes) == [f"{3:064x}"]
    assert site.count("dropped") == 2


async def test_an_erasure_that_loses_its_partition_is_not_done() -> None:
    world = World([policy(rule())])
    world.decide(decision(1, 1))
    site = Site(world)
    site.here = False
    with pytest.raises(StreamStopped):
        await site.take(Erase(subject=Subject("author", "acme", "a"), author=author_digest("acme", "a")))
    assert len(site.memory.states) == 3 and site.count("dropped") == 0
