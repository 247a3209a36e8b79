"""vLLM servers elsewhere, as one engine: `vllm serve`, one or more, over HTTP.

A call goes to the server with the fewest outstanding tokens. When that one breaks, the call goes to another
before its deadline; when none is left, the engine is dead, as one in this program would be, and `start` waits
for servers anew.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from guard.errors import CheckpointError, EngineDead, EngineFailed, EngineTimeout
from guard.serving.engine import Clock, Completion, EngineParameters
from guard.serving.fleet_view import FleetView, Looked, Told
from guard.serving.remote_admission import Expected
from guard.serving.remote_answer import (
    MOST_IDS,
    merged,
)
from guard.serving.remote_call import Call
from guard.serving.remote_fleet import Fleet, History
from guard.serving.remote_look import look_at_fleet
from guard.serving.remote_options import RemoteOptions, served_name


class RemoteEngine:
    """An `Engine`. One event loop at a time; deadlines are instants of `time.monotonic`."""

    def __init__(
        self,
        folder: Path,
        weights_digest: str,
        options: RemoteOptions,
        *,
        max_model_len: int,
        load_format: str = "auto",
        quantization: str = "",
        hang_timeout_s: float = 20.0,
        start_timeout_s: float = 600.0,
        clock: Clock = time.monotonic,
    ) -> None:
        """`folder` and `weights_digest`: the checkpoint's, of which the servers must serve the weights."""
        self._options = options
        self._expected = Expected(
            model=options.model or served_name(weights_digest, load_format, quantization),
            max_model_len=max_model_len,
            vocabulary_size=_vocabulary_size(folder),
        )
        self._dummy = load_format == "dummy"
        self._hang_timeout_s, self._start_timeout_s = hang_timeout_s, start_timeout_s
        self._clock = clock
        self._history = History()
        self._fleet: Fleet | None = None
        self._starting = asyncio.Lock()
        self._calls = 0

    @property
    def name(self) -> str:
        """What stands in decisions, by what is known of the weights: the servers serve them by their digest;
        or under a name that somebody vouches for; or they are random."""
        if self._dummy:
            return "vllm-remote-dummy"
        return "vllm-remote-unverified" if self._options.model else "vllm-remote"

    @property
    def version(self) -> str:
        """The servers' vLLM, all the same; `unknown` before the first start."""
        reference = self._history.reference
        return reference.version if reference is not None else "unknown"

    async def look(self, timeout_s: float) -> list[Looked]:
        """One look at every server, apart from what is running; for an operator."""
        return await look_at_fleet(self._options, self._expected, timeout_s)

    @property
    def alive(self) -> bool:
        return self._fleet is not None and self._fleet.alive

    @property
    def calls_in_flight(self) -> int:
        return self._calls

    def fleet(self) -> FleetView:
        """Its servers now."""
        if self._fleet is not None:
            return self._fleet.view()
        return FleetView(retries=self._history.retries, ejections=dict(self._history.ejections))

    def tell(self, told: Told) -> None:
        """Tell of servers that are ejected or are back, from now on."""
        self._history.told = told

    async def start(self) -> None:
        """Ready when it returns: one server at least is as expected; at the first start, none is otherwise.

        The first start waits `start_timeout_s` for a server; a later one looks once, and its caller tries
        again.
        """
        async with self._starting:
            if self.alive:
                return
            await self._let_go()
            while self._calls:  # noqa: ASYNC110 - they end within a few turns of the loop
                await asyncio.sleep(0)
            fleet = Fleet(
                self._options,
                self._expected,
                self._history,
                hang_timeout_s=self._hang_timeout_s,
                clock=self._clock,
            )
            first = self._history.reference is None
            try:
                await fleet.begin(self._start_timeout_s)
            except BaseException:
                if first:  # nothing was named by it yet
                    self._history.reference = None
                await fleet.close()
                raise
            self._fleet = fleet

    async def gone(self) -> None:
        if self._fleet is not None:
            await self._fleet.gone()

    async def close(self) -> None:
        async with self._starting:
            await self._let_go()

    async def _let_go(self) -> None:
        fleet, self._fleet = self._fleet, None
        if fleet is not None:
            await fleet.close()

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        fleet = self._fleet
        if fleet is None or not fleet.alive:
            raise EngineDead("no vLLM server can be used")
        self._check(prompt_ids)
        wanted = parameters.logprob_token_ids
        if len(wanted) <= MOST_IDS:
            return await self._one(fleet, prompt_ids, parameters, deadline_s)
        # More than a server gives at a time.
        parts = [
            await self._one(
                fleet,
                prompt_ids,
                msgspec.structs.replace(parameters, logprob_token_ids=part),
                deadline_s,
            )
            for part in (wanted[:MOST_IDS], wanted[MOST_IDS:])
        ]
        return merged(*parts)

    def _check(self, prompt_ids: Sequence[int]) -> None:
        # Here as well as there: an id outside the embedding may end the server for everybody.
        size, longest = self._expected.vocabulary_size, self._expected.max_model_len
        if not prompt_ids or min(prompt_ids) < 0 or max(prompt_ids) >= size:
            raise EngineFailed(f"expected 1 or more token ids from 0 to {size - 1}")
        if len(prompt_ids) >= longest:
            raise EngineFailed(f"{len(prompt_ids)} prompt tokens; expected fewer than {longest}")

    async def _one(
        self, fleet: Fleet, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        """One request, sent until it is answered or out of time."""
        left_s = deadline_s - self._clock()
        if left_s <= 0:
            raise EngineTimeout("the deadline passed before the call")
        call = Call(fleet, prompt_ids, parameters, self._expected, self._clock)
        self._calls += 1
        try:
            async with asyncio.timeout(left_s):
                return await call.answer()
        except TimeoutError:
            await call.decide()
            if not fleet.alive:
                raise EngineDead("the last vLLM server was lost during the call") from None
            raise EngineTimeout("no completion before the deadline; it was aborted") from None
        finally:
            self._calls -= 1


def _vocabulary_size(folder: Path) -> int:
    """Of the model, which may have more than the tokenizer."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    size = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    if not isinstance(size, int) or size < 1:
        raise CheckpointError(f"{folder / 'config.json'}: vocab_size: expected the model's vocabulary size")
    return size
