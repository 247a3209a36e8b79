"""Builds the verdict cache: what the worker has in Redis, leases on questions with it, and the tiers."""

from __future__ import annotations

import random

from workers.adapters.local_cache import LocalCache, TieredCache, Watched
from workers.adapters.redis import RedisCache
from workers.adapters.redis_leases import RedisLeases
from workers.ports import Clock, VerdictCache
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


def cache_tiers(
    settings: CacheSettings,
    shared: VerdictCache | None,
    clock: Clock,
    broker_clock: Clock,
    telemetry: Telemetry,
) -> VerdictCache:
    """The process's verdicts and the shared ones as one cache; what is found in each is counted."""
    if shared is not None and not settings.local_bytes:
        return Watched(shared, "shared", telemetry.looked)
    local = LocalCache(settings.local_bytes, clock.monotonic_s)
    telemetry.watch_local_cache(lambda: len(local), lambda: local.bytes)
    if shared is None:
        return Watched(local, "local", telemetry.looked)
    return TieredCache(local, shared, broker_clock.now_ms, telemetry.looked)
