"""An engine without a model: it answers by a hash of the prompt. For load tests and demos of the plumbing.

It has the name `scripted`, which stands in every decision, so that nobody takes its verdicts for a judgement.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from guard.errors import EngineDead, EngineError, EngineFailed, EngineTimeout
from guard.profiles.rendering import Renderer
from guard.serving.engine import Clock, Completion, EngineParameters

_RATIONALE: Final = " scripted answer, no model read this."
# p(unsafe) at which the scripted answer turns; a fifth of all prompts come out as unsafe.
_UNSAFE_SHARE: Final = 0.2
# How sure it is of a code that it names.
_SURE: Final = 0.8


@dataclass
class _Run:
    """From one start to its end."""

    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    hangs: bool = False


class ScriptedEngine:
    """Deterministic: the same prompt gets the same answer, everywhere.

    It dies and hangs when told, and what follows is seen as with a model: `gone` returns, calls get
    `EngineDead`, after `hang_timeout_s` where it hangs. `completion` replaces the answer to every prompt by
    that of a function of the prompt's ids, and `failures` are raised by the first calls, one each; both are
    for tests.
    """

    name = "scripted"
    version = "1"

    def __init__(
        self,
        renderer: Renderer,
        *,
        delay_s: float = 0.0,
        max_model_len: int | None = None,
        hang_timeout_s: float = 20.0,
        completion: Callable[[tuple[int, ...]], str] | None = None,
        failures: Iterable[EngineError] = (),
        clock: Clock = time.monotonic,
    ) -> None:
        self._renderer = renderer
        self._delay_s = delay_s
        self._max_model_len = max_model_len
        self._hang_timeout_s = hang_timeout_s
        self._completion = completion
        self._failures = deque(failures)
        self._clock = clock
        self._run: _Run | None = None
        self.calls_in_flight = 0
        self.calls_answered = 0

    @property
    def alive(self) -> bool:
        return self._run is not None and not self._run.stopped.is_set()

    async def start(self) -> None:
        if self.alive:
            return
        while self.calls_in_flight:  # noqa: ASYNC110 - they end within a few turns of the loop
            await asyncio.sleep(0)
        self._run = _Run()

    async def gone(self) -> None:
        if self._run is not None:
            await self._run.stopped.wait()

    async def close(self) -> None:
        self.die()

    def die(self) -> None:
        """Be gone at once, as a crash would have it."""
        if self._run is not None:
            self._run.stopped.set()

    def hang(self) -> None:
        """Answer nothing from now on, as a deadlock would have it, until that is noticed."""
        if self._run is not None:
            self._run.hangs = True
            asyncio.get_running_loop().call_later(self._hang_timeout_s, self._run.stopped.set)

    async def busy(self) -> bool:
        """Whether any call is still worked on."""
        return self.calls_in_flight > 0

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        run = self._run
        if run is None or run.stopped.is_set():
            raise EngineDead("the scripted engine is not running")
        self.calls_in_flight += 1
        try:
            await self._take_time(run, deadline_s)
        finally:
            self.calls_in_flight -= 1
        if self._failures:
            raise self._failures.popleft()
        prompt = tuple(prompt_ids)
        self._check(prompt)
        self.calls_answered += 1
        return self._answer(prompt, parameters)

    async def _take_time(self, run: _Run, deadline_s: float) -> None:
        left = deadline_s - self._clock()
        if left <= 0:
            raise EngineTimeout("the deadline passed before the call")
        late = self._delay_s > left
        await _wait(run, min(self._delay_s, left))
        if run.hangs:  # out of time or not: that it hangs is noticed first
            await run.stopped.wait()
        if run.stopped.is_set():
            raise EngineDead("the scripted engine ended")
        if late:
            raise EngineTimeout("no completion before the deadline")

    def _check(self, prompt: tuple[int, ...]) -> None:
        size = self._renderer.encoder.vocabulary_size
        if not prompt or min(prompt) < 0 or max(prompt) >= size:
            raise EngineFailed(f"expected 1 or more token ids from 0 to {size - 1}")
        if self._max_model_len is not None and len(prompt) >= self._max_model_len:
            raise EngineFailed(f"{len(prompt)} prompt tokens; expected fewer than {self._max_model_len}")

    def _answer(self, prompt: tuple[int, ...], parameters: EngineParameters) -> Completion:
        share = _share(prompt)
        label: Literal["safe", "unsafe"] = "unsafe" if share < _UNSAFE_SHARE else "safe"
        tokens, wanted = self._renderer.verdict_tokens, parameters.logprob_token_ids
        if wanted == tokens.ids or self._completion is not None:
            ids = self._ids(prompt, label)
        else:  # codes, or whatever else there is to choose from
            ids = (sorted(wanted)[int(share * 1e9) % len(wanted)], *self._renderer.eos_token_ids[:1])
        ids = ids[: parameters.max_tokens]
        stops = [i for i, token in enumerate(ids) if token in parameters.stop_token_ids]
        if stops:
            ids = ids[: stops[0] + 1]
        score = 0.5 + (_UNSAFE_SHARE - share) / 2  # above one half where the label is `unsafe`
        # Further verdicts than these two are never likely.
        pair = (math.log1p(-score), math.log(score), *[-math.inf] * (len(tokens.ids) - 2))
        verdict = wanted == tokens.ids
        return Completion(
            token_ids=ids,
            verdict_logprobs=(pair,) * len(ids)
            if verdict
            else tuple(_chosen(wanted, token) for token in ids),
            finish_reason="stop" if stops else "length",
        )

    def _ids(self, prompt: tuple[int, ...], label: Literal["safe", "unsafe"]) -> tuple[int, ...]:
        renderer = self._renderer
        end = renderer.eos_token_ids[:1]
        if self._completion is not None:
            return renderer.encoder.structure(self._completion(prompt)) + end
        answer = renderer.answer_ids(label)
        suffix = renderer.fast_suffix
        if prompt[len(prompt) - len(suffix) :] == suffix:  # the verdict is asked for at once
            return answer[len(renderer.forced_close) :] + end
        return renderer.encoder.structure(_RATIONALE) + answer + end


def _chosen(wanted: tuple[int, ...], token: int) -> tuple[float, ...]:
    """Log-probabilities of the ids, most of it that of the token."""
    other = math.log((1 - _SURE) / len(wanted))
    return tuple(math.log(_SURE) if one == token else other for one in wanted)


async def _wait(run: _Run, seconds: float) -> None:
    """So long, or until the run ends."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(run.stopped.wait(), seconds)


def _share(prompt: tuple[int, ...]) -> float:
    digest = hashlib.sha256(struct.pack(f"<{len(prompt)}i", *prompt)).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
