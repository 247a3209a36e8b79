"""A real Redis Cluster: one round trip a node, and what moves or fails is a miss that mends itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from redis.crc import key_slot

from tests.contract.cache.caches import VERDICT, Observer, redis_cache, took_s, until
from tests.redis_sites import ClusterSite, Node
from workers.adapters.redis import RedisCache
from workers.adapters.redis_server import Command, RedisServer
from workers.errors import StartError

TIMEOUT_MS = 300
SLACK_S = 0.5


@pytest.fixture
async def watched(own_cluster: ClusterSite) -> AsyncIterator[tuple[ClusterSite, RedisCache, Observer]]:
    observer = Observer()
    cache = redis_cache(
        own_cluster.url,
        observer,
        topology="cluster",
        timeout_ms=TIMEOUT_MS,
        breaker_failures=2,
        breaker_reset_s=0.3,
    )
    assert await cache.check()
    yield own_cluster, cache, observer
    await cache.close()


def keys_of(site: ClusterSite, node: Node, count: int = 3) -> list[str]:
    """Keys whose slots are the node's."""
    every = (f"key-{number}" for number in range(100_000))
    return [
        key for key, _ in zip((key for key in every if _owner(site, key) is node), range(count), strict=False)
    ]


def _owner(site: ClusterSite, key: str) -> Node:
    return site.owner(key_slot(key.encode()))


async def test_a_batch_is_one_round_trip_to_each_node(
    redis_cluster: ClusterSite, fresh_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trips: list[tuple[str, int]] = []
    exchange = RedisServer.exchange

    async def counted(server: RedisServer, commands: Sequence[Command]) -> list[Any]:
        trips.append((server.name, len(commands)))
        return await exchange(server, commands)

    cache = redis_cache(redis_cluster.url, Observer(), topology="cluster")
    keys = [fresh_name("key") for _ in range(500)]
    await asyncio.gather(*(cache.keep(key, VERDICT, 60) for key in keys))
    monkeypatch.setattr(RedisServer, "exchange", counted)
    assert await cache.recall(keys) == [VERDICT] * 500
    assert len(trips) == len({name for name, _ in trips}) == 3
    assert sum(count for _, count in trips) == 500
    await cache.close()


async def test_a_moved_slot_is_a_miss_and_found_again(
    watched: tuple[ClusterSite, RedisCache, Observer],
) -> None:
    site, cache, observer = watched
    (key,) = keys_of(site, site.nodes[0], 1)
    site.move_slot(key_slot(key.encode()), site.nodes[0], site.nodes[1])
    assert await cache.recall([key]) == [None]
    assert observer.kinds == ["MovedError"]

    async def kept() -> bool:
        await cache.keep(key, VERDICT, 60)
        return await cache.recall([key]) == [VERDICT]

    await until(kept, "the slot to be found")
    assert site.nodes[1].command("EXISTS", key) == 1


@pytest.mark.parametrize("how", ["suspend", "kill"])
async def test_a_failing_node_takes_only_its_own_keys_along(
    watched: tuple[ClusterSite, RedisCache, Observer], how: str
) -> None:
    site, cache, observer = watched
    bad, good = site.nodes[0], site.nodes[1]
    lost, kept = keys_of(site, bad), keys_of(site, good)
    await asyncio.gather(*(cache.keep(key, VERDICT, 600) for key in [*lost, *kept]))
    getattr(bad, how)()
    for _ in range(10):
        recalled = asyncio.ensure_future(cache.recall([*lost, *kept]))
        assert await took_s(recalled) < TIMEOUT_MS / 1000 + SLACK_S
        assert recalled.result() == [None] * 3 + [VERDICT] * 3
    assert "recall" in observer.failures
    await asyncio.to_thread(bad.resume if how == "suspend" else bad.start)

    async def back() -> bool:
        await asyncio.gather(*(cache.keep(key, VERDICT, 600) for key in lost))
        return await cache.recall(lost) == [VERDICT] * 3

    await until(back, "the node to be used again")


async def test_a_replica_that_takes_over_is_found(
    watched: tuple[ClusterSite, RedisCache, Observer],
) -> None:
    site, cache, observer = watched
    master = site.nodes[0]
    keys = keys_of(site, master)
    replica = await asyncio.to_thread(site.add_replica, master)
    await asyncio.gather(*(cache.keep(key, VERDICT, 600) for key in keys))
    assert await cache.recall(keys) == [VERDICT] * 3
    assert master.command("WAIT", 1, 5000) == 1
    master.kill()
    assert await cache.recall(keys) == [None] * 3

    async def found() -> bool:
        return await cache.recall(keys) == [VERDICT] * 3

    await until(found, "the replica to take over and be found")
    assert replica.command("ROLE")[0] == b"master"
    assert observer.failures


async def test_a_cluster_that_starts_later_is_found(own_cluster: ClusterSite) -> None:
    observer = Observer()
    for node in own_cluster.nodes:
        node.suspend()
    cache = redis_cache(
        own_cluster.url, observer, topology="cluster", timeout_ms=TIMEOUT_MS, breaker_reset_s=0.3
    )
    assert await took_s(cache.recall(["a", "b"])) < TIMEOUT_MS / 1000 + SLACK_S
    assert await cache.recall(["a"]) == [None]
    assert set(observer.failures) == {"connect"}
    for node in own_cluster.nodes:
        node.resume()

    async def kept() -> bool:
        await cache.keep("a", VERDICT, 60)
        return await cache.recall(["a"]) == [VERDICT]

    await until(kept, "the cluster to be found")
    await cache.close()


async def test_a_cluster_where_one_server_is_expected_ends_the_program(redis_cluster: ClusterSite) -> None:
    cache = redis_cache(redis_cluster.nodes[0].address, Observer())
    with pytest.raises(StartError, match="RSAFE_REDIS__TOPOLOGY"):
        await cache.check()
    await cache.close()


async def test_refused_credentials_end_the_program(own_cluster: ClusterSite) -> None:
    own_cluster.nodes[0].kill()
    for node in own_cluster.nodes[1:]:
        node.command("ACL", "SETUSER", "default", "resetpass", ">word")
    with_password = own_cluster.url.replace("redis://", "redis://:word@")
    for url, refused in ((own_cluster.url, True), (with_password, False)):
        cache = redis_cache(url, Observer(), topology="cluster")
        if refused:
            with pytest.raises(StartError, match="refuses the credentials"):
                await cache.check()
        else:
            # The third node is gone, which is no reason to end.
            assert not await cache.check()
            await until(lambda: _keeps_some(cache), "the nodes that are there")  # noqa: B023
        await cache.close()


async def _keeps_some(cache: RedisCache) -> bool:
    keys = [f"key-{number}" for number in range(50)]
    await asyncio.gather(*(cache.keep(key, VERDICT, 60) for key in keys))
    return any(await cache.recall(keys))


async def test_a_server_that_is_no_cluster_ends_the_program(redis_server: Node) -> None:
    cache = redis_cache(redis_server.address, Observer(), topology="cluster")
    with pytest.raises(StartError, match="RSAFE_REDIS__TOPOLOGY"):
        await cache.check()
    await cache.close()
