"""The judge: a question in, a verdict or the reason why not out. Modes, budgets, scores, bounded retries.

A little over 300 lines: the ways to a verdict are read in one piece.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Literal, TypeVar, assert_never

import msgspec

from guard.answer import RSAFE_PROFILE, Unparseable, parse_answer
from guard.checkpoint import Checkpoint
from guard.errors import EngineFailed, EngineTimeout
from guard.prompt import PromptRenderer, Turn
from guard.scores import RawBand, mean_of_both, p_unsafe
from guard.serving.category_scores import CategoryScores
from guard.serving.engine import Clock, Completion, Engine, EngineParameters
from guard.serving.fitting import Fitted, Fitting, Prompt, answer_room
from guard.serving.identity import GuardIdentity, JudgeLimits
from guard.serving.seal import Seal
from guard.serving.worst import worst
from schemas.decision import GuardUsed
from schemas.identifiers import Mode, Way
from schemas.policy import Policy
from schemas.verdict import Step, Unjudged, Verdict

MODES: Final[tuple[Mode, ...]] = ("think", "fast", "adaptive")
Result = TypeVar("Result")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: whether the last turn breaks the policy."""

    policy: Policy
    turns: tuple[Turn, ...]
    """The conversation, newest last; 1 or more."""
    mode: Mode
    uncertain: RawBand | None = None
    """With `adaptive`: the fast scores at which it thinks; None: at all of them. Others pass it over."""


class Seen(msgspec.Struct, frozen=True):
    """What one judgement asked, and what each of its prompts gave, in the same order."""

    fitted: Fitted
    outcomes: tuple[Verdict | Unjudged, ...]


class Judge:
    """Asks the engine and understands its answers. Judgements are concurrent; no state between them.

    A question has one prompt, or one for each text window of a message that is too long (`fitting`); these
    are asked together, and the worst answer is the verdict (`worst`).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        renderer: PromptRenderer,
        engine: Engine,
        limits: JudgeLimits,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self.renderer = self._renderer = renderer
        self._engine = engine
        self._limits = limits
        self._clock = clock
        self._seal = Seal(checkpoint)
        self._fitting = Fitting(renderer, limits)
        self._categories = CategoryScores(renderer)
        self.identity = GuardIdentity(
            model=checkpoint.name,
            checkpoint_digest=checkpoint.checkpoint_digest,
            weights_digest=checkpoint.weights_digest,
            verified=checkpoint.verified,
            template_version=renderer.template_version,
            parser_version=RSAFE_PROFILE.name,
            engine=engine.name,
            engine_version=engine.version,
            limits=limits,
        )

    @property
    def alive(self) -> bool:
        return self._engine.alive

    @property
    def calls_in_flight(self) -> int:
        """Calls at the engine: running, or queued in it. A question may have several."""
        return self._engine.calls_in_flight

    async def start(self) -> None:
        """Bring the engine up; after a death, anew.

        Raises `EngineNotReady`, which another try may mend, `EngineAbsent`, or `CheckpointError` when the
        folder is not what it was: decisions would name a checkpoint that did not make them.
        """
        await asyncio.to_thread(self._seal.check)
        await self._engine.start()

    async def gone(self) -> None:
        """Returns when the engine cannot answer any more; at once when it is not running."""
        await self._engine.gone()

    async def close(self) -> None:
        await self._engine.close()
        self._fitting.close()

    def used(self, mode: Mode) -> GuardUsed:
        return self.identity.used(mode)

    def estimate_tokens(self, question: Question) -> int:
        """About how many tokens its prompts have, without rendering them."""
        return self._fitting.estimate_tokens(question.policy, question.turns, question.mode)

    async def judge(
        self,
        question: Question,
        *,
        deadline_s: float | None = None,
        seen: Callable[[Seen], None] | None = None,
    ) -> Verdict | Unjudged:
        """The verdict of one question, or why there is none.

        `deadline_s` is an instant on the judge's clock (`time.monotonic`); nobody wants the answer after it,
        and it is `late`. At the limit of a judgement it is `timed_out`. `seen` is told what was asked, unless
        nothing was. Raises `EngineDead` when the guard is down, which says nothing of the question.
        """
        limit_s = self._clock() + self._limits.call_timeout_s
        late = deadline_s is not None and deadline_s < limit_s
        until_s = deadline_s if late and deadline_s is not None else limit_s
        fitted = await self._fitting.fit(question.policy, question.turns, question.mode)
        if isinstance(fitted, Unjudged):
            return fitted
        asked = [self._ask(question, prompt, until_s, late=late) for prompt in fitted.prompts]
        outcomes = await _together(asked)
        if seen is not None:
            seen(Seen(fitted, tuple(outcomes)))
        outcome = worst(outcomes, question.policy)
        if not fitted.turns_left_out:
            return outcome
        return msgspec.structs.replace(outcome, turns_left_out=fitted.turns_left_out)

    async def _ask(
        self, question: Question, prompt: Prompt, until_s: float, *, late: bool
    ) -> Verdict | Unjudged:
        """What one prompt gives. `late`: when it is over at `until_s`, that is the event's deadline."""
        task = _Judgement(
            self._renderer, self._engine, self._limits, question, prompt, until_s, clock=self._clock
        )
        try:
            return await task.with_categories(await task.outcome(), self._categories)
        except EngineTimeout:
            return Unjudged(reason="late" if late else "timed_out", steps=tuple(task.steps))
        except EngineFailed as error:
            return Unjudged(reason="engine_failed", detail=str(error), steps=tuple(task.steps))


