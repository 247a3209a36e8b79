"""When what has expired is deleted, and what is never deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.workers.conduct.test_engine import review
from tests.unit.workers.conduct.world import START_S, World, decision, policy, rule
from tests.waiting import until
from workers.adapters.group_progress import Places, Progress
from workers.conduct.entries import Entry, Forget, Subject, Sweep
from workers.conduct.state import State, decode_state
from workers.conduct.sweeping import UNMOVED_S, Look, Sweeper, passed

DAY_S = 86_400
A, B = ("decisions", 0), ("entries", 1)


class App:
    """States of a world, three at a time, and what is published."""

    ready = True

    def __init__(self, world: World) -> None:
        self.world = world
        self.published: list[Entry] = []
        self.failure: BaseException | None = None
        self.refuses = False

    async def states(self) -> AsyncIterator[list[State]]:
        values = list(self.world.states.values())
        for first in range(0, len(values), 3):
            yield [decode_state(value) for value in values[first : first + 3]]

    async def publish(self, entries: Iterable[Entry]) -> None:
        if self.refuses:
            raise ConnectionError
        self.published.extend(entries)

    def fail(self, error: BaseException) -> None:
        self.failure = error


class Site:
    """A sweeper whose group has read everything, until it is told otherwise."""

    def __init__(self, world: World) -> None:
        self.app, self.now_s = App(world), 0.0
        self.places: Places | None = {A: Progress(7, 7)}
        self.sweeper = Sweeper(self.app, world.engine, lambda: self.places, lambda: self.now_s)

    async def swept(self) -> set[str]:
        """Kinds of what is to be deleted after two more looks."""
        self.app.published.clear()
        await self.sweeper.once()
        await self.sweeper.once()
        return {one.subject.kind for one in self.app.published}


def old_and_new() -> World:
    world = World([policy(rule())])
    world.decide(decision(1, 1), decision(2, 2))
    world.decide(decision(9, 3 * DAY_S, author="b"))
    return world


async def test_what_has_expired_is_swept_and_forgotten_authors_stay() -> None:
    world = World([policy(rule())])
    world.decide(decision(1, 1), decision(2, 2))
    world.take([Forget(subject=Subject("author", "acme", "z"), until_ms=1)])
    site = Site(world)
    assert await site.swept() == set()
    world.decide(decision(9, 3 * DAY_S, author="b"))
    assert await site.swept() == {"author", "decision", "message"}
    assert all(
        isinstance(one, Sweep) and one.by_ms == (START_S + 3 * DAY_S) * 1000 for one in site.app.published
    )
    world.take(site.app.published)
    assert world.state("author", "a") is None and world.state("author", "b") is not None
    assert world.state("author", "z") is not None


async def test_a_reviewers_clock_that_is_ahead_deletes_nothing() -> None:
    world = World([policy(rule())])
    world.decide(decision(1, 1), decision(2, 2))
    world.take([review(1, 900 * DAY_S, "safe"), review(7, 900 * DAY_S, "safe", "r2")])
    assert await Site(world).swept() == set()


async def test_a_tenant_whose_clock_is_slow_loses_nothing_by_anothers() -> None:
    world = World([policy(rule())])
    now = decision(1, 10 * DAY_S)
    slow = decision(2, 10 * DAY_S, tenant="globex", sent_at=now.sent_at - timedelta(days=5))
    world.decide(now, slow)
    assert await Site(world).swept() == set()
    assert world.state("author", "a", "globex") is not None


async def test_nothing_is_deleted_while_the_group_lacks_what_was_there_at_the_look() -> None:
    site = Site(old_and_new())
    site.places = {A: Progress(7, 9)}
    assert await site.swept() == set()
    site.places = {A: Progress(8, 20)}
    assert await site.swept() == set()
    site.places = {A: Progress(9, 40)}  # what came since does not matter
    await site.sweeper.once()
    assert site.app.published


async def test_where_the_brokers_do_not_say_nothing_is_deleted() -> None:
    site = Site(old_and_new())
    await site.sweeper.once()
    site.places = None
    await site.sweeper.once()
    assert site.app.published == []
    site.places = {A: Progress(7, 7)}
    await site.sweeper.once()
    site.places = None
    assert site.app.published
    assert await site.swept() == set()


def test_a_look_is_passed_when_every_partition_is() -> None:
    look = Look(0.0, 1, {A: Progress(3, 5), B: Progress(5, 5)})
    assert not passed(look, {A: Progress(4, 9), B: Progress(5, 9)}, UNMOVED_S * 2)
    assert passed(look, {A: Progress(5, 9), B: Progress(5, 9)}, 1.0)
    assert passed(look, {B: Progress(5, 9)}, 1.0)  # the topic is gone


def test_what_is_not_read_for_minutes_is_marks_of_transactions() -> None:
    look = Look(0.0, 1, {A: Progress(3, 5)})
    assert not passed(look, {A: Progress(3, 5)}, UNMOVED_S - 1)
    assert passed(look, {A: Progress(3, 5)}, UNMOVED_S)


@pytest.mark.parametrize("ready", [True, False])
async def test_what_goes_wrong_stops_the_app_and_one_that_is_not_ready_is_left_alone(ready: bool) -> None:
    site = Site(old_and_new())
    site.app.refuses, site.app.ready = True, ready
    looked: list[Any] = []

    def progress() -> Places:
        looked.append(1)
        return {A: Progress(7, 7)}

    sweeper = Sweeper(site.app, site.app.world.engine, progress, lambda: 0.0)
    task = asyncio.create_task(sweeper.run(0.001))
    try:
        if ready:
            await until(lambda: site.app.failure is not None)
            assert isinstance(site.app.failure, ConnectionError)
        else:
            await asyncio.sleep(0.05)
            assert not looked
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
