"""Many lines at a time: every one once, in order, within bounds."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import EngineDead
from tests.unit.workers.lines.worlds import FakeGuard, answering, source_of
from workers.lines.answer import Result
from workers.lines.read import Line
from workers.lines.run import answer_lines


def content_of(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


async def results(content: bytes, guard: FakeGuard, *, ahead: int = 8, calls: int = 4) -> list[Result]:
    found: list[Result] = []
    source = source_of(content)
    await answer_lines(
        source.more(), source, answering(guard, calls=calls), lambda _, one: found.append(one), ahead=ahead
    )
    return found


@given(st.lists(st.sampled_from(["safe", "slow", "unsafe", "lost", "slow unsafe"]), max_size=60))
def test_every_line_has_its_result_in_its_place(texts: list[str]) -> None:
    found = asyncio.run(results(content_of(texts), FakeGuard()))
    assert [one.line for one in found] == list(range(1, len(texts) + 1))
    for one, text in zip(found, texts, strict=True):
        assert one.status == ("unjudged" if "lost" in text else "judged")
        assert one.label == (None if "lost" in text else "unsafe" if "unsafe" in text else "safe")


async def test_no_more_than_allowed_are_at_the_guard_at_a_time() -> None:
    guard = FakeGuard()
    await results(content_of(["slow"] * 40), guard, calls=3)
    assert guard.most_at_once == 3


class Stuck(FakeGuard):
    """Answers about the first line when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.freed = asyncio.Event()

    async def judge(self, question):  # type: ignore[no-untyped-def]
        if "stuck" in question.turns[-1].text:
            await self.freed.wait()
        return await super().judge(question)


async def test_lines_behind_one_that_takes_long_are_answered_up_to_a_bound() -> None:
    guard = Stuck()
    running = asyncio.create_task(results(content_of(["stuck"] + ["safe"] * 100), guard, ahead=10))
    for _ in range(2000):
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert len(guard.asked) == 9  # the tenth is the one that is stuck
    guard.freed.set()
    assert len(await running) == 101


async def test_what_was_written_before_the_guard_died_is_the_beginning() -> None:
    class Dying(FakeGuard):
        async def judge(self, question):  # type: ignore[no-untyped-def]
            if len(self.asked) >= 5:
                raise EngineDead("gone")
            return await super().judge(question)

    found: list[int] = []

    def write(line: Line, result: Result) -> None:
        found.append(line.number)

    source, before = source_of(content_of(["safe"] * 30)), asyncio.all_tasks()
    with pytest.raises(EngineDead):
        await answer_lines(source.more(), source, answering(Dying()), write, ahead=8)
    assert found == list(range(1, len(found) + 1))
    assert len(found) <= 5
    assert asyncio.all_tasks() == before


async def test_an_interrupted_run_leaves_nothing_running() -> None:
    guard, before = Stuck(), asyncio.all_tasks()
    running = asyncio.create_task(results(content_of(["stuck"] * 30), guard))
    await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() == before
