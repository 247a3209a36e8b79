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
from typing import Final

import msgspec

from guard.errors import CheckpointError, EngineDead, EngineFailed, EngineTimeout
from guard.serving.engine import Clock, Completion, EngineParameters
from guard.serving.fleet_view import FleetView, Told
from guard.serving.remote_admission import Expected
from guard.serving.remote_answer import (
    MOST_IDS,
    PATH,
    BadAnswer,
    merged,
    most_bytes,
    read_completion,
    request_body,
)
from guard.serving.remote_balance import choose, wait_s
from guard.serving.remote_endpoint import Broken, Endpoint, Unreachable
from guard.serving.remote_fleet import Fleet, History
from guard.serving.remote_options import RemoteOptions, served_name

# Servers that one call is sent to. A prompt that ends whoever reads it does not end the whole fleet.
_MOST_SERVERS: Final = 3
# Before a call goes to a server again that failed it, in seconds.
_AGAIN_S: Final = 0.1
# How long a server that has too much to do is left alone where it does not say so itself, and at most; in
# seconds.
_BUSY_S, _LONGEST_BUSY_S = 0.5, 5.0


class _Elsewhere(Exception):
    """This server did not answer the call; another may."""


class _Busy(Exception):
    """This server has too much to do."""


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
        hang_timeout_s: float = 20.0,
        start_timeout_s: float = 600.0,
        clock: Clock = time.monotonic,
    ) -> None:
        """`folder` and `weights_digest`: the checkpoint's, of which the servers must serve the weights."""
        self._options = options
        self._expected = Expected(
            model=options.model or served_name(weights_digest, load_format),
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
        call = _Call(fleet, prompt_ids, parameters, self._expected, self._clock)
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


class _Call:
    """One request on its way from server to server."""

    def __init__(
        self,
        fleet: Fleet,
        prompt_ids: Sequence[int],
        parameters: EngineParameters,
        expected: Expected,
        clock: Clock,
    ) -> None:
        self._fleet, self._parameters, self._expected, self._clock = fleet, parameters, expected, clock
        self._prompt_tokens = len(prompt_ids)
        # What it may come to: the model's length ends it.
        self._tokens = min(len(prompt_ids) + parameters.max_tokens, expected.max_model_len)
        self._body = request_body(prompt_ids, parameters, expected.model)
        self._at: Endpoint | None = None
        self._sent_s = 0.0

    async def answer(self) -> Completion:
        """The completion, of the first server that gives one. Raises `EngineFailed` or `EngineDead`."""
        fleet, tried = self._fleet, list[Endpoint]()
        while True:
            endpoint = choose(fleet.endpoints, self._clock(), tried) if fleet.alive else None
            if endpoint is None:
                pause_s = wait_s(fleet.endpoints, self._clock()) if fleet.alive else None
                if pause_s is None:
                    raise EngineDead("no vLLM server is left")
                await asyncio.sleep(pause_s)
                continue
            if endpoint in tried:
                await asyncio.sleep(_AGAIN_S)
                if endpoint.state != "serving":
                    continue
            if tried:
                fleet.history.retries += 1
            try:
                return await self._ask(endpoint)
            except _Busy:
                continue
            except _Elsewhere as error:
                tried.append(endpoint)
                if len(tried) >= _MOST_SERVERS and fleet.alive:
                    raise EngineFailed(
                        f"{len(tried)} tries at vLLM servers failed; the last: {error}"
                    ) from None

    async def decide(self) -> None:
        """Out of time: returns when it is known whether the server that had the call is alive."""
        endpoint = self._at
        if endpoint is not None and endpoint.heard_s < self._sent_s:
            await self._fleet.decide(endpoint)

    async def _ask(self, endpoint: Endpoint) -> Completion:
        self._at, self._sent_s = endpoint, self._clock()
        if not endpoint.calls:
            endpoint.began_s = self._sent_s
        endpoint.begin(self._tokens)
        try:
            status, content, pause_s = await self._send(endpoint)
        finally:
            endpoint.end(self._tokens)
        endpoint.heard_s = self._clock()
        if status == 200:
            return self._read(endpoint, content)
        self._refused(endpoint, status, pause_s)
        raise _Elsewhere(f"HTTP {status}")

    async def _send(self, endpoint: Endpoint) -> tuple[int, bytes, float]:
        request = asyncio.ensure_future(endpoint.post(PATH, self._body, most_bytes(self._parameters)))
        endpoint.attempts.add(request)
        try:
            await asyncio.wait([request])
        finally:
            if not request.done():
                # The call ends when its connection has been closed, not before.
                request.cancel()
                await asyncio.wait([request])
            endpoint.attempts.discard(request)
            if not request.cancelled():
                request.exception()  # nobody asks for it when the call is out of time
        try:
            return await request
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise _Elsewhere("the server was ejected meanwhile") from None
        except Unreachable as error:
            self._fleet.eject(endpoint, "unreachable", str(error))
            raise _Elsewhere(str(error)) from None
        except Broken as error:
            self._fleet.failed(endpoint, str(error))
            raise _Elsewhere(str(error)) from None

    def _read(self, endpoint: Endpoint, content: bytes) -> Completion:
        try:
            completion = read_completion(
                content,
                self._parameters,
                prompt_tokens=self._prompt_tokens,
                vocabulary_size=self._expected.vocabulary_size,
                model=self._expected.model,
            )
        except BadAnswer as error:
            self._fleet.failed(endpoint, str(error))
            raise _Elsewhere(str(error)) from None
        endpoint.answered()
        return completion

    def _refused(self, endpoint: Endpoint, status: int, pause_s: float) -> None:
        """What follows from a status other than 200, for the server; raises unless another may answer."""
        if status in (400, 413, 422):
            endpoint.answered()
            # Only the status: the server's sentence may repeat the request.
            raise EngineFailed(f"a vLLM server refused the call (HTTP {status})")
        if status in (429, 503):
            pause_s = min(_LONGEST_BUSY_S, max(_BUSY_S, pause_s))
            endpoint.busy_until_s = self._clock() + pause_s
            if status == 503:
                self._fleet.look(endpoint)  # it may be about to end
            raise _Busy
        if status >= 500:
            self._fleet.failed(endpoint, f"it fails calls (HTTP {status})")
        else:  # another key, another model, or no such server any more
            self._fleet.eject(endpoint, "refused", f"it refuses calls (HTTP {status})")


def _vocabulary_size(folder: Path) -> int:
    """Of the model, which may have more than the tokenizer."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    size = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    if not isinstance(size, int) or size < 1:
        raise CheckpointError(f"{folder / 'config.json'}: vocab_size: expected the model's vocabulary size")
    return size
