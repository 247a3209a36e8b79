from __future__ import annotations

import asyncio

import pytest

from guard.errors import EngineDead, TemplateError
from guard.serving.question import Question
from schemas.verdict import Unjudged, Verdict
from tests.unit.workers.moderation.builders import make_asked, make_chosen, make_event, make_record, make_turn
from workers.moderation.ask_guard import SingleFlight, ask_guard, deadline_ms, question_of


def test_the_message_is_the_last_turn() -> None:
    question = question_of(make_asked(make_event(role="assistant", context=(make_turn("before"),))))
    assert [(turn.role, turn.text) for turn in question.turns] == [
        ("user", "before"),
        ("assistant", "hello there"),
    ]
    assert question.mode == "think"


def test_the_deadline_counts_from_the_brokers_timestamp() -> None:
    chosen = make_chosen(deadline_ms=500)
    record = make_record(timestamp_ms=1000)
    assert deadline_ms(make_asked(record=record)) is None
    assert deadline_ms(make_asked(chosen=chosen, record=record)) == 1500
    assert deadline_ms(make_asked(make_event(deadline_ms=70), chosen, record=record)) == 1070


class Guard:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def judge(self, question: Question) -> Verdict | Unjudged:
        raise self.error

    alive = True

    def estimate_tokens(self, question: Question) -> int:
        return 1


async def test_only_a_dead_guard_is_an_error_and_never_the_question() -> None:
    question = question_of(make_asked())
    with pytest.raises(EngineDead):
        await ask_guard(question, Guard(EngineDead("gone")))
    answer = await ask_guard(question, Guard(TemplateError("no mark is free")))
    assert answer == Unjudged(reason="engine_failed", detail="TemplateError")


class Work:
    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.may_end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.started += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return self.started


class Flights(SingleFlight[str, int]):
    """Where an asker boards and waits at once; the subject is of no interest."""

    async def join(self, key: str, work: Work, timeout_s: float | None = None) -> tuple[int, bool]:
        flight, joined = self.board(key, lambda: key, lambda _: work())
        return await self.wait(flight, timeout_s), joined


async def test_who_boards_late_finds_the_subject_of_the_first() -> None:
    flights, work = SingleFlight[str, int](), Work()
    work.may_end.set()
    first, joined = flights.board("k", lambda: "first", lambda _: work())
    second, joined_too = flights.board("k", lambda: "second", lambda _: work())
    assert (first is second, second.subject, joined, joined_too) == (True, "first", False, True)
    assert await flights.wait(first) == 1


async def test_identical_questions_share_one_task() -> None:
    flights, work = Flights(), Work()
    askers = [asyncio.create_task(flights.join("k", work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.may_end.set()
    assert await asyncio.gather(*askers) == [(1, False), (1, True), (1, True)]
    assert len(flights) == 0
    assert await flights.join("k", work) == (2, False)


async def test_the_last_to_leave_aborts_and_not_the_first() -> None:
    flights, work = Flights(), Work()
    first, second = (asyncio.create_task(flights.join("k", work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (work.cancelled, len(flights)) == (0, 1)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await asyncio.sleep(0)
    assert (work.cancelled, len(flights)) == (1, 0)


async def test_who_comes_after_the_abort_starts_anew() -> None:
    flights, work = Flights(), Work()
    with pytest.raises(TimeoutError):
        await flights.join("k", work, timeout_s=0.001)
    work.may_end.set()
    assert await flights.join("k", work) == (2, False)


async def test_an_impatient_asker_leaves_the_others_alone() -> None:
    flights, work = Flights(), Work()
    patient = asyncio.create_task(flights.join("k", work))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await flights.join("k", work, timeout_s=0.001)
    work.may_end.set()
    assert await patient == (1, False)


async def test_an_error_reaches_every_asker() -> None:
    flights, work = Flights(), Work()
    work.error = EngineDead("gone")
    work.may_end.set()
    results = await asyncio.gather(*(flights.join("k", work) for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results] == [EngineDead, EngineDead]
    assert len(flights) == 0
