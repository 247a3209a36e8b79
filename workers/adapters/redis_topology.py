"""Which server has which key: one for all, the master that sentinels name, or the nodes of a cluster.

In a cluster nearly every key of a batch has a slot of its own. For 500 keys on three nodes, GETs in one
pipeline a node took 2.0 ms of this process's time, an MGET a slot 2.9, redis-py's own cluster client 9 to 14:
so the slots are kept here, and each node is a server like any other. One that fails takes only its own keys
along.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from workers.adapters.redis_address import Host, RedisAddress
from workers.adapters.redis_client import make_pool
from workers.adapters.redis_security import secured_address
from workers.adapters.redis_server import CacheObserver, Command, RedisServer
from workers.settings import RedisSettings

# A cluster is asked for its slots no more often, in seconds, however many answers say that a slot has moved.
_LOOKS_S: Final = 0.5
_SLOTS: Final[Command] = ("CLUSTER", "SLOTS")
# What waiting does not mend.
_REFUSALS: Final = (AuthenticationError, NoPermissionError)


class Servers(Protocol):
    """All servers, and which of them has which key."""

    def several(self) -> bool:
        """Whether keys are spread, so that commands of several keys are not to be had."""
        ...

    def known(self) -> Sequence[RedisServer]:
        """The servers that commands go to, as far as they are known."""
        ...

    async def find(self) -> Sequence[RedisServer]:
        """Every server that holds keys of its own. Raises whatever the client library raises."""
        ...

    async def divide(self, keys: Sequence[str]) -> Sequence[tuple[RedisServer, Sequence[int]]]:
        """Each server with the places in `keys` of those it has; keys that no server has are left out."""
        ...

    async def close(self) -> None: ...


class OneServer:
    """One server, or the master that sentinels name."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def several(self) -> bool:
        return False

    def known(self) -> Sequence[RedisServer]:
        return [self._server]

    async def find(self) -> Sequence[RedisServer]:
        return [self._server]

    async def divide(self, keys: Sequence[str]) -> Sequence[tuple[RedisServer, Sequence[int]]]:
        return [(self._server, range(len(keys)))]

    async def close(self) -> None:
        await self._server.close()


