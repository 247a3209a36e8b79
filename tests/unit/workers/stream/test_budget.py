from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.stream.budget import Claim, Duration, GuardBudget


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """Callers of a budget; each stays at the guard until it is told to leave."""

    def __init__(self, calls: int = 1, tokens: int = 1000) -> None:
        self.clock = Clock()
        self.budget = GuardBudget(calls=calls, tokens=tokens, clock=self.clock)
        self.entered: list[str] = []
        self.may_leave: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(
        self, name: str, tokens: int = 10, deadline_s: float | None = None, *, alone: bool = False
    ) -> Claim:
        claim = Claim(tokens, deadline_s=deadline_s)
        self.may_leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._ask(name, claim, alone))
        await turns()
        return claim

    async def _ask(self, name: str, claim: Claim, alone: bool) -> None:
        async with self.budget.alone() if alone else self.budget.hold(claim):
            self.entered.append(name)
            await self.may_leave[name].wait()

    async def leave(self, *names: str) -> None:
        for name in names:
            self.may_leave[name].set()
            await turns()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self.tasks[name].cancel()
        await asyncio.gather(*(self.tasks[name] for name in names), return_exceptions=True)

    async def leave_as_they_come(self) -> list[str]:
        """Let everybody go; the order in which all of them entered."""
        async with asyncio.timeout(10):
            while any(not task.done() for task in self.tasks.values()):
                await self.leave(*[name for name in self.entered if not self.tasks[name].done()])
        return self.entered


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_calls_beyond_the_budget_wait_in_order() -> None:
    desk = Desk()
    for name in "abc":
        await desk.come(name)
    assert (desk.entered, desk.budget.waiting, desk.budget.waiting_tokens) == (["a"], 2, 20)
    assert await desk.leave_as_they_come() == ["a", "b", "c"]
    assert (desk.budget.tokens, desk.budget.waiting_tokens) == (0, 0)


async def test_tokens_are_counted_and_a_giant_goes_alone() -> None:
    desk = Desk(calls=10, tokens=100)
    await desk.come("first", 60)
    await desk.come("giant", 500)
    await desk.come("small", 10)
    # The small one would fit, but nobody overtakes.
    assert (desk.budget.tokens, desk.budget.waiting_tokens) == (60, 510)
    assert await desk.leave_as_they_come() == ["first", "giant", "small"]
    assert desk.budget.tokens == 0


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("admitted", [False, True])
async def test_who_is_cancelled_while_waiting_takes_nothing(admitted: bool, alone: bool) -> None:
    desk = Desk()
    await desk.come("first")
    await desk.come("waits", alone=alone)
    if admitted:  # given its place, and cancelled before it could run
        desk.may_leave["first"].set()
        await asyncio.sleep(0)
    await desk.cancel("waits")
    await desk.come("next")
    await desk.leave("first")
    assert (desk.entered, desk.budget.waiting) == (["first", "next"], 0)
    await desk.leave_as_they_come()
    assert desk.budget.tokens == 0


async def test_a_place_goes_past_who_is_cancelled_in_the_same_moment() -> None:
    desk = Desk()
    for name in "abc":
        await desk.come(name)
    desk.tasks["b"].cancel()
    desk.may_leave["a"].set()
    await turns()
    assert desk.entered == ["a", "c"]


async def test_the_nearest_deadline_goes_first_while_everybody_can_make_it() -> None:
    desk = Desk()
    await desk.come("busy")
    for name, deadline in (("far", 90.0), ("near", 30.0), ("middle", 60.0)):
        await desk.come(name, deadline_s=deadline)
    assert await desk.leave_as_they_come() == ["busy", "near", "middle", "far"]


async def test_under_pressure_the_newest_goes_first_and_the_hopeless_last() -> None:
    desk = Desk()
    desk.budget.took("", 10.0)
    await desk.come("busy")
    for name, deadline in (("hopeless", 9.0), ("old", 40.0), ("new", 40.0)):
        await desk.come(name, deadline_s=deadline)
    assert await desk.leave_as_they_come() == ["busy", "new", "old", "hopeless"]


async def test_a_guard_without_work_is_asked_even_when_time_seems_too_short() -> None:
    desk = Desk()
    desk.budget.took("", 1000.0)
    await desk.come("a", deadline_s=1.0)
    await desk.come("b", deadline_s=1.0)
    await desk.leave("a")
    assert desk.entered == ["a", "b"]


