"""The judge: a question in, a verdict or the reason why not out. Modes, budgets, scores, bounded retries."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final, Literal

import msgspec

from guard.answer import RSAFE_PROFILE, Unparseable, parse_answer
from guard.checkpoint import Checkpoint
from guard.errors import EngineFailed, EngineTimeout, UnsupportedError
from guard.prompt import PromptRenderer, Turn
from guard.serving.engine import Clock, Completion, Engine, EngineParameters
from guard.serving.identity import GuardIdentity, JudgeLimits
from guard.serving.seal import Seal
from schemas.decision import GuardUsed
from schemas.identifiers import Mode
from schemas.policy import Policy
from schemas.verdict import Step, Unjudged, Verdict

MODES: Final[tuple[Mode, ...]] = ("think", "fast")
# A rationale gets at least so many tokens, or the question counts as too long for the model.
_SHORTEST_BUDGET_TOKENS: Final = 64
# Characters of English that one token of a small vocabulary stands for; `estimate_tokens` errs upwards.
_CHARACTERS_PER_TOKEN: Final = 3
# Conversations up to so many characters are rendered on the event loop: 1 ms for English, 15 ms where each
# becomes eighteen in the normalizer. A longer one could hold the loop for as long as a full prompt takes.
_RENDERED_ON_LOOP_CHARACTERS: Final = 1000
# The mark, role and line break around the text of a turn, about.
_CHARACTERS_AROUND_TURN: Final = 24


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: whether the last turn breaks the policy."""

    policy: Policy
    turns: tuple[Turn, ...]
    """The conversation, newest last; 1 or more."""
    mode: Mode


def require_mode(mode: Mode) -> None:
    """Refuse a mode that is not there yet. Raises `UnsupportedError` naming it."""
    if mode not in MODES:
        raise UnsupportedError(f"mode {mode!r} is not supported yet; expected one of {', '.join(MODES)}")


