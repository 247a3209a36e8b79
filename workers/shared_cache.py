"""Builds what the worker has in Redis: the shared verdicts, and the leases on questions."""

from __future__ import annotations

import random

from workers.adapters.redis import RedisCache
from workers.adapters.redis_leases import RedisLeases
from workers.ports import Clock
from workers.settings import CacheSettings, Settings
from workers.telemetry import Telemetry


async def open_shared_cache(settings: Settings, telemetry: Telemetry, clock: Clock) -> RedisCache | None:
    """The cache, tried once; None without a URL. A Redis that does not answer is left for later.

    Raises `SettingsError` or `StartError` for what an operator has to mend.
    """
    if not settings.redis.url.get_secret_value():
        return None
    cache = RedisCache(
        settings.redis,
        observer=telemetry,
        clock=clock.monotonic_s,
        random=random.SystemRandom().random,
        jitter=settings.cache.ttl_jitter,
        leases=bool(settings.cache.lease_ms),
        hold_decoded=not settings.cache.local_bytes,
    )
    try:
        if not await cache.check():
            telemetry.warn("Redis does not answer; the worker runs without it and tries again now and then.")
    except BaseException:
        await cache.close()
        raise
    return cache


def leases(
    settings: CacheSettings, shared: RedisCache | None, telemetry: Telemetry, clock: Clock
) -> RedisLeases | None:
    """Turns of several workers at the same question; None when they are off."""
    if shared is None or not settings.lease_ms:
        return None
    return RedisLeases(
        shared.servers,
        lease_s=settings.lease_ms / 1000,
        observer=telemetry,
        clock=clock.monotonic_s,
    )