async def test_who_has_no_deadline_gets_every_second_place() -> None:
    desk = Desk()
    desk.budget.took("", 10.0)
    await desk.come("busy", deadline_s=50.0)
    for number in range(3):
        await desk.come(f"patient {number}")
        await desk.come(f"urgent {number}", deadline_s=50.0 + number)
    order = await desk.leave_as_they_come()
    assert [name for name in order if name.startswith("patient")] == [f"patient {n}" for n in range(3)]
    assert [name.split()[0] for name in order[1:]] == ["patient", "urgent"] * 3


async def test_a_deadline_that_moves_away_moves_the_claim() -> None:
    desk = Desk()
    await desk.come("busy")
    first = await desk.come("first", deadline_s=10.0)
    second = await desk.come("second", deadline_s=20.0)
    third = await desk.come("third", deadline_s=30.0)
    desk.budget.postpone(first, 40.0)
    desk.budget.postpone(second, 5.0)  # somebody else may wait longer
    desk.budget.postpone(third, None)
    assert (first.deadline_s, second.deadline_s, third.deadline_s) == (40.0, 20.0, None)
    assert desk.budget.waiting_tokens == 30
    assert await desk.leave_as_they_come() == ["busy", "third", "second", "first"]


async def test_who_goes_alone_waits_for_the_others_and_keeps_them_out() -> None:
    desk = Desk(calls=10)
    await desk.come("a")
    await desk.come("b")
    await desk.come("alone 1", alone=True)
    await desk.come("alone 2", alone=True)
    await desk.come("c")
    assert desk.entered == ["a", "b"]
    await desk.leave("a", "b")
    assert desk.entered == ["a", "b", "alone 1"]
    await desk.come("d")
    await desk.leave("alone 1")
    assert desk.entered[3:] == ["alone 2"]
    await desk.leave("alone 2")
    assert desk.entered[4:] == ["c", "d"]
    await desk.leave_as_they_come()


def test_the_usual_duration_follows_what_it_sees() -> None:
    duration = Duration()
    assert duration.likely_s == 0.0
    duration.learn(2.0)
    assert duration.likely_s == 3.0
    for _ in range(100):
        duration.learn(1.0)
    assert 1.0 <= duration.likely_s < 1.1
    before = duration.likely_s
    duration.learn(0.1, answered=False)
    assert duration.likely_s == before
    duration.learn(50.0, answered=False)
    assert duration.likely_s > 5.0


@given(st.lists(st.floats(0.001, 100.0), min_size=1, max_size=50))
def test_the_usual_duration_stays_within_what_was_seen(seconds: list[float]) -> None:
    duration = Duration()
    for each in seconds:
        duration.learn(each)
    # Mean and mean deviation of values within a range are within the range and its width.
    assert min(seconds) * 0.99 <= duration.likely_s <= max(seconds) * 2.01


Step = tuple[str, int, int]


@settings(max_examples=150, deadline=None)
@given(
    calls=st.integers(1, 4),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["patient", "urgent", "alone", "leave", "cancel", "time", "took", "postpone"]),
            st.integers(0, 30),
            st.integers(0, 120),
        ),
        max_size=60,
    ),
)
async def test_whatever_happens_caps_hold_and_everybody_gets_a_turn(calls: int, steps: list[Step]) -> None:
    world = World(calls)
    for step in steps:
        await world.take(step)
        world.check()
    await world.drain()
    world.check()
    assert (world.budget.tokens, world.budget.waiting, world.budget.waiting_tokens) == (0, 0, 0)
    assert world.entered_or_left == world.came
    patients = [number for number in world.order if number in world.patient]
    assert patients == sorted(patients)


TOKENS = 100


