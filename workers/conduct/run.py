"""Builds and runs the conduct app: checks, health and view, the app, the sweep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, get_args

import structlog
from aiohttp import web

from schemas.conduct import Scope
from workers.adapters.group_progress import Places, group_progress
from workers.adapters.kafka_options import client_options
from workers.adapters.topic_checks import require_equal_partitions
from workers.conduct.app import ConductApp, Elsewhere
from workers.conduct.engine import Engine
from workers.conduct.entries import Subject
from workers.conduct.following import PolicyLog, arrival, open_rules
from workers.conduct.levels import RuleBook
from workers.conduct.metrics import ConductMetrics
from workers.conduct.rules import Rules
from workers.conduct.state import State
from workers.conduct.sweeping import Sweeper
from workers.conduct.view import view
from workers.errors import StreamStopped
from workers.health import Health, HealthServer
from workers.logs import configure_logging
from workers.policy_follower import following
from workers.settings import KafkaSettings, Settings

# How often the loop is seen to go round.
_BEAT_S: Final = 0.5


class ConductHealth(Health):
    """Ready while partitions of the state are here and read."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.ready: Callable[[], bool] = lambda: False

    @property
    def not_ready(self) -> list[str]:
        reasons = [] if self.ready() else ["no partition of the state is here and read"]
        return [*reasons, "the app is stopping"] if self.stopping else reasons


async def run_conduct(settings: Settings, stopping: asyncio.Event) -> None:
    """Count conduct until `stopping`. Raises `WorkerError`."""
    configure_logging(settings.log.level, settings.log.format)
    log = structlog.get_logger("rsafe.conduct")
    kafka, conduct = settings.kafka, settings.conduct
    await asyncio.to_thread(
        require_equal_partitions,
        client_options(kafka),
        (conduct.entries_topic, conduct.state_topic),
        (kafka.decisions_topic, kafka.reviews_topic, kafka.escalations_topic, kafka.dead_letters_topic),
        kafka.start_timeout_s,
    )
    book, follower = await asyncio.to_thread(open_rules, settings)
    async with following(follower, PolicyLog(log), stopping):
        await _run(settings, book, arrival(book, follower), stopping)
    log.info("The app has finished and left its group.")


async def _run(
    settings: Settings, book: Rules, arrived: Callable[[str], Awaitable[None]], stopping: asyncio.Event
) -> None:
    log = structlog.get_logger("rsafe.conduct")
    engine = Engine(book, allowed_lateness_s=settings.conduct.allowed_lateness_s)
    metrics, health = ConductMetrics(), ConductHealth(time.monotonic)
    app = ConductApp(settings, engine, book, metrics, arrived)
    server = await HealthServer.start(
        settings.health, health, metrics.registry, more=[view_route(app.state, book, _now_ms)]
    )
    log.info("The checks before the start have passed.", health_port=server.port)
    try:
        health.ready = lambda: app.ready
        await app.start()
        log.info("The app has joined its group.")
        async with _swept(settings, app, engine):
            await _until_stopped(app, health, stopping)
    finally:
        health.stopping = True
        try:
            await app.stop()
        finally:
            await server.close()
    # Asked for after the end, which may fail as well.
    if app.failure is not None or app.crashed:
        raise stopped(app) from (app.failure or app.crash_reason)


def stopped(app: ConductApp) -> StreamStopped:
    """Why the app cannot go on. The kind of error only: its words may hold a record."""
    error = app.failure or app.crash_reason
    if isinstance(error, StreamStopped):
        return error
    return StreamStopped(
        f"the conduct app cannot go on: {type(error).__name__}; nothing unfinished was committed"
    )


async def _until_stopped(app: ConductApp, health: Health, stopping: asyncio.Event) -> None:
    while not stopping.is_set() and not app.failed.is_set() and not app.crashed:
        health.beat()
        waits = [asyncio.create_task(one.wait()) for one in (stopping, app.failed)]
        await asyncio.wait(waits, timeout=_BEAT_S, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()


@asynccontextmanager
async def _swept(settings: Settings, app: ConductApp, engine: Engine) -> AsyncIterator[None]:
    kafka, conduct = settings.kafka, settings.conduct
    topics = (kafka.decisions_topic, kafka.reviews_topic, conduct.entries_topic)
    sweeper = Sweeper(app, engine, partial(_progress, kafka, conduct.group_id, topics), time.monotonic)
    task = asyncio.create_task(sweeper.run(conduct.sweep_s))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _progress(kafka: KafkaSettings, group: str, topics: Sequence[str]) -> Places | None:
    places = group_progress(kafka, group, topics)
    if places is None:
        log = structlog.get_logger("rsafe.conduct")
        log.warning("The brokers do not say how far the group has read; nothing that has expired is deleted.")
    return places


def view_route(
    state_of: Callable[[bytes], State | Elsewhere | None], book: RuleBook, now_ms: Callable[[], int]
) -> web.RouteDef:
    """`GET /conduct/<author|conversation|text|tenant>?tenant=…&id=…`; 421 where another process has it."""

    async def answer(request: web.Request) -> web.Response:
        kinds: dict[str, Scope] = {one: one for one in get_args(Scope)}
        kind = kinds.get(request.match_info["per"])
        tenant, name = request.query.get("tenant"), request.query.get("id")
        if kind is None or not tenant or not name:
            expected = "expected /conduct/author, conversation, text or tenant, with tenant= and id="
            return web.json_response({"error": expected}, status=400)
        subject = Subject(kind, tenant, name)
        state = state_of(subject.key)
        if isinstance(state, Elsewhere):
            return web.json_response({"error": "another process has this state"}, status=421)
        return web.json_response(view(subject, state, book, now_ms()))

    return web.get("/conduct/{per}", answer)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
