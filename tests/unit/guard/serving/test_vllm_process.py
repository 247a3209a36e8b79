"""The watch over vLLM's process, on a stand-in for vLLM."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from guard.errors import EngineDead, EngineFailed, EngineTimeout
from guard.serving import vllm_process
from guard.serving.engine import Completion, EngineParameters
from guard.serving.vllm_process import RunningVllm
from tests.waiting import until

ONCE = EngineParameters(max_tokens=1, logprob_token_ids=(0, 1))
ANSWER = Completion(token_ids=(5,), verdict_logprobs=(None,), finish_reason="length")
# Short against the tests' patience, long against a turn of the loop on a busy machine.
HANG_S = 0.3


class Process:
    """A child process; `died` hears of its end as vLLM's monitor would."""

    pid = 1

    def __init__(self) -> None:
        self.killed = 0
        self.died = asyncio.Event()

    def is_alive(self) -> bool:
        return not self.died.is_set()

    def kill(self) -> None:
        self.killed += 1
        self.died.set()


class Vllm:
    """Shaped like `AsyncLLM`. `answers` is how its core replies to a question for a sign of life."""

    def __init__(self) -> None:
        self.process = Process()
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.refusal: Exception | None = None
        self.shut_down = False
        self.output_handler = asyncio.create_task(self._handle())
        context = SimpleNamespace(_sockets=[], destroy=lambda linger: None)
        resources = SimpleNamespace(
            engine_manager=SimpleNamespace(processes=[self.process]), ctx=context, engine_dead=False
        )
        self.engine_core = SimpleNamespace(resources=resources, ctx=context)

    @property
    def errored(self) -> bool:
        return self.output_handler.done()

    async def is_paused(self) -> bool:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        await self.answers.wait()
        return False

    def shutdown(self, timeout: float | None = None) -> None:
        self.shut_down = True

    async def _handle(self) -> None:
        await self.process.died.wait()


