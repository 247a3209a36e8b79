from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.waiting import until
from workers.stream.outage import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S, Outage


class Gone(Exception):
    pass


class Guard:
    """Fails the first starts; `end` is its death."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.failures, self.error, self.starts = failures, error or Gone(), 0
        self.ended = asyncio.Event()

    async def start(self) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            raise self.error
        self.ended.clear()

    async def gone(self) -> None:
        await self.ended.wait()

    def end(self) -> None:
        self.ended.set()


class Observer:
    def __init__(self) -> None:
        self.changes: list[bool] = []
        self.failures: list[tuple[str, float]] = []

    def guard_changed(self, down: bool) -> None:
        self.changes.append(down)

    def guard_not_back(self, error: Exception, pause_s: float) -> None:
        self.failures.append((type(error).__name__, pause_s))


class Subject:
    """An outage on a clock that its pauses move."""

    def __init__(
        self,
        guard: Guard,
        alive: Callable[[], bool] = lambda: False,
        gave_up: Callable[[], None] = lambda: None,
    ) -> None:
        self.now, self.pauses, self.observer, self.guard = 0.0, list[float](), Observer(), guard
        self.outage = Outage(
            guard.start,
            Gone,
            observer=self.observer,
            alive=alive,
            gave_up=gave_up,
            sleep=self._sleep,
            clock=lambda: self.now,
        )

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def go_through(self) -> None:
        self.outage.begin()
        await self.outage.hold()


async def test_who_holds_goes_on_when_the_guard_is_back() -> None:
    subject = Subject(Guard(3))
    outage = subject.outage
    outage.begin()
    outage.begin()
    holders = [asyncio.create_task(outage.hold()) for _ in range(3)]
    await asyncio.sleep(0)
    assert outage.down
    assert outage.holding
    await asyncio.gather(*holders)
    assert [outage.down, outage.holding] == [False, False]
    assert subject.guard.starts == 4
    assert subject.pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert subject.observer.changes == [True, False]
    assert subject.observer.failures == [("Gone", pause) for pause in subject.pauses]


async def test_pauses_do_not_grow_without_end() -> None:
    subject = Subject(Guard(20))
    await subject.go_through()
    assert max(subject.pauses) == LONGEST_PAUSE_S


async def test_a_guard_that_dies_at_once_again_is_given_time() -> None:
    subject = Subject(Guard())
    for _ in range(3):
        await subject.go_through()
    assert subject.pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S]


async def test_after_a_steady_time_the_guard_is_started_at_once() -> None:
    subject = Subject(Guard())
    for _ in range(3):
        await subject.go_through()
        subject.now += STEADY_S
    assert subject.pauses == []


async def test_a_guard_that_dies_idle_is_brought_back() -> None:
    subject = Subject(Guard())
    subject.outage.watch(subject.guard.gone)
    for number in range(1, 4):
        subject.guard.end()
        await until(lambda number=number: subject.guard.starts == number and not subject.outage.down)  # type: ignore[misc]
    assert subject.observer.changes == [True, False] * 3
    await subject.outage.close()


async def test_a_death_that_was_dealt_with_begins_nothing() -> None:
    subject = Subject(Guard(), alive=lambda: True)
    subject.outage.begin()
    assert not subject.outage.down
    await subject.outage.hold()
    assert subject.guard.starts == 0


async def test_an_error_that_is_not_recoverable_is_kept_and_reaches_who_holds() -> None:
    told = asyncio.Event()
    subject = Subject(Guard(1, ValueError("broken")), gave_up=told.set)
    with pytest.raises(ValueError, match="broken"):
        await subject.go_through()
    assert not subject.outage.holding
    assert subject.outage.down
    assert told.is_set()
    assert isinstance(subject.outage.failure, ValueError)


async def test_an_error_that_is_not_recoverable_is_told_when_nobody_holds() -> None:
    told = asyncio.Event()
    subject = Subject(Guard(1, ValueError("broken")), gave_up=told.set)
    subject.outage.watch(subject.guard.gone)
    subject.guard.end()
    await told.wait()
    await until(lambda: not subject.outage._tasks)
    assert subject.guard.starts == 1
    assert isinstance(subject.outage.failure, ValueError)


async def test_the_first_start_is_tried_again_only_so_often_and_only_after_the_error_named() -> None:
    subject = Subject(Guard(2))
    await subject.outage.bring_up(Gone, 3)
    assert subject.guard.starts == 3
    assert subject.pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S]
    with pytest.raises(Gone):
        await Subject(Guard(3)).outage.bring_up(Gone, 3)
    broken = Subject(Guard(1, ValueError("broken")))
    with pytest.raises(ValueError, match="broken"):
        await broken.outage.bring_up(Gone, 3)
    assert broken.guard.starts == 1


async def test_nobody_waits_while_the_guard_is_up() -> None:
    await Subject(Guard()).outage.hold()


async def test_closing_ends_the_tries_the_watch_and_the_waiting() -> None:
    subject = Subject(Guard(10**9))
    outage = subject.outage
    outage.watch(subject.guard.gone)
    outage.begin()
    holder = asyncio.create_task(outage.hold())
    await asyncio.sleep(0)
    await outage.close()
    with pytest.raises(asyncio.CancelledError):
        await holder
    assert not outage._tasks