async def _together(asked: Sequence[Awaitable[Result]]) -> Sequence[Result]:
    """The results in order. When one raises, the others are broken off, and have ended when this returns."""
    if len(asked) == 1:
        return [await asked[0]]
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


class _Judgement:
    """One prompt of a question on its way; `steps` are the calls that gave a completion."""

    def __init__(
        self,
        renderer: PromptRenderer,
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
        """One token, directly after an empty rationale; the model names no categories."""
        completion = await self._read_fast()
        label = self._label_at(completion.token_ids, 0)
        if label is None:
            return self._unparseable("no_verdict")
        self._until_unsafe = self._prompt + self._renderer.fast_suffix + completion.token_ids[:1]
        return Verdict(
            label=label,
            score=self._fast,
            mode=self._question.mode,
            steps=tuple(self.steps),
            answered_in="fast",
        )

    async def _read_fast(self) -> Completion:
        completion = await self._call(self._prompt + self._renderer.fast_suffix, 1, "fast")
        self._fast = p_unsafe(completion.verdict_logprobs[0]) if completion.verdict_logprobs else None
        return completion

    async def _think(self) -> Verdict | Unjudged:
        """A rationale within the budget, then the answer; a rationale that would go on is closed by force."""
        prompt, room = self._prompt, answer_room(self._renderer, self._limits)
        budget = min(self._limits.think_budget_tokens, room - len(prompt))
        completion = await self._call(prompt, budget + self._limits.answer_tokens, "think")
        ids = completion.token_ids
        if completion.finish_reason != "length":
            decisive = self._decisive_position(ids)
            if decisive is not None:
                self._until_unsafe = prompt + ids[: decisive + 1]
            return self._answer(ids, completion, decisive=decisive)
        if self._renderer.template.think_close in self._renderer.decode(ids):
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
            logprob_token_ids=wanted or (tokens.safe, tokens.unsafe),
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
        self.steps.append(
            Step(
                mode=way,
                prompt_tokens=len(prompt),
                completion_tokens=len(completion.token_ids),
                finish_reason=completion.finish_reason,
                took_ms=round(max(0.0, self._clock() - begun_s) * 1000, 3),
                cached_tokens=completion.cached_tokens,
            )
        )
        return completion

    def _answer(
        self, ids: tuple[int, ...], completion: Completion, *, decisive: int | None
    ) -> Verdict | Unjudged:
        codes = [category.code for category in self._question.policy.categories]
        answer = parse_answer(self._renderer.decode(ids), codes)
        if isinstance(answer, Unparseable):
            return self._unparseable(answer.reason)
        return Verdict(
            label=answer.label,
            score=None if decisive is None else self._score(completion, decisive, answer.label),
            codes=answer.codes,
            rationale=answer.rationale,
            mode=self._question.mode,
            steps=tuple(self.steps),
            answered_in="think",
        )

    def _score(self, completion: Completion, decisive: int, label: Literal["safe", "unsafe"]) -> float | None:
        """p(unsafe) of the verdict that was read, or of both readings (`JudgeLimits.think_score`).

        None where the decisive token does not belong to the verdict.
        """
        ids = completion.token_ids
        if self._label_at(ids, decisive) != label:
            return None
        # The parser takes one close alone; were it ever to take more, this verdict would not be the last.
        if self._renderer.template.think_close in self._renderer.decode(ids[decisive:]):
            return None
        score = p_unsafe(completion.verdict_logprobs[decisive])
        return mean_of_both(self._fast, score) if self._limits.think_score == "both" else score

    def _decisive_position(self, ids: Sequence[int]) -> int | None:
        """Where the verdicts part: after the last end of the rationale and the prefix of a verdict."""
        head = self._renderer.think_close_ids + self._renderer.verdict_tokens.prefix
        for start in range(len(ids) - len(head) - 1, -1, -1):
            if tuple(ids[start : start + len(head)]) == head:
                return start + len(head)
        return None

    def _label_at(self, ids: Sequence[int], at: int) -> Literal["safe", "unsafe"] | None:
        tokens = self._renderer.verdict_tokens
        if at >= len(ids) or ids[at] not in (tokens.safe, tokens.unsafe):
            return None
        return "safe" if ids[at] == tokens.safe else "unsafe"

    def _unparseable(self, detail: str) -> Unjudged:
        return Unjudged(reason="unparseable", detail=detail, steps=tuple(self.steps))
