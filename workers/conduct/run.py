"""Builds and runs the conduct app: checks, health and view, the app, the sweep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, get_args

import structlog
from aiohttp import web

from schemas.conduct import Scope
from workers.adapters.kafka_options import client_options
from workers.adapters.topic_checks import require_equal_partitions
from workers.conduct.app import ConductApp, Elsewhere
from workers.conduct.engine import Engine
from workers.conduct.entries import Entry, Subject, Sweep
from workers.conduct.following import PolicyLog, arrival, open_rules
from workers.conduct.levels import RuleBook
from workers.conduct.metrics import ConductMetrics
from workers.conduct.rules import Rules
from workers.conduct.state import State
from workers.conduct.view import view
from workers.errors import StreamStopped
from workers.health import Health, HealthServer
from workers.logs import configure_logging
from workers.policy_follower import following
from workers.settings import Settings

# How often the loop is seen to go round.
_BEAT_S: Final = 0.5
# Sweeps are sent in batches, so that the records of decisions come between them.
_SWEPT_AT_A_TIME: Final = 200


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
        await _until_stopped(app, engine, health, settings.conduct.sweep_s, stopping)
        if app.failure is not None or app.crashed:
            raise stopped(app) from (app.failure or app.crash_reason)
    finally:
        health.stopping = True
        await app.stop()
        await server.close()


def stopped(app: ConductApp) -> StreamStopped:
    """Why the app cannot go on. The kind of error only: its words may hold a record."""
    error = app.failure or app.crash_reason
    if isinstance(error, StreamStopped):
        return error
    return StreamStopped(
        f"the conduct app cannot go on: {type(error).__name__}; nothing unfinished was committed"
    )


async def _until_stopped(
    app: ConductApp, engine: Engine, health: Health, sweep_s: float, stopping: asyncio.Event
) -> None:
    swept_at = time.monotonic()
    while not stopping.is_set() and not app.failed.is_set() and not app.crashed:
        health.beat()
        if time.monotonic() - swept_at >= sweep_s and app.ready:
            await sweep(app, engine)
            swept_at = time.monotonic()
        waits = [asyncio.create_task(one.wait()) for one in (stopping, app.failed)]
        await asyncio.wait(waits, timeout=_BEAT_S, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()


async def sweep(app: ConductApp, engine: Engine) -> None:
    """Ask for the deletion of what has expired, by the newest event time here: no clock of this machine, so
    that catching up after an outage deletes nothing that is still to be counted with."""
    newest_ms, found = 0, []
    for _, state in app.states():
        newest_ms = max(newest_ms, state.newest_ms)
    for _, state in app.states():
        if state.subject is not None and engine.expired(state, newest_ms):
            found.append(state.subject)
    for start in range(0, len(found), _SWEPT_AT_A_TIME):
        entries: list[Entry] = [
            Sweep(subject=one, by_ms=newest_ms) for one in found[start : start + _SWEPT_AT_A_TIME]
        ]
        await app.publish(entries)


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
