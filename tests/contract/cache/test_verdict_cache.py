"""What every verdict cache promises: the process's own, one server, a cluster, sentinels, and both tiers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from tests.contract.cache.caches import VERDICT, Observer, redis_cache, sentinel_cache
from tests.redis_sites import Node
from workers.adapters.local_cache import LocalCache, TieredCache
from workers.adapters.redis import RedisCache
from workers.ports import VerdictCache


@pytest.fixture(params=["local", "redis", "cluster", "sentinel", "tiered", "tiered-cluster"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[VerdictCache]:
    local = LocalCache(10**6, time.monotonic)
    if request.param == "local":
        yield local
        return
    observer = Observer()
    shared = _shared(request, observer)
    yield TieredCache(local, shared, _now_ms) if "tiered" in request.param else shared
    await shared.close()
    assert observer.failures == []


def _now_ms() -> float:
    return time.time() * 1000


def _shared(request: pytest.FixtureRequest, observer: Observer) -> RedisCache:
    match request.param:
        case "cluster" | "tiered-cluster":
            return redis_cache(request.getfixturevalue("redis_cluster").url, observer, topology="cluster")
        case "sentinel":
            return sentinel_cache(request.getfixturevalue("redis_sentinels"), observer)
        case _:
            return redis_cache(request.getfixturevalue("redis_server").address, observer)


async def test_what_was_kept_is_recalled_whole(cache: VerdictCache, fresh_name: Callable[[str], str]) -> None:
    key = fresh_name("key")
    assert await cache.recall([key]) == [None]
    await cache.keep(key, VERDICT, 60)
    assert await cache.recall([key]) == [VERDICT]


async def test_results_stand_in_the_order_of_the_keys(
    cache: VerdictCache, fresh_name: Callable[[str], str]
) -> None:
    keys = [fresh_name("key") for _ in range(6)]
    for number in (1, 4):
        await cache.keep(keys[number], msgspec.structs.replace(VERDICT, kept_at_ms=number), 60)
    found = await cache.recall([*keys, keys[4]])
    assert [verdict and verdict.kept_at_ms for verdict in found] == [None, 1, None, None, 4, None, 4]
    assert await cache.recall([]) == []


async def test_the_last_one_kept_counts(cache: VerdictCache, fresh_name: Callable[[str], str]) -> None:
    key = fresh_name("key")
    await cache.keep(key, VERDICT, 60)
    newer = msgspec.structs.replace(VERDICT, origin_decision="e" * 64)
    await cache.keep(key, newer, 60)
    assert await cache.recall([key]) == [newer]


async def test_many_are_kept_at_once(cache: VerdictCache, fresh_name: Callable[[str], str]) -> None:
    keys = [fresh_name("key") for _ in range(300)]
    await asyncio.gather(*(cache.keep(key, VERDICT, 60) for key in keys))
    assert await cache.recall(keys) == [VERDICT] * 300


async def test_a_verdict_expires(cache: VerdictCache, fresh_name: Callable[[str], str]) -> None:
    key = fresh_name("key")
    soon = msgspec.structs.replace(VERDICT, expires_at_ms=int(_now_ms()) + 20)
    await cache.keep(key, soon, 0.02)
    async with asyncio.timeout(10):
        while await cache.recall([key]) != [None]:  # noqa: ASYNC110 - time is what is waited for
            await asyncio.sleep(0.005)


async def test_a_shared_verdict_is_kept_near_after_its_first_use(
    redis_server: Node, fresh_name: Callable[[str], str]
) -> None:
    shared, key = redis_cache(redis_server.address, Observer()), fresh_name("key")
    await shared.keep(key, VERDICT, 60)
    local = LocalCache(10**6, time.monotonic)
    assert await TieredCache(local, shared, _now_ms).recall([key]) == [VERDICT]
    assert local.look_up([key]) == [VERDICT]
    await shared.close()
