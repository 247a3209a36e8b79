"""The rights that the list names are enough in every topology, and each of them is needed; so is a change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from tests.contract.cache.caches import VERDICT, Observer, until
from tests.redis_sites import SERVICE, ClusterSite, Node, SentinelSite
from workers.adapters.redis import RedisCache
from workers.adapters.redis_entries import redis_entries
from workers.adapters.redis_leases import RedisLeases
from workers.errors import StartError
from workers.redis_rights import KEY_PATTERN, Topology, commands
from workers.settings import RedisSettings

KEYS = [f"rsafe:1:verdict:{number}" for number in range(20)]


@dataclass
class Site:
    """Servers with a user of the test, whatever the topology."""

    topology: Topology
    url: str
    nodes: Sequence[Node]
    sentinels: Sequence[Node]
    user: str
    caches: list[Any] = field(default_factory=list)

    def allow(self, allowed: Sequence[str], *rules: str, password: str = ">word") -> None:
        """Make the user anew, on every server."""
        granted = [f"+{name}" for name in allowed]
        for node in self.nodes:
            node.command(
                "ACL", "SETUSER", self.user, "reset", "on", password, f"~{KEY_PATTERN}", *granted, *rules
            )
            node.command("ACL", "LOG", "RESET")

    def allow_at_sentinels(self, *rules: str) -> None:
        for sentinel in self.sentinels:
            sentinel.command("ACL", "SETUSER", self.user, "reset", "on", ">other", *rules)
            sentinel.command("ACL", "LOG", "RESET")

    def everywhere(self, *words: str) -> list[Any]:
        return [node.command(*words) for node in (*self.nodes, *self.sentinels)]

    def was_refused(self) -> bool:
        """Whether any server has refused something to the user."""
        return self.user in repr(self.everywhere("ACL", "LOG"))

    def settings(self, password: str = "word") -> RedisSettings:
        more: dict[str, Any] = {}
        if self.topology == "sentinel":
            more = {"sentinel_service": SERVICE, "sentinel_username": self.user}
            more["sentinel_password"] = SecretStr("other")
        return RedisSettings(
            url=SecretStr(self.url),
            topology=self.topology,
            username=self.user,
            password=SecretStr(password),
            timeout_ms=2000,
            **more,
        )

    def cache(self, *, leases: bool) -> tuple[RedisCache, RedisLeases, Observer]:
        observer = Observer()
        cache = RedisCache(
            self.settings(), observer=observer, clock=time.monotonic, random=lambda: 0.5, leases=leases
        )
        turns = RedisLeases(cache.servers, lease_s=5, observer=observer, clock=time.monotonic)
        self.caches += [turns, cache]
        return cache, turns, observer


@pytest.fixture(params=get_args(Topology))
async def site(request: pytest.FixtureRequest, fresh_name: Callable[[str], str]) -> AsyncIterator[Site]:
    user = fresh_name("user")
    match request.param:
        case "cluster":
            cluster: ClusterSite = request.getfixturevalue("redis_cluster")
            made = Site("cluster", cluster.url, cluster.nodes, [], user)
        case "sentinel":
            watched: SentinelSite = request.getfixturevalue("redis_sentinels")
            made = Site("sentinel", watched.url, [watched.master, watched.replica], watched.sentinels, user)
        case _:
            node: Node = request.getfixturevalue("redis_server")
            made = Site("standalone", node.address, [node], [], user)
    made.allow_at_sentinels(*(f"+{name}" for name in commands(made.topology, "sentinels")))
    yield made
    for opened in made.caches:
        await opened.close()
    made.everywhere("ACL", "DELUSER", user)


async def _use(cache: RedisCache, turns: RedisLeases | None) -> None:
    if turns is not None:
        assert await turns.take("rsafe:1:verdict:none", None) is None
        turns.end("rsafe:1:verdict:none")
    await asyncio.gather(*(cache.keep(key, VERDICT, 60) for key in KEYS))
    assert await cache.recall(KEYS) == [VERDICT] * len(KEYS)


@pytest.mark.parametrize("leases", [False, True])
async def test_the_rights_of_the_list_are_enough(site: Site, leases: bool) -> None:
    site.allow(commands(site.topology, leases=leases))
    cache, turns, observer = site.cache(leases=leases)
    assert await cache.check()
    await _use(cache, turns if leases else None)
    await turns.close()
    assert observer.failures == []
    assert not site.was_refused()


async def test_each_right_of_the_list_is_needed_and_named(site: Site) -> None:
    needed = commands(site.topology, leases=True)
    for lacks in needed:
        site.allow([name for name in needed if name != lacks])
        cache, _, _ = site.cache(leases=True)
        with pytest.raises(StartError) as caught:
            await cache.check()
        assert str(caught.value).startswith("RSAFE_REDIS__USERNAME: this user of Redis may not run ")
        assert str(caught.value).endswith(f"it needs the ACL +{lacks}")
    site.allow(needed, "resetkeys", "~other:*")
    with pytest.raises(StartError, match=r"it needs the ACL ~rsafe:\*$"):
        await site.cache(leases=True)[0].check()


async def test_an_operator_needs_no_more_than_the_list_says(site: Site) -> None:
    site.allow(commands(site.topology))
    await _use(site.cache(leases=False)[0], None)
    site.allow(commands(site.topology, "cache"))
    async with redis_entries(site.settings(), time.monotonic) as entries:
        found = {key async for key, _ in entries.sizes(f"{KEYS[0]}*", lambda: None)}
        assert KEYS[0] in found
        assert await entries.memory()
        verdict, _ = await entries.remembered(KEYS[0])
        assert verdict == VERDICT
        assert sum([step.removed async for step in entries.remove(KEYS[0], lambda: None)]) == 1
    assert not site.was_refused()


async def test_a_changed_password_is_used_and_leases_follow(site: Site) -> None:
    needed = commands(site.topology, leases=True)
    site.allow(needed)
    cache, turns, observer = site.cache(leases=True)
    assert await cache.check()
    with pytest.raises(StartError, match="refuses the credentials"):
        await cache.renew(site.settings("later"))
    await _use(cache, turns)
    site.allow(needed, ">later")
    assert await cache.renew(site.settings("later"))
    # With the former password no connection could be made any more, and those that were made are closed.
    site.allow(needed, password=">later")
    for node in site.nodes:
        node.command("CLIENT", "KILL", "USER", site.user)

    async def works() -> bool:  # over connections that the servers have closed, not at once
        await asyncio.gather(*(cache.keep(key, VERDICT, 60) for key in KEYS))
        await turns.take("rsafe:1:verdict:none", None)
        turns.end("rsafe:1:verdict:none")
        return observer.leases[-1] == "taken" and await cache.recall(KEYS) == [VERDICT] * len(KEYS)

    await until(works, "connections with the later password")


async def test_a_right_that_lacks_at_the_sentinels_is_named(
    redis_sentinels: SentinelSite, fresh_name: Callable[[str], str]
) -> None:
    user = fresh_name("user")
    site = Site(
        "sentinel",
        redis_sentinels.url,
        [redis_sentinels.master, redis_sentinels.replica],
        redis_sentinels.sentinels,
        user,
    )
    site.allow(commands("sentinel"))
    site.allow_at_sentinels()
    cache, _, _ = site.cache(leases=False)
    with pytest.raises(StartError) as caught:
        await cache.check()
    assert str(caught.value) == (
        "RSAFE_REDIS__SENTINEL_USERNAME: this user of the sentinels may not run SENTINEL MASTERS; "
        "it needs the ACL +sentinel|masters"
    )
    await cache.close()
    site.everywhere("ACL", "DELUSER", user)
