"""`/health/live`, `/health/ready` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from workers.errors import StartError
from workers.settings import HealthSettings

# The loop beats every few milliseconds; the longest silence that passes is a commit to a broker that is away,
# which the client gives up after 60 s.
SILENCE_S: Final = 120.0


class Health:
    """What the probes are told. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._beat_at: float | None = None
        self.guard_ready = False
        self.joined = False
        self.stopping = False
        self.slow: Callable[[], Sequence[str]] = tuple
        """What keeps partitions waiting, a sentence each; asked for when readiness is."""
        self.servers: Callable[[], Sequence[str]] = tuple
        """Servers of the engine `remote` that get no calls, a sentence each; asked for likewise."""

    def beat(self) -> None:
        """The loop of the stream goes round."""
        self._beat_at = self._clock()

    @property
    def live(self) -> bool:
        """False when the loop has begun and is silent for too long."""
        return self._beat_at is None or self._clock() - self._beat_at < SILENCE_S

    @property
    def not_ready(self) -> list[str]:
        """Why events are not being judged now; empty: ready."""
        reasons = [] if self.guard_ready else ["the guard is not ready"]
        if not self.joined:
            reasons.append("the consumer group is not joined")
        if self.stopping:
            reasons.append("the worker is stopping")
        return reasons


class HealthServer:
    """Serves health and metrics until closed."""

    def __init__(self, runner: web.AppRunner, port: int) -> None:
        self._runner = runner
        self.port = port

    @classmethod
    async def start(
        cls,
        settings: HealthSettings,
        health: Health,
        registry: CollectorRegistry,
        more: Sequence[web.RouteDef] = (),
    ) -> HealthServer:
        """Raises `StartError` when the port cannot be had; `port` is the one in use."""

        async def live(_: web.Request) -> web.Response:
            return web.Response(text="live\n") if health.live else web.Response(text="stuck\n", status=503)

        async def ready(_: web.Request) -> web.Response:
            reasons = health.not_ready
            lines = ["; ".join(reasons) or "ready", *health.servers(), *health.slow()]
            return web.Response(text="".join(f"{line}\n" for line in lines), status=503 if reasons else 200)

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

        app = web.Application()
        app.add_routes(
            [web.get("/health/live", live), web.get("/health/ready", ready), web.get("/metrics", metrics)]
        )
        app.add_routes(more)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise StartError(
                f"RSAFE_HEALTH__PORT: {settings.host}:{settings.port} cannot be listened on: {error.strerror}"
            ) from error
        return cls(runner, int(runner.addresses[0][1]))

    async def close(self) -> None:
        await self._runner.cleanup()