class CurrentServers:
    """The servers that are in use now. Whoever holds these follows when others take their place."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    def several(self) -> bool:
        return self._servers.several()

    def known(self) -> Sequence[RedisServer]:
        return self._servers.known()

    async def find(self) -> Sequence[RedisServer]:
        return await self._servers.find()

    async def divide(self, keys: Sequence[str]) -> Sequence[tuple[RedisServer, Sequence[int]]]:
        return await self._servers.divide(keys)

    def replace(self, fresh: Servers) -> Servers:
        """Use others from now on; returns those before, over which commands may still be under way."""
        former, self._servers = self._servers, fresh
        return former

    async def close(self) -> None:
        await self._servers.close()


class ClusterServers:
    """The masters of a cluster. Any node is asked where the slots are, and again when something is amiss."""

    def __init__(
        self,
        settings: RedisSettings,
        address: RedisAddress,
        *,
        observer: CacheObserver,
        clock: Callable[[], float],
    ) -> None:
        self._settings, self._address, self._observer, self._clock = settings, address, observer, clock
        self._known: dict[Host, RedisServer] = {}
        self._slots: list[RedisServer | None] = []
        self._replicas: set[Host] = set()
        self._look: asyncio.Task[None] | None = None
        self._next_look_s = float("-inf")
        self._leaving: set[asyncio.Task[None]] = set()

    def several(self) -> bool:
        return True

    def known(self) -> Sequence[RedisServer]:
        return list(self._known.values())

    async def find(self) -> Sequence[RedisServer]:
        await self._look_again()
        return list(dict.fromkeys(server for server in self._slots if server is not None))

    async def divide(self, keys: Sequence[str]) -> Sequence[tuple[RedisServer, Sequence[int]]]:
        if not self._slots:
            await self._first_look()
        places: dict[RedisServer, list[int]] = {}
        slots = self._slots
        for place, key in enumerate(keys):
            server = slots[key_slot(key.encode())] if slots else None
            if server is not None:
                places.setdefault(server, []).append(place)
        return list(places.items())

    async def close(self) -> None:
        self._next_look_s = float("inf")  # what still fails over these connections begins no other look
        looks = [] if self._look is None else [self._look]
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, *self._leaving, return_exceptions=True)
        await asyncio.gather(*(server.close() for server in self._known.values()))

    async def _first_look(self) -> None:
        """Wait for the slots, no longer than for an answer; the look itself goes on past nodes that hang."""
        if self._clock() < self._next_look_s and (self._look is None or self._look.done()):
            return
        try:
            async with asyncio.timeout(self._settings.timeout_ms / 1000):
                await self._look_again()
        except Exception as error:  # noqa: BLE001 - as in `RedisServer.ask`
            self._observer.cache_failed("connect", type(error).__name__)

    def _amiss(self) -> None:
        """A slot moved, or a node does not answer: look again, beside the batches."""
        if self._clock() >= self._next_look_s and (self._look is None or self._look.done()):
            self._begin()

    async def _look_again(self) -> None:
        if self._look is None or self._look.done():
            self._begin()
        assert self._look is not None
        await asyncio.shield(self._look)

    def _begin(self) -> None:
        self._next_look_s = self._clock() + (_LOOKS_S if self._slots else self._settings.breaker_reset_s)
        self._look = asyncio.create_task(self._learn())
        self._look.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _learn(self) -> None:
        """Ask one node after another, in any order. Raises what the last one raised when none tells."""
        hosts = list({*self._known, *self._replicas, *self._address.hosts})
        random.shuffle(hosts)  # not all workers ask the same node
        failure: Exception = RedisError("the cluster names no node")
        for host in hosts:
            try:
                async with asyncio.timeout(self._settings.timeout_ms / 1000):
                    (answer,) = await self._server(host).exchange([_SLOTS])
                if isinstance(answer, ResponseError):
                    raise answer  # noqa: TRY301 - the next node is asked
                slots, replicas = _read_slots(answer, host)
            except Exception as error:  # noqa: BLE001 - as in `RedisServer.ask`; raised below when all fail
                if not isinstance(failure, _REFUSALS):
                    failure = error
                continue
            self._replicas = replicas
            self._slots = [None if owner is None else self._server(owner) for owner in slots]
            self._forget({owner for owner in slots if owner is not None})
            return
        raise failure

    def _server(self, host: Host) -> RedisServer:
        known = self._known.get(host)
        if known is None:
            known = self._known[host] = RedisServer(
                f"{host.name}:{host.port}",
                make_pool(self._settings, self._address, host),
                self._settings,
                observer=self._observer,
                clock=self._clock,
                moved=self._amiss,
            )
        return known

    def _forget(self, owners: set[Host]) -> None:
        for host in [host for host in self._known if host not in owners]:
            task = asyncio.create_task(self._known.pop(host).close())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


def _read_slots(answer: Any, asked: Host) -> tuple[list[Host | None], set[Host]]:
    """The master of each slot, and all replicas. Raises `RedisError`, or what Python raises for nonsense.

    A node that knows no name of its own is the one that was asked.
    """

    def host(node: Sequence[Any]) -> Host:
        return Host(node[0].decode() if node[0] else asked.name, int(node[1]))

    slots: list[Host | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
    replicas: set[Host] = set()
    for first, last, master, *others in answer:
        replicas.update(map(host, others))
        owner = host(master)
        for slot in range(int(first), int(last) + 1):
            slots[slot] = owner
    if not any(slots):
        raise RedisError("no slot of the cluster is served")
    return slots, replicas


def make_servers(settings: RedisSettings, *, observer: CacheObserver, clock: Callable[[], float]) -> Servers:
    """The servers that the settings name, not connected. Raises `SettingsError`."""
    address = secured_address(settings)
    if settings.topology == "cluster":
        return ClusterServers(settings, address, observer=observer, clock=clock)
    name = f"{address.hosts[0].name}:{address.hosts[0].port}"
    if settings.topology == "sentinel":
        name = f"master of {settings.sentinel_service}"
    pool = make_pool(settings, address)
    return OneServer(RedisServer(name, pool, settings, observer=observer, clock=clock))
