"""Ours and bare vLLM: the judge over its engine, and the calls that it made through vLLM's offline engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Final, Literal

import msgspec

from benchmarks.gpu.shapes import Shape
from benchmarks.gpu.work import operations
from benchmarks.guard_bound import Alone
from benchmarks.workload import turns_of
from guard.checkpoint import Checkpoint
from guard.prompt import PromptRenderer
from guard.scores import RawBand
from guard.serving.engine import Completion, EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions
from schemas.event import Event
from schemas.policy import Policy
from schemas.verdict import Unjudged, Verdict

Asked = Literal["fast", "think-128", "think-512", "adaptive"]
ASKED: Final[tuple[Asked, ...]] = ("fast", "think-128", "think-512", "adaptive")
BUDGETS: Final = {"think-128": 128, "think-512": 512, "adaptive": 128}
ONE_IN: Final = 10
"""Messages of which `adaptive` thinks about the first. Scores of random weights lie too close for a band to
part them."""
_UNCERTAIN, _SURE = RawBand(0.0, inf), RawBand(inf, inf)
ANSWER_TOKENS: Final = 8
"""Random weights write no verdict; they write as many tokens as a trained model's verdict and codes have."""

Call = tuple[tuple[int, ...], EngineParameters]
_CALLS: ContextVar[list[Call]] = ContextVar("calls")


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """One way of asking over all messages, by one of the two. Tokens of all calls together."""

    asked: Asked
    messages: int
    seconds: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    operations: int
    thought: int


class _Recorded(VllmEngine):
    """The engine, which notes the calls of each question in their order.

    Random weights write any token. Where one token is asked for, it is made the likelier verdict, so that
    `adaptive` has a score to be sure of.
    """

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        _CALLS.get().append((tuple(prompt_ids), parameters))
        completion = await super().generate(prompt_ids, parameters, deadline_s)
        pair = completion.verdict_logprobs[0]
        if parameters.max_tokens > 1 or pair is None:
            return completion
        likelier = parameters.logprob_token_ids[pair.index(max(pair))]
        return msgspec.structs.replace(completion, token_ids=(likelier,))


@dataclass
class Ours:
    """The judge over vLLM's asynchronous engine, as the worker asks it."""

    checkpoint: Checkpoint
    shape: Shape
    options: VllmOptions
    calls: list[list[Call]] = field(default_factory=list)
    """Those of the last pass, by question."""

    def __post_init__(self) -> None:
        self.renderer = PromptRenderer(self.checkpoint.path, self.checkpoint.template, b"benchmark")
        self.engine = _Recorded(self.checkpoint.path, self.options)

    def judge(self, asked: Asked) -> Judge:
        """Over the same engine; the budget belongs to the way of asking."""
        limits = JudgeLimits(
            max_model_len=self.options.max_model_len,
            think_budget_tokens=BUDGETS.get(asked, 128),
            answer_tokens=ANSWER_TOKENS,
            call_timeout_s=3600.0,
        )
        return Judge(self.checkpoint, self.renderer, self.engine, limits)

    async def judge_all(self, asked: Asked, policy: Policy, events: Sequence[Event]) -> Pass:
        """All messages, as many at a time as the engine takes."""
        judge, places = self.judge(asked), asyncio.Semaphore(self.options.max_concurrency)
        mode: Literal["fast", "think", "adaptive"] = "fast"
        if asked != "fast":
            mode = "adaptive" if asked == "adaptive" else "think"

        async def one(number: int, event: Event) -> tuple[Verdict | Unjudged, list[Call]]:
            calls: list[Call] = []
            _CALLS.set(calls)
            question = Question(
                policy=msgspec.structs.replace(policy, mode=mode),
                turns=turns_of(event),
                mode=mode,
                uncertain=_SURE if number % ONE_IN else _UNCERTAIN,
            )
            async with places:
                return await judge.judge(question), calls

        started = time.perf_counter()
        found = await asyncio.gather(*(one(*numbered) for numbered in enumerate(events)))
        seconds = time.perf_counter() - started
        self.calls = [calls for _, calls in found]
        outcomes = [outcome for outcome, _ in found]
        steps = [step for outcome in outcomes for step in outcome.steps]
        if any(not outcome.steps for outcome in outcomes):
            raise RuntimeError("a message was not asked; expected every one to fit the model's length")
        return Pass(
            asked=asked,
            messages=len(events),
            seconds=seconds,
            prompt_tokens=sum(step.prompt_tokens for step in steps),
            cached_tokens=sum(step.cached_tokens for step in steps),
            completion_tokens=sum(step.completion_tokens for step in steps),
            operations=sum(
                operations(self.shape, step.prompt_tokens, step.cached_tokens, step.completion_tokens)
                for step in steps
            ),
            thought=sum(any(step.mode == "think" for step in outcome.steps) for outcome in outcomes),
        )


@dataclass
class Bare:
    """vLLM's offline engine, given all calls of a wave at once."""

    folder: Path
    options: VllmOptions

    def __post_init__(self) -> None:
        self._alone = Alone(self.folder, self.options)

    def repeat(self, questions: Sequence[Sequence[Call]]) -> tuple[float, int]:
        """Seconds and tokens of the completions: all first calls, then all second calls, and so on."""
        seconds, tokens = 0.0, 0
        for depth in range(max(map(len, questions))):
            wave = [calls[depth] for calls in questions if len(calls) > depth]
            wave.sort(key=lambda call: call[1].max_tokens)
            for _, alike in groupby(wave, key=lambda call: call[1]):
                calls = list(alike)
                answer = self._alone.complete([prompt for prompt, _ in calls], calls[0][1])
                seconds, tokens = seconds + answer.seconds, tokens + answer.completion_tokens
        return seconds, tokens

    def stop(self) -> None:
        """End it."""
        self._alone.stop()


def options_for(shape: Shape, precision: str, at_a_time: int, memory: float) -> VllmOptions:
    """How both run the model: random weights, `memory` of the GPU for each of the two."""
    plain = VllmOptions(
        max_model_len=shape.max_positions,
        max_concurrency=at_a_time,
        load_format="dummy",
        gpu_memory_utilization=memory,
        dtype="float32" if precision == "float32" else "bfloat16",
    )
    return replace(plain, quantization="fp8") if precision == "fp8" else plain