class Judge:
    """Asks the engine and understands its answers. Judgements are concurrent; no state between them."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        renderer: PromptRenderer,
        engine: Engine,
        limits: JudgeLimits,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self._renderer = renderer
        self._engine = engine
        self._limits = limits
        self._clock = clock
        self._seal = Seal(checkpoint)
        # One thread: long prompts take turns, and so do the CPU time and the memory that they need.
        self._rendering = ThreadPoolExecutor(1, thread_name_prefix="rsafe-prompts")
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
        self._rendering.shutdown(wait=False)

    def used(self, mode: Mode) -> GuardUsed:
        return self.identity.used(mode)

    def estimate_tokens(self, question: Question) -> int:
        """About how many tokens the prompt has, without rendering it."""
        characters = sum(len(turn.text) for turn in question.turns) + sum(
            len(c.title) + len(c.definition) + sum(map(len, c.exceptions)) for c in question.policy.categories
        )
        return characters // _CHARACTERS_PER_TOKEN + 1

    async def judge(self, question: Question, *, deadline_s: float | None = None) -> Verdict | Unjudged:
        """The verdict of one question, or why there is none.

        `deadline_s` is an instant on the judge's clock (`time.monotonic`); nobody wants the answer after it,
        and it is `late`. At the limit of a judgement it is `timed_out`. Raises `EngineDead` when the guard is
        down, which says nothing of the question, and `UnsupportedError` for a mode that is not there.
        """
        require_mode(question.mode)
        limit_s = self._clock() + self._limits.call_timeout_s
        late = deadline_s is not None and deadline_s < limit_s
        task = _Judgement(
            self._renderer,
            self._rendering,
            self._engine,
            self._limits,
            question,
            deadline_s if late and deadline_s is not None else limit_s,
        )
        try:
            outcome = await (task.fast() if question.mode == "fast" else task.think())
        except EngineTimeout:
            return Unjudged(reason="late" if late else "timed_out", steps=tuple(task.steps))
        except EngineFailed as error:
            return Unjudged(reason="engine_failed", detail=str(error), steps=tuple(task.steps))
        return outcome


class _Judgement:
    """One question on its way; `steps` are the calls that gave a completion."""

    def __init__(
        self,
        renderer: PromptRenderer,
        rendering: Executor,
        engine: Engine,
        limits: JudgeLimits,
        question: Question,
        deadline_s: float,
    ) -> None:
        self._renderer = renderer
        self._rendering = rendering
        self._engine = engine
        self._limits = limits
        self._question = question
        self._deadline_s = deadline_s
        self.steps: list[Step] = []

    async def fast(self) -> Verdict | Unjudged:
        """One token, directly after an empty rationale; the model names no categories."""
        suffix = self._renderer.fast_suffix
        prompt = await self._prompt(self._limits.max_model_len - len(suffix) - 1)
        if prompt is None:
            return self._too_long()
        completion = await self._call(prompt + suffix, 1)
        label = self._label_at(completion.token_ids, 0)
        if label is None:
            return self._unparseable("no_verdict")
        return Verdict(
            label=label,
            score=_p_unsafe(completion.verdict_logprobs[0]),
            mode="fast",
            steps=tuple(self.steps),
        )

    async def think(self) -> Verdict | Unjudged:
        """A rationale within the budget, then the answer; a rationale that would go on is closed by force."""
        most = self._limits.think_budget_tokens
        answer_room = len(self._renderer.forced_close) + self._limits.answer_tokens
        room = self._limits.max_model_len - answer_room
        prompt = await self._prompt(room - min(most, _SHORTEST_BUDGET_TOKENS))
        if prompt is None:
            return self._too_long()
        budget = min(most, room - len(prompt))
        completion = await self._call(prompt, budget + self._limits.answer_tokens)
        ids = completion.token_ids
        if completion.finish_reason != "length":
            return self._answer(ids, completion, decisive=self._decisive_position(ids))
        if self._renderer.template.think_close in self._renderer.decode(ids):
            # Half an answer may read like a whole one: C1 of C10.
            return self._unparseable("cut_off")
        begun = ids[:budget] + self._renderer.forced_close
        completion = await self._call(prompt + begun, self._limits.answer_tokens)
        if completion.finish_reason == "length":
            return self._unparseable("cut_off")
        return self._answer(begun + completion.token_ids, completion, decisive=0)

    async def _prompt(self, room: int) -> tuple[int, ...] | None:
        """The prompt, or None when it has more than `room` tokens."""
        render = self._renderer.render_within
        policy, turns = self._question.policy, self._question.turns
        characters = sum(len(turn.text) + _CHARACTERS_AROUND_TURN for turn in turns)
        if characters <= _RENDERED_ON_LOOP_CHARACTERS:
            return render(policy, turns, room)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._rendering, render, policy, turns, room)

    async def _call(self, prompt: tuple[int, ...], max_tokens: int) -> Completion:
        tokens = self._renderer.verdict_tokens
        parameters = EngineParameters(
            max_tokens=max_tokens,
            logprob_token_ids=(tokens.safe, tokens.unsafe),
            stop_token_ids=self._renderer.eos_token_ids,
        )
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
                mode=self._question.mode,
                prompt_tokens=len(prompt),
                completion_tokens=len(completion.token_ids),
                finish_reason=completion.finish_reason,
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
            mode="think",
            steps=tuple(self.steps),
        )

    def _score(self, completion: Completion, decisive: int, label: Literal["safe", "unsafe"]) -> float | None:
        """p(unsafe) of the verdict that was read; None where the decisive token does not belong to it."""
        ids = completion.token_ids
        if self._label_at(ids, decisive) != label:
            return None
        # The parser takes one close alone; were it ever to take more, this verdict would not be the last.
        if self._renderer.template.think_close in self._renderer.decode(ids[decisive:]):
            return None
        return _p_unsafe(completion.verdict_logprobs[decisive])

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

    def _too_long(self) -> Unjudged:
        return Unjudged(reason="prompt_too_long", detail="no room for an answer", steps=tuple(self.steps))

    def _unparseable(self, detail: str) -> Unjudged:
        return Unjudged(reason="unparseable", detail=detail, steps=tuple(self.steps))


def _p_unsafe(pair: tuple[float, float] | None) -> float | None:
    """p(unsafe) from the log-probabilities (safe, unsafe), normalised over the two; None where undefined."""
    if pair is None:
        return None
    safe, unsafe = pair
    if math.isnan(safe) or math.isnan(unsafe) or max(safe, unsafe) == -math.inf:
        return None
    difference = safe - unsafe
    if difference > 700:  # math.exp overflows a double beyond 709
        return 0.0
    return 1.0 / (1.0 + math.exp(difference))
