"""A server on this machine that answers as vLLM's does, or otherwise; for tests of its client."""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from guard.serving.remote_engine import RemoteEngine
from guard.serving.remote_options import RemoteOptions

MODEL, VOCABULARY, LENGTH = "digest-of-weights", 400, 256
STOP = 7

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class TokenServer:
    """Answers to `/inference/v1/generate` come from `answer`; set it, and the other facts, in a test."""

    def __init__(self) -> None:
        self.version, self.model, self.length, self.key = "0.32.0", MODEL, LENGTH, ""
        self.health, self.weights = 200, 1.0
        self.metrics: str | None = ""
        self.answer: Answer = self.tokens
        self.requests: list[dict[str, Any]] = []
        self.peers: set[str] = set()
        self.running = 0
        self.aborted = 0
        self.url = ""
        self.stalls_health = False
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        app = web.Application(client_max_size=1 << 24)
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/metrics", self._metrics),
                web.get("/v1/models", self._models),
                web.post("/inference/v1/generate", self._generate),
            ]
        )
        # A connection that is closed cancels its handler, as vLLM aborts its request.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, self._port, ssl_context=tls, reuse_address=True)
        await site.start()
        self._port = int(self._runner.addresses[0][1])
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else host}:{self._port}"

    async def stop(self) -> None:
        """Nobody listens at its port any more; calls are broken off."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def tokens(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(self.completion(body))

    def completion(self, body: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """As vLLM 0.32 writes it; a hash of the prompt decides on the tokens."""
        sampling = body["sampling_params"]
        first = sum(body["token_ids"]) % 100
        ids = [(first + i) % VOCABULARY for i in range(sampling["max_tokens"])]
        reason = "length"
        for at, token in enumerate(ids):
            if token in sampling["stop_token_ids"]:
                ids, reason = ids[: at + 1], "stop"
                break
        content = [self._position(token, sampling) for token in ids]
        choice = {
            "index": 0,
            "finish_reason": reason,
            "stop_reason": None,
            "token_ids": ids,
            "routed_experts": None,
            "logprobs": {"content": content},
        }
        usage = {
            "prompt_tokens": len(body["token_ids"]),
            "total_tokens": len(body["token_ids"]) + len(ids),
            "completion_tokens": len(ids),
            "prompt_tokens_details": {"cached_tokens": 3},
        }
        whole = {
            "request_id": "generate-tokens-1",
            "model": self.model,
            "created": 1,
            "usage": usage,
            "prompt_logprobs": None,
            "output_mode": "tokens",
            "choices": [choice | changes.pop("choice", {})],
        }
        return whole | changes

    def _position(self, token: int, sampling: dict[str, Any]) -> dict[str, Any]:
        entries = dict.fromkeys([token, *sampling["logprob_token_ids"]])
        top = [{"token_id": one, "logprob": -math.log(2 + one) * self.weights, "rank": 1} for one in entries][
            : max(1, sampling["logprobs"])
        ]
        return {"token_id": token, "logprob": top[0]["logprob"], "rank": 1, "top_logprobs": top}

    def _locked(self, request: web.Request) -> bool:
        return bool(self.key) and request.headers.get("Authorization") != f"Bearer {self.key}"

    async def _health(self, request: web.Request) -> web.Response:
        if self.stalls_health:
            await asyncio.sleep(3600)
        return web.Response(status=self.health)

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": self.version})

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(status=404) if self.metrics is None else web.Response(text=self.metrics)

    async def _models(self, request: web.Request) -> web.Response:
        if self._locked(request):
            return web.json_response({"error": "Unauthorized"}, status=401)
        card = {"id": self.model, "object": "model", "root": "/a/folder", "max_model_len": self.length}
        return web.json_response({"object": "list", "data": [card]})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        if self._locked(request):
            return web.json_response({"error": "Unauthorized"}, status=401)
        body = json.loads(await request.read())
        self.requests.append(body)
        self.peers.add(request.headers.get("Host", ""))
        if len(body["sampling_params"]["logprob_token_ids"]) == 128:  # the look at it
            return await self.tokens(request, body)
        self.running += 1
        try:
            return await self.answer(request, body)
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.running -= 1

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The requests without the looks at it."""
        return [one for one in self.requests if len(one["sampling_params"]["logprob_token_ids"]) < 128]


async def never(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """No answer while the client is there."""
    await asyncio.sleep(3600)
    raise AssertionError


def status(code: int, **headers: str) -> Answer:
    """That status, with a sentence that repeats the prompt, as real servers do."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = {"error": {"message": f"secret prompt {body['token_ids']}", "code": code}}
        return web.json_response(text, status=code, headers=headers)

    return answer


async def broken(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """The connection ends in the middle of the answer."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(3600)
    raise AssertionError


@asynccontextmanager
async def servers(count: int) -> AsyncIterator[list[TokenServer]]:
    """Running servers."""
    found = [TokenServer() for _ in range(count)]
    for one in found:
        await one.start()
    try:
        yield found
    finally:
        for one in found:
            await one.stop()


def engine_over(folder: Path, *urls: str, hang_timeout_s: float = 2.0, **options: Any) -> RemoteEngine:
    """An engine over servers, not started; quick to notice what happens."""
    defaults: dict[str, Any] = {"health_interval_s": 0.05, "failures": 3, "back_off_s": 0.05}
    return RemoteEngine(
        folder,
        MODEL,
        RemoteOptions(endpoints=urls, **(defaults | options)),
        max_model_len=LENGTH,
        hang_timeout_s=hang_timeout_s,
        start_timeout_s=5.0,
    )
