"""Turns at the guard between workers, over a real Redis: one server, a cluster, and a server in trouble."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.contract.cache.caches import VERDICT, Observer, redis_cache, took_s
from tests.redis_sites import ClusterSite, Node
from workers.adapters.redis import RedisCache
from workers.adapters.redis_leases import RedisLeases

SLACK_S = 0.5


class Colleague:
    """A worker with a cache and leases of its own, on the same servers as the others."""

    def __init__(self, url: str, lease_s: float, **changes: Any) -> None:
        self.observer = Observer()
        self.cache: RedisCache = redis_cache(url, self.observer, **changes)
        self.leases = RedisLeases(
            self.cache.servers, lease_s=lease_s, observer=self.observer, clock=time.monotonic
        )

    async def close(self) -> None:
        await self.leases.close()
        await self.cache.close()


Make = Callable[..., Colleague]


@pytest.fixture
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    made: list[Colleague] = []

    def build(url: str, lease_s: float = 5.0, **changes: Any) -> Colleague:
        made.append(Colleague(url, lease_s, **changes))
        return made[-1]

    yield build
    for colleague in made:
        await colleague.close()


@pytest.fixture(params=["standalone", "cluster"])
def pair(request: pytest.FixtureRequest, make: Make) -> Callable[..., tuple[Colleague, Colleague]]:
    if request.param == "cluster":
        site: ClusterSite = request.getfixturevalue("redis_cluster")
        return lambda **changes: (
            make(site.url, topology="cluster", **changes),
            make(site.url, topology="cluster", **changes),
        )
    node: Node = request.getfixturevalue("redis_server")
    return lambda **changes: (make(node.address, **changes), make(node.address, **changes))


Pair = Callable[..., tuple[Colleague, Colleague]]


async def test_one_asks_and_the_other_gets_its_verdict(pair: Pair, fresh_name: Callable[[str], str]) -> None:
    one, other = pair()
    keys = [fresh_name("key") for _ in range(20)]
    assert await asyncio.gather(*(one.leases.take(key, None) for key in keys)) == [None] * 20
    waiting = asyncio.gather(*(other.leases.take(key, None) for key in keys))
    await asyncio.gather(*(one.cache.keep(key, VERDICT, 60) for key in keys))
    for key in keys:
        one.leases.end(key)
    assert await waiting == [VERDICT] * 20
    assert one.observer.leases == ["taken"] * 20
    assert other.observer.leases == ["answered"] * 20


async def test_who_asked_in_vain_lets_the_other_ask_at_once(
    pair: Pair, fresh_name: Callable[[str], str]
) -> None:
    one, other = pair(lease_s=30.0)
    key = fresh_name("key")
    await one.leases.take(key, None)
    waiting = asyncio.create_task(other.leases.take(key, None))
    one.leases.end(key)
    async with asyncio.timeout(10):
        assert await waiting is None
    assert other.observer.leases == ["taken"]


async def test_a_holder_that_dies_costs_no_more_than_its_lease(
    pair: Pair, fresh_name: Callable[[str], str]
) -> None:
    one, other = pair(lease_s=0.4)
    key = fresh_name("key")
    await one.leases.take(key, None)
    await one.close()  # without a word
    assert await took_s(other.leases.take(key, None)) < 0.4 + SLACK_S
    assert other.observer.leases in (["taken"], ["in_vain"])


async def test_who_has_less_time_waits_less(pair: Pair, fresh_name: Callable[[str], str]) -> None:
    one, other = pair(lease_s=30.0)
    key = fresh_name("key")
    await one.leases.take(key, None)
    assert await took_s(other.leases.take(key, 0.2)) < 0.2 + SLACK_S
    assert other.observer.leases == ["in_vain"]
    assert await took_s(other.leases.take(key, -1.0)) < SLACK_S


async def test_a_turn_that_nobody_waits_for_any_more_is_given_back(
    pair: Pair, fresh_name: Callable[[str], str]
) -> None:
    one, other = pair(lease_s=30.0)
    key = fresh_name("key")
    left = asyncio.create_task(one.leases.take(key, None))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    async with asyncio.timeout(10):
        assert await other.leases.take(key, None) is None


async def test_while_redis_hangs_everybody_asks(own_redis: Node, make: Make) -> None:
    one = make(own_redis.address, timeout_ms=200, breaker_failures=2, breaker_reset_s=60.0)
    await one.leases.take("a", None)
    own_redis.suspend()
    waits = [await took_s(one.leases.take(key, None)) for key in ("b", "c", "d", "e")]
    assert max(waits) < 0.2 + SLACK_S
    assert sum(waits[2:]) < 0.2  # left alone
    assert one.observer.leases == ["taken", *["unavailable"] * 4]
    assert one.observer.failures == ["lease", "lease"]
    own_redis.resume()


async def test_a_server_that_takes_no_writes_keeps_nobody_from_asking(own_redis: Node, make: Make) -> None:
    one = make(own_redis.address, timeout_ms=2000)
    own_redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    own_redis.command("CONFIG", "SET", "maxmemory", "1")
    assert await one.leases.take("a", None) is None
    assert one.observer.leases == ["unavailable"]