class Calls:
    """Stands for `complete`: what calls of vLLM come to."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.error: Exception | None = None
        self.in_flight = 0

    async def complete(self, llm: Any, prompt: Any, parameters: Any, request_id: str) -> Completion:
        self.in_flight += 1
        try:
            await self.release.wait()
        finally:
            self.in_flight -= 1
        if self.error is not None:
            raise self.error
        return ANSWER


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls()
    monkeypatch.setattr(vllm_process, "complete", calls.complete)
    return calls


@pytest_asyncio.fixture
async def vllm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Vllm]:
    monkeypatch.setattr(vllm_process, "_ASK_EVERY_S", 0.01)
    vllm = Vllm()
    yield vllm
    vllm.output_handler.cancel()


@pytest_asyncio.fixture
async def running(vllm: Vllm) -> AsyncIterator[RunningVllm]:
    running = RunningVllm(vllm)
    running.begin_watch(HANG_S)
    yield running
    await running.let_go()
    assert vllm.shut_down


async def test_a_core_that_gives_signs_of_life_is_left_alone(vllm: Vllm, running: RunningVllm) -> None:
    await until(lambda: vllm.asked >= 5)
    assert running.alive
    assert vllm.process.killed == 0


async def test_a_death_while_idle_is_seen(vllm: Vllm, running: RunningVllm) -> None:
    vllm.process.died.set()
    await running.gone()
    assert not running.alive


async def test_a_core_that_is_silent_is_killed(vllm: Vllm, running: RunningVllm) -> None:
    vllm.answers.clear()
    begun = time.monotonic()
    await running.gone()
    assert time.monotonic() - begun >= 0.9 * HANG_S
    assert vllm.process.killed == 1
    assert not running.alive


async def test_a_core_that_answers_late_but_in_time_is_left_alone(vllm: Vllm, running: RunningVllm) -> None:
    vllm.answers.clear()
    asked = vllm.asked
    await until(lambda: vllm.asked > asked or not running.alive)
    loop = asyncio.get_running_loop()
    loop.call_later(HANG_S / 2, vllm.answers.set)
    await until(lambda: vllm.asked >= asked + 3 or not running.alive)
    assert running.alive


async def test_time_in_which_this_process_did_not_run_is_no_silence(vllm: Vllm, running: RunningVllm) -> None:
    vllm.answers.clear()
    asked = vllm.asked
    await until(lambda: vllm.asked > asked)
    time.sleep(2 * HANG_S)  # noqa: ASYNC251 - nothing of this process runs, as if it were stopped
    vllm.answers.set()
    await until(lambda: vllm.asked >= asked + 3 or not running.alive)
    assert running.alive


async def test_a_core_that_refuses_is_about_to_end_and_is_killed(vllm: Vllm, running: RunningVllm) -> None:
    vllm.refusal = RuntimeError("shutting down")
    await running.gone()
    assert vllm.process.killed == 1


async def test_calls_in_flight_hear_of_a_hang(vllm: Vllm, running: RunningVllm, calls: Calls) -> None:
    vllm.answers.clear()
    tasks = [asyncio.create_task(running.call((1,), ONCE, str(n), 60)) for n in range(3)]
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, EngineDead)
    assert calls.in_flight == 0


async def test_a_deadline_ends_one_call(running: RunningVllm, calls: Calls) -> None:
    with pytest.raises(EngineTimeout):
        await running.call((1,), ONCE, "1", 0.01)
    assert calls.in_flight == 0
    assert running.alive
    calls.release.set()
    assert await running.call((1,), ONCE, "2", 60) == ANSWER


async def test_a_call_whose_time_runs_out_in_a_hang_is_a_death(
    vllm: Vllm, running: RunningVllm, calls: Calls
) -> None:
    vllm.answers.clear()
    begun = time.monotonic()
    with pytest.raises(EngineDead):
        await running.call((1,), ONCE, "1", HANG_S / 10)
    assert time.monotonic() - begun >= 0.9 * HANG_S  # the watch decided, not the deadline
    assert (calls.in_flight, vllm.process.killed, running.alive) == (0, 1, False)


async def test_a_call_whose_time_runs_out_in_a_long_step_is_late_and_no_death(
    vllm: Vllm, running: RunningVllm, calls: Calls
) -> None:
    vllm.answers.clear()
    asyncio.get_running_loop().call_later(HANG_S / 3, vllm.answers.set)
    with pytest.raises(EngineTimeout):
        await running.call((1,), ONCE, "1", HANG_S / 10)
    assert vllm.answers.is_set()
    assert (vllm.process.killed, running.alive) == (0, True)


async def test_a_call_whose_time_runs_out_at_a_core_that_is_about_to_end_is_a_death(
    monkeypatch: pytest.MonkeyPatch, vllm: Vllm, calls: Calls
) -> None:
    monkeypatch.setattr(vllm_process, "_ASK_EVERY_S", 60.0)  # the watch hears of it later
    running = RunningVllm(vllm)
    running.begin_watch(60.0)
    await until(lambda: vllm.asked == 1)
    vllm.refusal = RuntimeError("shutting down")
    with pytest.raises(EngineDead):
        await running.call((1,), ONCE, "1", 0.01)
    assert vllm.process.killed == 1
    await running.let_go()


async def test_letting_go_ends_a_call_that_waits_for_the_watch(vllm: Vllm, calls: Calls) -> None:
    running = RunningVllm(vllm)
    running.begin_watch(60.0)
    await until(lambda: vllm.asked == 1)
    vllm.answers.clear()
    call = asyncio.create_task(running.call((1,), ONCE, "1", 0.01))
    await until(lambda: vllm.asked >= 2 and calls.in_flight == 0)
    await running.let_go()
    with pytest.raises(EngineDead):
        await call


async def test_before_the_watch_begins_a_deadline_is_a_deadline(vllm: Vllm, calls: Calls) -> None:
    vllm.answers.clear()
    running = RunningVllm(vllm)
    with pytest.raises(EngineTimeout):
        await running.call((1,), ONCE, "1", 0.01)
    await running.let_go()


async def test_a_failed_call_is_that_calls_alone(running: RunningVllm, calls: Calls) -> None:
    calls.release.set()
    calls.error = EngineFailed("no")
    with pytest.raises(EngineFailed):
        await running.call((1,), ONCE, "1", 60)
    assert running.alive


async def test_a_core_that_gives_calls_up_is_dead_for_all(
    vllm: Vllm, running: RunningVllm, calls: Calls
) -> None:
    calls.release.set()
    calls.error = EngineDead("ending")
    with pytest.raises(EngineDead):
        await running.call((1,), ONCE, "1", 60)
    assert not running.alive
    assert vllm.process.killed == 1
    await running.gone()


async def test_letting_go_ends_calls_and_kills_nothing(vllm: Vllm, calls: Calls) -> None:
    running = RunningVllm(vllm)
    running.begin_watch(HANG_S)
    call = asyncio.create_task(running.call((1,), ONCE, "1", 60))
    await until(lambda: calls.in_flight == 1)
    await running.let_go()
    with pytest.raises(EngineDead):
        await call
    await running.gone()
    assert vllm.process.killed == 0
    assert vllm.shut_down
