from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from workers.ports import NoJournal, Position, Publication, Record
from workers.stream import commits
from workers.stream.commits import Commits
from workers.stream.partition import AssignedPartition, Ticket
from workers.stream.window import Caps, Window

CAPS = Caps(8, 1000, 1000)


class Outcomes:
    def __init__(self) -> None:
        self.asked: list[Mapping[int, Position]] = []
        self.refused: set[int] = set()

    def publish(self, ticket: Any, publication: Publication) -> None: ...

    def collect(self) -> tuple[Sequence[Any], Sequence[Any]]:
        return [], []

    async def commit(self, positions: Mapping[int, Position]) -> Collection[int]:
        self.asked.append(positions)
        return positions.keys() - self.refused

    async def flush(self, timeout_s: float) -> None: ...


class Clock:
    now = 0.0

    def now_ms(self) -> float:
        return self.now * 1000

    def monotonic_s(self) -> float:
        return self.now


class Observer:
    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def committed(self, asked: int, taken: int) -> None:
        self.told.append((asked, taken))


class World:
    def __init__(self) -> None:
        self.outcomes, self.clock, self.observer = Outcomes(), Clock(), Observer()
        self.partitions = [AssignedPartition(0), AssignedPartition(1)]
        self.commits = Commits(
            self.outcomes,
            NoJournal(),
            Window(CAPS, CAPS, 4),
            interval_s=10.0,
            clock=self.clock,
            observer=self.observer,
        )

    def finish(self, number: int, *offsets: int) -> None:
        partition = self.partitions[number]
        for offset in offsets:
            ticket = Ticket(partition, Record("t", number, offset, b"k", b"v", None, 0), 2, 0.0)
            partition.offsets.read(ticket)
            partition.offsets.done(ticket)


async def test_only_what_is_new_is_asked_for() -> None:
    world = World()
    world.finish(0, 3, 4)
    await world.commits.commit(world.partitions)
    await world.commits.commit(world.partitions)
    assert world.outcomes.asked == [{0: Position(5)}]
    assert world.observer.told == [(1, 1)]


async def test_it_is_due_when_the_interval_is_over() -> None:
    world = World()
    due = []
    for now in (0.0, 0.0, 9.9, 10.0):
        world.clock.now = now
        due.append(world.commits.due(world.partitions))
        if not now:
            await world.commits.commit(world.partitions)
    assert due == [True, False, False, True]


async def test_what_one_partition_is_refused_the_other_keeps() -> None:
    world = World()
    world.outcomes.refused = {1}
    world.finish(0, 3)
    world.finish(1, 7)
    await world.commits.commit(world.partitions)
    assert [partition.offsets.records for partition in world.partitions] == [0, 1]
    assert world.observer.told == [(2, 1)]
    world.outcomes.refused = set()
    await world.commits.commit(world.partitions)
    assert world.outcomes.asked[-1] == {1: Position(8)}


async def test_the_last_commit_is_tried_again_while_the_broker_refuses() -> None:
    world = World()
    world.finish(0, 3)
    world.finish(1, 7)
    world.outcomes.refused = {1}
    asyncio.get_running_loop().call_later(0.05, world.outcomes.refused.clear)
    await world.commits.commit_last(world.partitions)
    assert world.outcomes.asked == [{0: Position(4), 1: Position(8)}, {1: Position(8)}]


async def test_the_last_commit_gives_up_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "_LAST_TRY_S", 0.05)
    monkeypatch.setattr(commits, "_LAST_PAUSE_S", 0.02)
    world = World()
    world.finish(0, 3)
    world.outcomes.refused = {0}
    await world.commits.commit_last(world.partitions)
    assert 2 <= len(world.outcomes.asked) <= 5
    await world.commits.commit_last([])


async def test_a_commit_that_makes_room_is_not_put_off_unless_the_broker_refuses() -> None:
    world = World()
    world.finish(0, 3)
    assert not world.commits.frees(world.partitions)
    world.finish(0, 4)
    assert world.commits.frees(world.partitions)
    world.outcomes.refused = {0}
    await world.commits.commit(world.partitions)
    assert not world.commits.frees(world.partitions)
