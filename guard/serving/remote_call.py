"""One request on its way from server to server: what is tried again, where, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from guard.errors import EngineDead, EngineFailed
from guard.serving.engine import Clock, Completion, EngineParameters
from guard.serving.remote_admission import Expected
from guard.serving.remote_answer import PATH, BadAnswer, most_bytes, read_completion, request_body
from guard.serving.remote_balance import choose, wait_s
from guard.serving.remote_endpoint import Broken, Endpoint, Unreachable
from guard.serving.remote_fleet import Fleet

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


class Call:
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
