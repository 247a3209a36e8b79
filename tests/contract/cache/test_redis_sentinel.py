"""A master behind real sentinels: a failover is some misses, and nothing has to be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from tests.contract.cache.caches import VERDICT, Observer, sentinel_cache, until
from tests.redis_sites import SentinelSite
from tests.waiting import wait_for
from workers.adapters.redis import RedisCache
from workers.errors import StartError


@pytest.fixture
async def watched(
    own_sentinels: SentinelSite,
) -> AsyncIterator[tuple[SentinelSite, RedisCache, Observer]]:
    observer = Observer()
    cache = sentinel_cache(own_sentinels, observer, timeout_ms=300, breaker_failures=2, breaker_reset_s=0.3)
    yield own_sentinels, cache, observer
    await cache.close()


@pytest.mark.parametrize("how", ["kill", "suspend"])
async def test_a_new_master_is_used_and_the_old_one_left(
    watched: tuple[SentinelSite, RedisCache, Observer], how: str
) -> None:
    site, cache, observer = watched
    assert await cache.check()
    await cache.keep("k", VERDICT, 600)
    assert site.master.command("WAIT", 1, 5000) == 1
    getattr(site.master, how)()
    assert await cache.recall(["k"]) == [None]
    await until(lambda: _has(cache, "k"), "the new master")
    assert site.master_port() == site.replica.port
    assert "recall" in observer.failures
    # The old master comes back as a replica, which takes no writes; they go to the new one.
    await asyncio.to_thread(site.master.resume if how == "suspend" else site.master.start)
    wait_for(lambda: site.master.command("ROLE")[0] == b"slave", "the old master to follow")
    await until(lambda: _keeps(cache, "later"), "writing")
    assert site.replica.command("EXISTS", "later") == 1


async def test_a_master_that_was_told_to_follow_is_left_by_its_connections(
    watched: tuple[SentinelSite, RedisCache, Observer],
) -> None:
    site, cache, _ = watched
    await cache.keep("k", VERDICT, 600)
    site.sentinels[0].command("SENTINEL", "FAILOVER", "verdicts")
    wait_for(lambda: site.master_port() == site.replica.port, "the failover")

    async def kept_there() -> bool:  # what the old one takes until it follows is lost
        return await _keeps(cache, "later") and site.replica.command("EXISTS", "later") == 1

    await until(kept_there, "writing to the new master")


async def test_a_sentinel_that_hangs_does_not_hide_the_other(
    watched: tuple[SentinelSite, RedisCache, Observer],
) -> None:
    site, cache, _ = watched
    site.sentinels[0].suspend()  # the first that is asked
    await until(lambda: _keeps(cache, "k"), "the other sentinel to be asked")


async def test_no_sentinel_is_a_miss(own_sentinels: SentinelSite) -> None:
    observer = Observer()
    for sentinel in own_sentinels.sentinels:
        sentinel.kill()
    cache = sentinel_cache(own_sentinels, observer, timeout_ms=300)
    assert not await cache.check()
    assert await cache.recall(["k"]) == [None]
    assert observer.failures == ["connect", "recall"]
    await cache.close()


async def test_a_name_that_no_sentinel_knows_is_a_miss(redis_sentinels: SentinelSite) -> None:
    observer = Observer()
    cache = sentinel_cache(redis_sentinels, observer, sentinel_service="unknown")
    assert not await cache.check()
    assert observer.kinds == ["MasterNotFoundError"]
    await cache.close()


async def _has(cache: RedisCache, key: str) -> bool:
    return await cache.recall([key]) == [VERDICT]


async def _keeps(cache: RedisCache, key: str) -> bool:
    await cache.keep(key, VERDICT, 600)
    return await _has(cache, key)


async def test_sentinels_that_want_a_password_are_given_theirs(own_sentinels: SentinelSite) -> None:
    for sentinel in own_sentinels.sentinels:
        sentinel.command("ACL", "SETUSER", "default", "resetpass", ">word")
    right, wrong, none = (
        sentinel_cache(own_sentinels, Observer(), **changes)
        for changes in ({"sentinel_password": SecretStr("word")}, {"sentinel_password": SecretStr("x")}, {})
    )
    assert await right.check()
    for refused in (wrong, none):
        with pytest.raises(StartError, match="refuses the credentials"):
            await refused.check()
    for cache in (right, wrong, none):
        await cache.close()
