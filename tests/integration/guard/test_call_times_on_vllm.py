"""Where the time of a call went, as vLLM in this program says: a trace shows it as queue, prefill, decode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from guard.checkpoint import Checkpoint
from guard.prompt import PromptRenderer, Turn
from guard.serving.call_trace import CallTrace, TracedCall, noting
from guard.serving.engine import EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_call import complete
from guard.serving.vllm_engine import VllmEngine
from schemas.identifiers import Mode
from schemas.verdict import Unjudged, Verdict
from tests.unit.workers.moderation.builders import make_policy

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# A step of vLLM on the CPU reads 4,096 tokens (`guard.serving.vllm_start`): four of these prompts.
PROMPT_TOKENS = 1000
MORE_THAN_A_STEP = 14


def question(mode: Mode, text: str = "where do you live, and when are you alone?") -> Question:
    return Question(policy=make_policy(), turns=(Turn(role="user", text=text),), mode=mode)


async def traced(judge: Judge, mode: Mode) -> tuple[Verdict | Unjudged, list[TracedCall]]:
    """The outcome and its calls, which lie one after another within the time that the judgement took."""
    trace = CallTrace(TRACEPARENT)
    instants = [time.monotonic()]
    with noting(trace):
        outcome = await judge.judge(question(mode))
    for call in trace.calls:
        instants += [call.begun_s, call.ended_s]
    instants.append(time.monotonic())
    assert instants == sorted(instants)
    assert [call.step for call in trace.calls] == list(outcome.steps)
    return outcome, trace.calls


def spent_s(call: TracedCall) -> float:
    """What vLLM says that a call took: each phase no less than nothing, together no more than the call."""
    times = call.times
    assert times is not None
    assert times.queue_s >= 0
    assert times.prefill_s > 0
    assert (times.decode_s > 0) == (call.step.completion_tokens > 1)
    spent = times.queue_s + times.prefill_s + times.decode_s
    assert spent <= call.ended_s - call.begun_s
    return spent


@pytest.mark.parametrize("mode", ["fast", "think"])
async def test_the_phases_of_a_call_are_no_longer_than_the_call(vllm_judge: Judge, mode: Mode) -> None:
    _, calls = await traced(vllm_judge, mode)
    assert {call.step.mode for call in calls} == {mode}
    assert [call.step.completion_tokens for call in calls] == [1] or mode == "think"
    assert sum(map(spent_s, calls)) <= calls[-1].ended_s - calls[0].begun_s


async def test_a_rationale_closed_by_force_is_two_calls_with_phases_of_their_own(
    vllm_engine: VllmEngine, served_checkpoint: Checkpoint, served_renderer: PromptRenderer
) -> None:
    limits = JudgeLimits(
        max_model_len=served_checkpoint.max_model_len,
        think_budget_tokens=2,
        answer_tokens=2,
        call_timeout_s=120.0,
    )
    judge = Judge(served_checkpoint, served_renderer, vllm_engine, limits)
    _, calls = await traced(judge, "think")
    first, second = calls
    assert (first.step.finish_reason, first.step.completion_tokens) == ("length", 4)
    assert second.step.prompt_tokens > first.step.prompt_tokens
    assert spent_s(first) + spent_s(second) <= second.ended_s - first.begun_s
    assert first.times != second.times


class Watched:
    """vLLM, with what it says of the last request."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self.stats: Any = None

    async def generate(self, *arguments: Any) -> AsyncIterator[Any]:
        async for output in self._llm.generate(*arguments):
            self.stats = output.metrics
            yield output


@pytest.mark.parametrize("tokens", [1, 5])
async def test_the_phases_part_at_the_instants_that_vllm_took(vllm_engine: VllmEngine, tokens: int) -> None:
    assert vllm_engine._running is not None
    watched = Watched(vllm_engine._running.llm)
    parameters = EngineParameters(max_tokens=tokens, logprob_token_ids=(0, 1))
    begun_s, begun_unix_s = time.monotonic(), time.time()
    completion = await complete(watched, (5, 6, 7), parameters, f"watched-{tokens}")
    ended_s, ended_unix_s = time.monotonic(), time.time()
    stats, times = watched.stats, completion.times
    assert begun_unix_s <= stats.arrival_time <= ended_unix_s
    # Its process counts by the clock of ours: that of the machine.
    instants = [stats.queued_ts, stats.scheduled_ts, stats.first_token_ts, stats.last_token_ts]
    assert [begun_s, *instants, ended_s] == sorted([begun_s, *instants, ended_s])
    assert times is not None
    queued, scheduled, first, last = instants
    assert times.queue_s == scheduled - queued
    assert times.prefill_s == first - scheduled
    assert times.decode_s == last - first


async def test_a_call_that_waits_for_its_step_says_so(vllm_engine: VllmEngine) -> None:
    parameters = EngineParameters(max_tokens=1, logprob_token_ids=(0, 1))
    prompts = [(number, *[5] * (PROMPT_TOKENS - 1)) for number in range(MORE_THAN_A_STEP)]
    until_s = time.monotonic() + 120
    done = await asyncio.gather(*(vllm_engine.generate(one, parameters, until_s) for one in prompts))
    times = [one.times for one in done if one.times is not None]
    assert len(times) == len(prompts)
    # The last ones wait for a full step at least; the first one was read in a step that was not full.
    assert max(one.queue_s for one in times) > min(one.prefill_s for one in times)
