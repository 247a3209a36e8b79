"""The door to Redis: verdicts shared by all workers. Redis failing is a miss, never an error of an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from workers.adapters.redis_check import Answered, check_servers
from workers.adapters.redis_server import CacheObserver, Command, RedisServer
from workers.adapters.redis_topology import CurrentServers, Servers, make_servers
from workers.adapters.verdict_codec import VerdictDecoder, decode_verdict, encode_verdict
from workers.ports import CachedVerdict
from workers.settings import RedisSettings


class RedisCache:
    """Verdicts in Redis. `random` gives numbers from 0 up to 1, `clock` monotonic seconds.

    `jitter` is the share by which a lifetime is varied, up or down. `leases`: whether leases are taken over
    these servers, too. `hold_decoded`: whether what was decoded lately is held; a cache in the process before
    this one does that better.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        observer: CacheObserver,
        clock: Callable[[], float],
        random: Callable[[], float],
        jitter: float = 0.1,
        leases: bool = False,
        hold_decoded: bool = True,
    ) -> None:
        self._settings, self._timeout_s = settings, settings.timeout_ms / 1000
        self._observer, self._clock = observer, clock
        self._random, self._jitter, self._leases = random, jitter, leases
        self.servers = CurrentServers(make_servers(settings, observer=observer, clock=clock))
        self._decode = VerdictDecoder().decode if hold_decoded else decode_verdict
        self._waiting: list[tuple[str, bytes, int, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def check(self) -> bool:
        """Whether every server answers. Raises `StartError` for what waiting does not mend.

        That is refused credentials, certificates and commands, and a cluster where none is expected, or none
        where one is.
        """
        return not (await self._check(self.servers, self._settings)).silent

    def left_alone(self) -> list[tuple[bool, bool]]:
        """Of each server that is known, whether it is left alone for reading, and for writing."""
        return [server.left_alone for server in self.servers.known()]

    async def renew(self, settings: RedisSettings) -> bool:
        """Use other credentials and certificates from now on, if no server refuses them.

        False when none answers. Raises as `check` does, and `SettingsError`; then the former ones stay.
        """
        fresh = make_servers(settings, observer=self._observer, clock=self._clock)
        try:
            if not (await self._check(fresh, settings)).servers:
                return False
            self._settings = settings
            fresh = self.servers.replace(fresh)
            # By then what is under way over the former connections has ended: a look for slots, and one
            # round trip.
            await asyncio.sleep(2 * self._timeout_s)
        finally:
            await fresh.close()
        return True

    async def recall(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        """One result per key, same order, one round trip to each server; None for what is not had in time."""
        found: list[CachedVerdict | None] = [None] * len(keys)
        if not keys:
            return found
        groups = await self.servers.divide(keys)
        several = self.servers.several()

        async def ask(server: RedisServer, places: Sequence[int]) -> None:
            if several:
                values = await server.ask("recall", [("GET", keys[place]) for place in places], _values)
            else:
                values = await server.ask("recall", [("MGET", *keys)], lambda got: _listed(got, len(keys)))
            if values is not None:
                for place, value in zip(places, values, strict=True):
                    found[place] = self._decode(value)

        await _all([ask(server, places) for server, places in groups])
        return found

    async def keep(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None:
        """Kept for about `ttl_s` when this returns; what several tasks keep meanwhile goes together."""
        lifetime_ms = int(ttl_s * 1000 * (1 + self._jitter * (2 * self._random() - 1)))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, encode_verdict(verdict), max(1, lifetime_ms), done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await done

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await self.servers.close()

    async def _check(self, servers: Servers, settings: RedisSettings) -> Answered:
        def failed(kind: str) -> None:
            self._observer.cache_failed("connect", kind)

        return await check_servers(servers, settings, leases=self._leases, failed=failed)

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            groups = await self.servers.divide([key for key, *_ in batch])
            await _all(
                [
                    server.ask("keep", [_set(*batch[place]) for place in places], len)
                    for server, places in groups
                ]
            )
            for *_, done in batch:
                if not done.done():
                    done.set_result(None)


def _set(key: str, value: bytes, lifetime_ms: int, _done: object) -> Command:
    return ("SET", key, value, "PX", lifetime_ms)


async def _all(asked: Sequence[Coroutine[Any, Any, object]]) -> None:
    """Wait for all, together; one alone needs no task."""
    if len(asked) == 1:
        await asked[0]
    else:
        await asyncio.gather(*asked)


def _values(answers: list[Any]) -> list[bytes | None]:
    """The values; an error in the place of one is a miss. Raises `RedisError` for nonsense."""
    return [None if isinstance(answer, ResponseError) else _value(answer) for answer in answers]


def _listed(answers: list[Any], count: int) -> list[bytes | None]:
    """The same of one list; a proxy may put an error in the place of one of them, and then says nothing."""
    (values,) = answers
    if isinstance(values, ResponseError):
        return [None] * count
    if not isinstance(values, list) or len(values) != count:
        raise RedisError("expected one answer for every key")
    return [_value(value) for value in values]


def _value(value: object) -> bytes | None:
    if value is not None and type(value) is not bytes:
        raise RedisError("expected bytes")
    return value
