"""One prompt on its way to a verdict: the calls of each mode, what is read off their answers, tries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import assert_never

import msgspec

from guard.answer import Unparseable
from guard.errors import EngineFailed
from guard.profiles.rendering import Renderer
from guard.scores import mean_of_both
from guard.serving.call_trace import TracedCall, current_trace
from guard.serving.category_scores import CategoryScores
from guard.serving.engine import Clock, Completion, Engine, EngineParameters
from guard.serving.fitting import Prompt, answer_room
from guard.serving.identity import JudgeLimits
from guard.serving.question import Question
from schemas.identifiers import Label, Way
from schemas.verdict import Step, Unjudged, Verdict


class Judgement:
    """One prompt of a question on its way; `steps` are the calls that gave a completion."""

    def __init__(
        self,
        renderer: Renderer,
        engine: Engine,
        limits: JudgeLimits,
        question: Question,
        prompt: Prompt,
        deadline_s: float,
        *,
        clock: Clock,
    ) -> None:
        self._renderer = renderer
        self._engine = engine
        self._limits = limits
        self._question = question
        self._prompt = prompt
        self._deadline_s = deadline_s
        self._clock = clock
        self._fast: float | None = None
        self._until_unsafe: Prompt = ()
        """All ids up to the `unsafe` of the verdict, that included; none without one."""
        self.steps: list[Step] = []

    async def outcome(self) -> Verdict | Unjudged:
        """What the question's mode gives. Raises `EngineTimeout`, `EngineFailed` or `EngineDead`."""
        match self._question.mode:
            case "fast":
                return await self._fast_verdict()
            case "think":
                if self._limits.think_score == "both":
                    # Before the rationale: it leaves the prompt in the engine's cache for the call after it.
                    await self._read_fast()
                return await self._think()
            case "adaptive":
                return await self._adaptive()
            case _:
                assert_never(self._question.mode)

    async def _adaptive(self) -> Verdict | Unjudged:
        """The fast verdict where its score is certain; else thinking decides, also that there is none."""
        try:
            outcome = await self._fast_verdict()
        except EngineFailed:  # in all tries of that call; thinking has tries of its own
            return await self._think()
        if isinstance(outcome, Unjudged) or self._uncertain(outcome.score):
            return await self._think()
        return outcome

    def _uncertain(self, score: float | None) -> bool:
        band = self._question.uncertain
        return band is None or band.holds(score)

    async def _fast_verdict(self) -> Verdict | Unjudged:
        """One token, directly after an empty rationale, or where a profile says so the whole answer."""
        completion = await self._read_fast()
        label = self._label_at(completion.token_ids, 0)
        if label is None:
            return self._unparseable("no_verdict")
        self._until_unsafe = self._prompt + self._renderer.fast_suffix + completion.token_ids[:1]
        if self._renderer.answers_in_full:
            if completion.finish_reason == "length":
                return self._unparseable("cut_off")
            begun = self._renderer.verdict_tokens.prefix
            return self._answer(begun + completion.token_ids, completion, decisive=0, way="fast")
        return Verdict(
            label=label,
            score=self._fast,
            mode=self._question.mode,
            steps=tuple(self.steps),
            answered_in="fast",
        )

    async def _read_fast(self) -> Completion:
        most = self._limits.answer_tokens if self._renderer.answers_in_full else 1
        completion = await self._call(self._prompt + self._renderer.fast_suffix, most, "fast")
        read = self._renderer.verdict_tokens.p_unsafe
        self._fast = read(completion.verdict_logprobs[0]) if completion.verdict_logprobs else None
        return completion

    async def _think(self) -> Verdict | Unjudged:
        """A rationale within the budget, then the answer; a rationale that would go on is closed by force."""
        prompt, room = self._prompt + self._renderer.think_suffix, answer_room(self._renderer, self._limits)
        budget = min(self._limits.think_budget_tokens, room - len(prompt))
        completion = await self._call(prompt, budget + self._limits.answer_tokens, "think")
        ids = completion.token_ids
        if completion.finish_reason != "length":
            decisive = decisive_position(self._renderer, ids)
            if decisive is not None:
                self._until_unsafe = prompt + ids[: decisive + 1]
            return self._answer(ids, completion, decisive=decisive)
        if self._renderer.closes(ids):
            # Half an answer may read like a whole one: C1 of C10.
            return self._unparseable("cut_off")
        begun = ids[:budget] + self._renderer.forced_close
        completion = await self._call(prompt + begun, self._limits.answer_tokens, "think")
        if completion.finish_reason == "length":
            return self._unparseable("cut_off")
        self._until_unsafe = prompt + begun + completion.token_ids[:1]
        return self._answer(begun + completion.token_ids, completion, decisive=0)

    async def with_categories(
        self, outcome: Verdict | Unjudged, categories: CategoryScores
    ) -> Verdict | Unjudged:
        """An unsafe verdict with a score for each category, where that is wanted and can be had."""
        if not self._limits.category_scores or isinstance(outcome, Unjudged) or outcome.label == "safe":
            return outcome
        call = partial(self._codes, outcome.way)
        named = await categories.add(outcome, self._question.policy, self._until_unsafe, call)
        return msgspec.structs.replace(named, steps=tuple(self.steps))

    async def _codes(self, way: Way, prompt: Prompt, wanted: tuple[int, ...]) -> Completion:
        return await self._call(prompt, self._limits.answer_tokens, way, wanted=wanted)

    async def _call(
        self, prompt: Prompt, max_tokens: int, way: Way, *, wanted: tuple[int, ...] = ()
    ) -> Completion:
        """One completion; `wanted` are ids whose log-probabilities are asked for instead of the verdicts'."""
        tokens = self._renderer.verdict_tokens
        parameters = EngineParameters(
            max_tokens=max_tokens,
            logprob_token_ids=wanted or tokens.ids,
            stop_token_ids=self._renderer.eos_token_ids,
        )
        begun_s = self._clock()
        for attempt in range(1, self._limits.max_attempts + 1):
            try:
                completion = await self._engine.generate(prompt, parameters, self._deadline_s)
            except EngineFailed:
                if attempt == self._limits.max_attempts:
                    raise
            else:
                break
        ended_s = self._clock()
        step = Step(
            mode=way,
            prompt_tokens=len(prompt),
            completion_tokens=len(completion.token_ids),
            finish_reason=completion.finish_reason,
            took_ms=round(max(0.0, ended_s - begun_s) * 1000, 3),
            cached_tokens=completion.cached_tokens,
        )
        self.steps.append(step)
        if (trace := current_trace()) is not None:
            trace.calls.append(TracedCall(step, begun_s, ended_s, completion.times))
        return completion

    def _answer(
        self, ids: tuple[int, ...], completion: Completion, *, decisive: int | None, way: Way = "think"
    ) -> Verdict | Unjudged:
        answer = self._renderer.read(ids, self._question.policy)
        if isinstance(answer, Unparseable):
            return self._unparseable(answer.reason)
        return Verdict(
            label=answer.label,
            score=None if decisive is None else self._score(completion, decisive, answer.label, way),
            codes=answer.codes,
            rationale=answer.rationale,
            mode=self._question.mode,
            steps=tuple(self.steps),
            answered_in=way,
        )

    def _score(self, completion: Completion, decisive: int, label: Label, way: Way) -> float | None:
        """p(unsafe) of the verdict that was read, or of both readings (`JudgeLimits.think_score`).

        None where the decisive token does not belong to the verdict, as where a guard with a taxonomy of its
        own says `unsafe` of nothing that the policy names.
        """
        ids = completion.token_ids
        if self._label_at(ids, decisive) != label:
            return None
        # The parser takes one close alone; were it ever to take more, this verdict would not be the last.
        if self._renderer.closes(ids[decisive:]):
            return None
        score = self._renderer.verdict_tokens.p_unsafe(completion.verdict_logprobs[decisive])
        both = way == "think" and self._limits.think_score == "both"
        return mean_of_both(self._fast, score) if both else score

    def _label_at(self, ids: Sequence[int], at: int) -> Label | None:
        return None if at >= len(ids) else self._renderer.verdict_tokens.label(ids[at])

    def _unparseable(self, detail: str) -> Unjudged:
        return Unjudged(reason="unparseable", detail=detail, steps=tuple(self.steps))


def decisive_position(renderer: Renderer, ids: Sequence[int]) -> int | None:
    """Where the verdicts part in a completion: after the last end of the rationale and a verdict's prefix."""
    head = renderer.think_close_ids + renderer.verdict_tokens.prefix
    for start in range(len(ids) - len(head) - 1, -1, -1):
        if tuple(ids[start : start + len(head)]) == head:
            return start + len(head)
    return None
