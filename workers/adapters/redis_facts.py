"""What the Redis servers say of themselves, after they have let us do what a worker does."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis.exceptions import ResponseError

from workers.adapters.redis_check import check_servers
from workers.adapters.redis_entries import info_of
from workers.adapters.redis_server import RedisServer
from workers.adapters.redis_topology import make_servers
from workers.doctor.facts import RedisFacts, RedisServerFacts
from workers.settings import RedisSettings


class _Silent:
    def cache_failed(self, operation: str, kind: str) -> None: ...


async def redis_facts(settings: RedisSettings, *, leases: bool) -> RedisFacts:
    """The servers of the settings, tried as a worker tries them at its start.

    Raises `StartError` for what waiting does not mend (refused credentials, certificates and commands,
    another topology), and `SettingsError` for an address or a file that cannot be used.
    """
    servers = make_servers(settings, observer=_Silent(), clock=time.monotonic)
    errors: list[str] = []
    try:
        answered = await check_servers(servers, settings, leases=leases, failed=errors.append)
        found = list[RedisServerFacts]()
        stopped = 0
        if answered.servers:
            asked = await asyncio.gather(
                *(_facts(server, settings.timeout_ms / 1000) for server in await servers.find())
            )
            found = [one for one in asked if one is not None]
            stopped = len(asked) - len(found)
        return RedisFacts(tuple(found), answered.silent + stopped, tuple(errors))
    finally:
        await servers.close()


async def _facts(server: RedisServer, timeout_s: float) -> RedisServerFacts | None:
    """None for one that has stopped to answer meanwhile."""
    before = time.time() * 1000
    try:
        async with asyncio.timeout(timeout_s):
            told, info = await server.exchange([("TIME",), ("INFO",)])
    except Exception:  # noqa: BLE001 - what stands at that address may make the client raise anything
        return None
    after = time.time() * 1000
    rows = {} if isinstance(info, ResponseError) else info_of(info)
    return RedisServerFacts(
        name=server.name,
        version=rows.get("redis_version"),
        used_bytes=_number(rows.get("used_memory")),
        limit_bytes=_number(rows.get("maxmemory")),
        when_full=rows.get("maxmemory_policy"),
        clock_off_ms=_off_ms(told, before, after),
        clock_unsure_ms=(after - before) / 2,
    )


def _off_ms(told: Any, before_ms: float, after_ms: float) -> float | None:
    """Redis's clock less ours in the middle of the round trip; None when it does not tell."""
    if isinstance(told, ResponseError):
        return None
    seconds, microseconds = told
    return int(seconds) * 1000 + int(microseconds) / 1000 - (before_ms + after_ms) / 2


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
