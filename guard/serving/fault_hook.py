"""Faults on demand, for tests of what survives them: a marker in a message breaks the guard that reads it.

Whoever may write a message may then end the engine. A judge of this kind is made only where the operator
asked for it (`workers.settings.fault_hooks`), and never otherwise.

    [[rsafe-fault kill]]      the engine's process is killed while it works on the message
    [[rsafe-fault hang]]      the engine's process is stopped while it works on the message
    [[rsafe-fault garbage]]   the answer is not one
    [[rsafe-fault slow:3s]]   the engine takes the message 3 seconds later
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from guard.checkpoint import Checkpoint
from guard.errors import EngineTimeout
from guard.profiles.rendering import Renderer
from guard.serving.engine import Clock, Completion, Engine, EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge, Seen
from guard.serving.question import Question
from schemas.verdict import Unjudged, Verdict

_MARKER: Final = re.compile(r"\[\[rsafe-fault (?:(kill|hang|garbage)|slow:(\d{1,4}(?:\.\d{1,3})?)s)\]\]")


class BreakableEngine(Engine, Protocol):
    """An engine that can be broken from outside."""

    def die(self) -> None:
        """Be gone at once."""
        ...

    def hang(self) -> None:
        """Answer nothing any more."""
        ...


class FaultyJudge(Judge):
    """A judge that does what a marker in the newest turn says, each time that it is asked."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        renderer: Renderer,
        engine: BreakableEngine,
        limits: JudgeLimits,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__(checkpoint, renderer, engine, limits, clock=clock)
        self._breakable = engine
        self._over: Callable[[Engine], Judge] = lambda changed: Judge(
            checkpoint, renderer, changed, limits, clock=clock
        )

    async def judge(
        self,
        question: Question,
        *,
        deadline_s: float | None = None,
        seen: Callable[[Seen], None] | None = None,
    ) -> Verdict | Unjudged:
        """As the judge, after the fault that the question asks for."""
        marker = _MARKER.search(question.turns[-1].text)
        if marker is None:
            return await super().judge(question, deadline_s=deadline_s, seen=seen)
        changed = self._over(self._changed(*marker.groups()))
        return await changed.judge(question, deadline_s=deadline_s, seen=seen)

    def _changed(self, fault: str | None, seconds: str) -> Engine:
        engine = self._breakable
        match fault:
            case "kill":
                return _Broken(engine, engine.die)
            case "hang":
                return _Broken(engine, engine.hang)
            case "garbage":
                return _Garbled(engine)
            case _:
                return _Delayed(engine, float(seconds), self._clock)


class _Changed:
    """An engine in all but `generate`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.version = engine.name, engine.version

    @property
    def alive(self) -> bool:
        return self._engine.alive

    @property
    def calls_in_flight(self) -> int:
        return self._engine.calls_in_flight

    async def start(self) -> None:
        await self._engine.start()

    async def gone(self) -> None:
        await self._engine.gone()

    async def close(self) -> None:
        await self._engine.close()


class _Broken(_Changed):
    def __init__(self, engine: Engine, break_it: Callable[[], None]) -> None:
        super().__init__(engine)
        self._break = break_it

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        call = asyncio.ensure_future(self._engine.generate(prompt_ids, parameters, deadline_s))
        try:
            await asyncio.sleep(0)  # the call is in flight now
            self._break()
            return await call
        finally:
            call.cancel()


class _Garbled(_Changed):
    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        completion = await self._engine.generate(prompt_ids, parameters, deadline_s)
        meant = {*parameters.logprob_token_ids, *parameters.stop_token_ids}
        token = next(number for number in range(len(meant) + 1) if number not in meant)
        return msgspec.structs.replace(
            completion, token_ids=(token,) * len(completion.token_ids), finish_reason="stop"
        )


class _Delayed(_Changed):
    def __init__(self, engine: Engine, seconds: float, clock: Clock) -> None:
        super().__init__(engine)
        self._seconds, self._clock = seconds, clock

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        seconds, self._seconds = self._seconds, 0.0  # the first call of a judgement, and no other
        left = deadline_s - self._clock()
        await asyncio.sleep(max(0.0, min(seconds, left)))
        if seconds >= left:
            raise EngineTimeout("the deadline passed before the call")
        return await self._engine.generate(prompt_ids, parameters, deadline_s)
