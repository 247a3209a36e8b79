"""A real Redis in trouble: each a miss and a metric, bounded in time, and over by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.cache.caches import VERDICT, Observer, redis_cache, took_s, until
from tests.redis_sites import Node, stop
from tests.waiting import wait_for
from workers.adapters.embedded_server import LOOPBACK
from workers.adapters.redis import RedisCache

TIMEOUT_MS = 200
RESET_S = 0.4


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture
async def cache(own_redis: Node, observer: Observer) -> AsyncIterator[RedisCache]:
    made = redis_cache(
        own_redis.address, observer, timeout_ms=TIMEOUT_MS, breaker_failures=2, breaker_reset_s=RESET_S
    )
    yield made
    await made.close()


async def test_a_hung_server_costs_the_timeout_until_it_is_left_alone(
    own_redis: Node, cache: RedisCache, observer: Observer
) -> None:
    await cache.keep("k", VERDICT, 60)
    own_redis.suspend()
    for _ in range(2):
        assert await cache.recall(["k"]) == [None]
    assert observer.failures == ["recall", "recall"]
    began = time.monotonic()
    left_alone = await took_s(cache.recall(["k"]))
    await cache.keep("other", VERDICT, 60)
    if time.monotonic() - began < RESET_S:  # else it was tried again meanwhile, on a core that had other work
        assert left_alone < TIMEOUT_MS / 1000
        assert observer.failures == ["recall", "recall"]
    own_redis.resume()
    await until(lambda: _has(cache, "k"), "the server to be asked again")


async def test_nobody_waits_while_a_hung_server_is_tried_again_with_the_keys_of_one_batch(
    own_redis: Node, observer: Observer
) -> None:
    now = 0.0
    cache = redis_cache(
        own_redis.address, observer, lambda: now, timeout_ms=TIMEOUT_MS, breaker_failures=2, breaker_reset_s=5
    )
    await cache.keep("k", VERDICT, 60)
    own_redis.suspend()
    for _ in range(2):
        await cache.recall(["k"])
    for _ in range(3):
        now += 5.0
        before, quiet = len(observer.failures), asyncio.all_tasks()
        began = time.monotonic()
        await asyncio.gather(*(cache.recall(["k"]) for _ in range(5)))
        if time.monotonic() - began < TIMEOUT_MS / 1000:  # else a core had other work
            assert len(observer.failures) == before
        await until(lambda: _ended(since=quiet), "the end of whatever is tried")  # noqa: B023
        assert len(observer.failures) == before + 1
    own_redis.resume()

    async def again() -> bool:
        nonlocal now
        now += 5.0
        return await _has(cache, "k")

    await until(again, "the server to be asked again")
    await cache.close()


async def test_a_cache_that_closes_takes_the_try_along(own_redis: Node, observer: Observer) -> None:
    now, others = 0.0, asyncio.all_tasks()
    cache = redis_cache(
        own_redis.address, observer, lambda: now, timeout_ms=60_000, breaker_failures=1, breaker_reset_s=5
    )
    await cache.keep("k", VERDICT, 60)
    own_redis.kill()
    assert await cache.recall(["k"]) == [None]
    own_redis.start()
    own_redis.suspend()
    now += 5.0
    assert await cache.recall(["k"]) == [None]
    await cache.close()
    own_redis.resume()
    assert asyncio.all_tasks() <= others


async def test_a_server_that_starts_again_is_a_miss_and_then_used(
    own_redis: Node, cache: RedisCache, observer: Observer
) -> None:
    await cache.keep("k", VERDICT, 60)
    own_redis.kill()
    assert await cache.recall(["k"]) == [None]
    await cache.keep("k", VERDICT, 60)
    assert set(observer.failures) >= {"recall"}
    await asyncio.to_thread(own_redis.start)

    async def kept() -> bool:
        await cache.keep("k", VERDICT, 60)
        return await _has(cache, "k")

    await until(kept, "the server to be used again")


async def test_a_full_server_answers_what_it_has(
    own_redis: Node, cache: RedisCache, observer: Observer
) -> None:
    await cache.keep("k", VERDICT, 60)
    own_redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    own_redis.command("CONFIG", "SET", "maxmemory", "1")
    for number in range(5):
        await cache.keep(f"other {number}", VERDICT, 60)
        assert await cache.recall(["k", f"other {number}"]) == [VERDICT, None]
    assert set(observer.failures) == {"keep"}
    assert len(observer.failures) < 5  # writing is left alone, reading goes on
    own_redis.command("CONFIG", "SET", "maxmemory", "0")

    async def kept() -> bool:
        await cache.keep("new", VERDICT, 60)
        return await _has(cache, "new")

    await until(kept, "writing to be tried again")


async def test_a_read_only_replica_answers_what_it_has(own_redis: Node, observer: Observer) -> None:
    replica = Node(own_redis.folder / "replica", "--replicaof", LOOPBACK, str(own_redis.port))
    replica.start()
    master, cache = (
        redis_cache(node.address, observer, timeout_ms=TIMEOUT_MS, breaker_failures=2)
        for node in (own_redis, replica)
    )
    try:
        wait_for(lambda: replica.command("INFO", "replication")["master_link_status"] == "up", "replication")
        await master.keep("k", VERDICT, 60)
        await until(lambda: _has(cache, "k"), "the replica to follow")
        for _ in range(5):
            await cache.keep("other", VERDICT, 60)
            assert await _has(cache, "k")
        assert set(observer.kinds) == {"ReadOnlyError"}
    finally:
        await master.close()
        await cache.close()
        stop([replica])


@pytest.mark.parametrize("value", [b"", b"garbage", b"\x02" + b"\x98" * 8, b"\x01" + b"\x98" * 8, b"\x01"])
async def test_a_value_of_no_or_another_version_is_a_miss(
    own_redis: Node, cache: RedisCache, observer: Observer, value: bytes
) -> None:
    own_redis.command("SET", "k", value)
    own_redis.command("RPUSH", "list", value)
    await cache.keep("good", VERDICT, 60)
    assert await cache.recall(["k", "list", "good"]) == [None, None, VERDICT]
    assert observer.failures == []


async def _ended(since: set[asyncio.Task[Any]]) -> bool:
    """Whether every task has ended that was begun since then."""
    return asyncio.all_tasks() <= since


async def _has(cache: RedisCache, key: str) -> bool:
    return await cache.recall([key]) == [VERDICT]