@dataclass
class World:
    """Callers who come, wait, enter, leave and are cancelled in any order."""

    calls: int
    clock: Clock = field(default_factory=Clock)
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    claims: dict[int, Claim] = field(default_factory=dict)
    inside: dict[int, asyncio.Event] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    patient: set[int] = field(default_factory=set)
    order: list[int] = field(default_factory=list)
    came: set[int] = field(default_factory=set)
    entered_or_left: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.budget = GuardBudget(calls=self.calls, tokens=TOKENS, clock=self.clock)

    async def take(self, step: Step) -> None:
        what, which, size = step
        match what:
            case "patient" | "urgent" | "alone":
                if what == "patient":  # who was given a place notes it before the next one takes one
                    await turns()
                self.come(what, size)
            case "leave" if self.inside:
                list(self.inside.values())[which % len(self.inside)].set()
            case "cancel" if waiting := [n for n in self.tasks if n not in self.inside]:
                number = waiting[which % len(waiting)]
                self.tasks[number].cancel()
                self.entered_or_left.add(number)
                self.patient.discard(number)
            case "postpone" if self.claims:
                number = list(self.claims)[which % len(self.claims)]
                if number not in self.alone:
                    self.budget.postpone(self.claims[number], None if size > 100 else size)
            case "time":
                self.clock.now += which
            case "took":
                self.budget.took("", float(which), answered=size % 2 == 0)
        if which % 3:  # several things happen within one turn of the loop, or not
            await turns()

    def come(self, what: str, size: int) -> None:
        number = len(self.came)
        claim = Claim(size, deadline_s=self.clock.now + size if what == "urgent" else None)
        self.came.add(number)
        self.claims[number] = claim
        if what == "patient":
            self.patient.add(number)
        if what == "alone":
            self.alone.add(number)
        self.tasks[number] = asyncio.create_task(self.ask(number, claim))
        self.tasks[number].add_done_callback(lambda _: self.tasks.pop(number))

    async def ask(self, number: int, claim: Claim) -> None:
        async with self.budget.alone() if number in self.alone else self.budget.hold(claim):
            self.entered_or_left.add(number)
            self.order.append(number)
            self.inside[number] = asyncio.Event()
            try:
                await self.inside[number].wait()
            finally:
                del self.inside[number]

    def check(self) -> None:
        inside: Sequence[int] = list(self.inside)
        if self.alone & set(inside):
            assert len(inside) == 1
        assert len(inside) <= self.calls
        tokens = sum(self.claims[number].tokens for number in inside if number not in self.alone)
        assert tokens <= TOKENS or len(inside) == 1

    async def drain(self) -> None:
        async with asyncio.timeout(2):
            while self.tasks:
                for event in list(self.inside.values()):
                    event.set()
                await turns()
                self.check()


@dataclass(frozen=True)
class Load:
    """How a simulated guard fared."""

    in_time: float
    mean_s: float


async def overload(budget: Any, factor: float, *, seed: int, plain: bool) -> Load:
    """Messages at `factor` × capacity for a guard of 4 places that takes 1 s; each has 5 s."""
    random_ = random.Random(seed)
    clock = budget._clock
    arrivals: list[float] = []
    while len(arrivals) < 800:
        arrivals.append((arrivals[-1] if arrivals else 0.0) + random_.expovariate(4 * factor))
    waiting: dict[int, tuple[asyncio.Task[None], float]] = {}
    inside: dict[int, tuple[asyncio.Event, float]] = {}
    took: list[float] = []

    async def ask(number: int, deadline: float) -> None:
        claim = Claim(1, deadline_s=None if plain else deadline)
        async with budget.hold(claim):
            inside[number] = (asyncio.Event(), clock.now)
            await inside[number][0].wait()

    upcoming = dict(enumerate(arrivals))
    while upcoming or waiting:
        instants = [min(upcoming.values(), default=float("inf"))]
        instants += [min(begun + 1.0, waiting[n][1]) for n, (_, begun) in inside.items()]
        instants += [deadline for _, deadline in waiting.values()]
        clock.now = min(instants)
        for number, begun in [(n, begun) for n, (_, begun) in inside.items()]:
            if begun + 1.0 <= clock.now:
                took.append(clock.now - arrivals[number])
                budget.took("", 1.0)
                inside.pop(number)[0].set()
                waiting.pop(number)
                await turns()
        for number in [n for n, (_, deadline) in waiting.items() if deadline <= clock.now]:
            if number in inside:
                budget.took("", clock.now - inside.pop(number)[1], answered=False)
            task = waiting.pop(number)[0]
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await turns()
        for number in [n for n, at in upcoming.items() if at <= clock.now]:
            at = upcoming.pop(number)
            waiting[number] = (asyncio.create_task(ask(number, at + 5.0)), at + 5.0)
            await turns()
    return Load(len(took) / len(arrivals), sum(took) / max(1, len(took)))


@pytest.mark.parametrize("seed", range(3))
async def test_at_twice_the_capacity_about_half_is_in_time_and_soon(seed: int) -> None:
    plain = await overload(GuardBudget(calls=4, tokens=100, clock=Clock()), 2.0, seed=seed, plain=True)
    ours = await overload(GuardBudget(calls=4, tokens=100, clock=Clock()), 2.0, seed=seed, plain=False)
    assert plain.in_time < 0.25
    assert ours.in_time > 0.45
    assert ours.mean_s < 0.7 * plain.mean_s


async def test_below_the_capacity_nothing_is_lost_by_it() -> None:
    plain = await overload(GuardBudget(calls=4, tokens=100, clock=Clock()), 0.8, seed=1, plain=True)
    ours = await overload(GuardBudget(calls=4, tokens=100, clock=Clock()), 0.8, seed=1, plain=False)
    assert ours.in_time >= plain.in_time > 0.98
