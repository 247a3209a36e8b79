"""Where the client reads, against a consumer that forgets its place as Faust's does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from workers.conduct.reading import Reading


class Tp(NamedTuple):
    topic: str
    partition: int


A, B, STATE = Tp("decisions", 0), Tp("decisions", 1), Tp("state", 0)


class Consumer:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.assigned = {A, B, STATE}
        self.group: dict[Tp, int | None] = {A: 7, B: None, STATE: None}
        self.seeks: list[dict[Tp, int]] = []
        self.commits: list[dict[Tp, int]] = []
        self.accepts = True
        self.end: dict[Tp, int] = {}

    def assignment(self) -> set[Tp]:
        return self.assigned

    async def seek_to_committed(self) -> Mapping[Tp, int | None]:
        return self.group

    async def earliest_offsets(self, *tps: Tp) -> Mapping[Tp, int]:
        return dict.fromkeys(tps, 3)

    async def seek_wait(self, places: dict[Tp, int]) -> None:
        self.seeks.append(places)

    def highwater(self, tp: Tp) -> int | None:
        return self.end.get(tp)

    async def _commit(self, offsets: dict[Tp, int]) -> bool:
        self.commits.append(offsets)
        return self.accepts


class Site:
    """A reading that has begun, and what was done in it."""

    def __init__(self) -> None:
        self.consumer = Consumer()
        self.app = SimpleNamespace(consumer=self.consumer, rebalancing=False, in_recovery=False)
        self.reading = Reading(self.app, ["decisions"], self.fill)
        self.done: list[tuple[Tp, int]] = []
        self.filled: list[set[Tp]] = []

    async def fill(self, tps: Iterable[Tp]) -> None:
        self.filled.append(set(tps))

    async def begin(self) -> None:
        await self.reading.begin([A, B, STATE])

    async def step(self, event: Any) -> None:
        self.done.append((event.message.tp, event.message.offset))

    async def comes(self, tp: Tp, *offsets: int) -> None:
        for offset in offsets:
            event = SimpleNamespace(message=SimpleNamespace(tp=tp, offset=offset))
            await self.reading.one(event, self.step)


async def begun() -> Site:
    site = Site()
    await site.begin()
    await site.reading.settle()
    site.consumer.seeks.clear()
    return site


async def test_partitions_begin_at_what_is_committed_and_else_at_their_beginning() -> None:
    site = Site()
    await site.begin()
    await site.reading.settle()
    assert site.consumer.seeks == [{A: 7, B: 3}]
    await site.reading.settle()
    assert len(site.consumer.seeks) == 1
    assert site.reading.here(A) and not site.reading.here(STATE)


async def test_records_are_done_in_order_and_then_committed() -> None:
    site = await begun()
    await site.comes(A, 7, 8, 7, 8, 9)
    assert site.done == [(A, 7), (A, 8), (A, 9)]
    await site.reading.commit()
    await site.reading.commit()
    assert site.consumer.commits == [{A: 10}]


async def test_a_record_that_was_skipped_is_read_again_and_nothing_after_it_is_committed_before() -> None:
    site = await begun()
    await site.comes(A, 8, 9)
    assert site.done == [] and site.consumer.seeks == [{A: 7}]
    await site.reading.commit()
    assert site.consumer.commits == []
    await site.comes(A, 7, 8, 9)
    assert site.done == [(A, 7), (A, 8), (A, 9)]


@pytest.mark.parametrize("state", ["rebalancing", "in_recovery"])
async def test_nothing_is_done_while_faust_rests_and_all_comes_again(state: str) -> None:
    site = await begun()
    setattr(site.app, state, True)
    await site.comes(A, 7)
    await site.reading.settle()
    assert site.done == [] and site.consumer.seeks == []
    setattr(site.app, state, False)
    await site.reading.settle()
    assert site.consumer.seeks == [{A: 7, B: 3}]


async def test_nothing_is_done_before_the_state_is_read_once_for_each_assignment() -> None:
    site = Site()
    await site.begin()
    await site.comes(A, 7)
    assert site.done == []
    for _ in range(2):
        await site.reading.settle()
    assert site.filled == [{A, B}]
    await site.comes(A, 7)
    await site.begin()
    await site.comes(A, 8)
    assert site.done == [(A, 7)]
    await site.reading.settle()
    assert len(site.filled) == 2


async def test_state_that_was_read_while_partitions_went_is_read_again() -> None:
    site = Site()
    await site.begin()
    fill = site.reading._fill

    async def overtaken(tps: Iterable[Tp]) -> None:
        await fill(tps)
        if len(site.filled) == 1:
            await site.begin()

    site.reading._fill = overtaken
    await site.reading.settle()
    assert site.reading.resting and site.consumer.seeks == []
    await site.reading.settle()
    assert len(site.filled) == 2
    await site.comes(A, 7)
    assert site.done == [(A, 7)]


async def test_a_step_that_fails_leaves_its_record_undone() -> None:
    site = await begun()

    async def fails(_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await site.reading.one(SimpleNamespace(message=SimpleNamespace(tp=A, offset=7)), fails)
    await site.reading.commit()
    assert site.consumer.commits == []


async def test_what_the_broker_refused_to_commit_is_committed_later() -> None:
    site = await begun()
    await site.comes(A, 7)
    site.consumer.accepts = False
    await site.reading.commit()
    site.consumer.accepts = True
    await site.reading.commit()
    assert site.consumer.commits == [{A: 8}, {A: 8}]


async def test_of_partitions_that_went_nothing_is_done_committed_or_read() -> None:
    site = await begun()
    await site.comes(A, 7)
    site.consumer.assigned = {B}
    await site.reading.commit()
    await site.reading.settle()
    assert site.consumer.commits == [] and site.consumer.seeks == []
    site.reading.end()
    await site.comes(B, 3)
    assert site.done == [(A, 7)] and not site.reading.here(B)


async def test_without_partitions_of_the_sources_nothing_is_asked_of_the_broker() -> None:
    site = Site()
    site.consumer.assigned = set()
    await site.reading.begin([STATE])
    await site.reading.settle()
    assert site.consumer.seeks == []


async def test_a_partition_that_stands_still_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("workers.conduct.reading.time.monotonic", lambda: now)
    site = await begun()
    site.consumer.end = {A: 8, B: 3}
    now += 3.0
    await site.reading.settle()
    assert site.consumer.seeks == [{A: 7}]
