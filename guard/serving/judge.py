"""The judge: a question in, a verdict or the reason why not out.

`fitting` makes the prompts of a question, `judgement` asks one of them, `worst` makes one outcome of several,
and so does `fan_out` where a guard is asked about one category a call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import msgspec

from guard.checkpoint import Checkpoint
from guard.errors import EngineFailed, EngineTimeout
from guard.profiles.rendering import Renderer
from guard.prompt import PromptRenderer
from guard.serving.category_scores import CategoryScores
from guard.serving.engine import Clock, Engine
from guard.serving.fan_out import about, worst_category
from guard.serving.fitting import Fitted, Fitting, Prompt, shown_in
from guard.serving.fleet_view import FleetView, HasFleet, HasServers, Looked, Told
from guard.serving.identity import GuardIdentity, JudgeLimits
from guard.serving.judgement import Judgement
from guard.serving.question import Question
from guard.serving.seal import Seal
from guard.serving.worst import worst
from schemas.decision import GuardUsed
from schemas.identifiers import Mode
from schemas.verdict import Unjudged, Verdict

Result = TypeVar("Result")


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
        renderer: Renderer,
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
        self._categories = CategoryScores(renderer) if isinstance(renderer, PromptRenderer) else None
        self.identity = GuardIdentity(
            model=checkpoint.name,
            checkpoint_digest=checkpoint.checkpoint_digest,
            weights_digest=checkpoint.weights_digest,
            verified=checkpoint.verified,
            template_version=renderer.template_version,
            parser_version=renderer.profile.grammar,
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

    def fleet(self) -> FleetView | None:
        """The servers on which the engine runs; None where it runs in this program."""
        return self._engine.fleet() if isinstance(self._engine, HasFleet) else None

    def tell_of_fleet(self, told: Told) -> None:
        """Tell of every server that is ejected, or is back, from now on; nothing without servers."""
        if isinstance(self._engine, HasFleet):
            self._engine.tell(told)

    async def look_at_servers(self, timeout_s: float) -> Sequence[Looked] | None:
        """What one look at each of the engine's servers finds; None where it has none. Starts nothing."""
        return await self._engine.look(timeout_s) if isinstance(self._engine, HasServers) else None

    async def start(self) -> None:
        """Bring the engine up; after a death, anew.

        Raises `EngineNotReady`, which another try may mend, `EngineAbsent`, or `CheckpointError` when the
        folder is not what it was: decisions would name a checkpoint that did not make them.
        """
        await asyncio.to_thread(self._seal.check)
        await self._engine.start()
        # Servers elsewhere say only now which version they are of.
        self.identity = replace(self.identity, engine_version=self._engine.version)

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
        calls = len(self._renderer.questions(question.policy))
        return calls * self._fitting.estimate_tokens(question.policy, question.turns, question.mode)

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
        asked = [
            self._ask_all(question, fitted, number, until_s, late=late)
            for number in range(len(fitted.prompts))
        ]
        outcomes = await _together(asked)
        if seen is not None:
            seen(Seen(fitted, tuple(outcomes)))
        outcome = worst(outcomes, question.policy)
        if not fitted.turns_left_out:
            return outcome
        return msgspec.structs.replace(outcome, turns_left_out=fitted.turns_left_out)

    async def _ask_all(
        self, question: Question, fitted: Fitted, number: int, until_s: float, *, late: bool
    ) -> Verdict | Unjudged:
        """What one prompt gives; for a guard of one category a call, what all categories give."""
        if not self._renderer.profile.one_category:
            return await self._ask(question, fitted.prompts[number], until_s, late=late)
        policies = self._renderer.questions(question.policy)
        # Fitted is the longest of them, so each of the others fits as well.
        turns = shown_in(fitted, question.turns, number)
        prompts = await self._fitting.of_each(policies, turns)
        outcomes = await _together(
            [
                self._ask(msgspec.structs.replace(question, policy=policy), prompt, until_s, late=late)
                for policy, prompt in zip(policies, prompts, strict=True)
            ]
        )
        told = [about(outcome, policy) for outcome, policy in zip(outcomes, policies, strict=True)]
        return worst_category(told, question.policy)

    async def _ask(
        self, question: Question, prompt: Prompt, until_s: float, *, late: bool
    ) -> Verdict | Unjudged:
        """What one prompt gives. `late`: when it is over at `until_s`, that is the event's deadline."""
        task = Judgement(
            self._renderer, self._engine, self._limits, question, prompt, until_s, clock=self._clock
        )
        try:
            outcome = await task.outcome()
            return (
                outcome if self._categories is None else await task.with_categories(outcome, self._categories)
            )
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
