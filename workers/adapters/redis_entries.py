"""What Redis remembers, seen and removed as a whole: for `rsafe cache`. In bounded steps, and never KEYS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, TypeVar

from redis.exceptions import ResponseError

from workers.adapters.redis_security import refusal
from workers.adapters.redis_server import Command, RedisServer
from workers.adapters.redis_topology import Servers, make_servers
from workers.adapters.verdict_codec import decode_verdict
from workers.errors import SettingsError, StartError
from workers.ports import CachedVerdict
from workers.settings import RedisSettings

Answer = TypeVar("Answer")
# Keys that a server looks at in one step: a millisecond of its time.
STEP_KEYS: Final = 1000
# How long a server may take for a step; an operator waits longer than an event.
_STEP_S: Final = 10.0


class Memory(NamedTuple):
    """What one server says of itself; None for what it does not say. Bytes, and counts since its start."""

    server: str
    used_bytes: int | None
    limit_bytes: int | None
    when_full: str | None
    hits: int | None
    misses: int | None
    evicted: int | None


class Removed(NamedTuple):
    """What one step of a removal did."""

    removed: int
    refused: int


class _Silent:
    def cache_failed(self, operation: str, kind: str) -> None: ...


class RedisEntries:
    """The entries on all servers. What goes wrong is a `StartError` of one sentence."""

    def __init__(self, servers: Servers, settings: RedisSettings) -> None:
        self._servers, self._settings = servers, settings

    async def sizes(self, pattern: str, told: Callable[[], None]) -> AsyncGenerator[tuple[str, int], None]:
        """Key and bytes, overhead included, of each entry that matches; `told` after every step.

        An entry may come twice when a server changes meanwhile, as with any SCAN.
        """
        async for server, keys in self._steps(pattern, told):
            commands: list[Command] = [("MEMORY", "USAGE", key) for key in keys]
            for key, size in zip(keys, await self._ask(server, commands), strict=True):
                if isinstance(size, int):  # else it went meanwhile
                    yield key.decode(errors="replace"), size

    async def memory(self) -> list[Memory]:
        """One row per server."""
        return [_memory(server.name, *await self._ask(server, [("INFO",)])) for server in await self._find()]

    async def remembered(self, key: str) -> tuple[CachedVerdict | None, int | None]:
        """The verdict under a key, and for how many seconds more; None where there is none."""
        for server, _ in await self._divide(key):
            value, left_ms = await self._ask(server, [("GET", key), ("PTTL", key)])
            verdict = decode_verdict(value) if isinstance(value, bytes) else None
            return verdict, left_ms // 1000 if verdict is not None and left_ms >= 0 else None
        raise StartError("RSAFE_REDIS__URL: no server of the cluster has the slot of this key")

    async def remove(self, pattern: str, told: Callable[[], None]) -> AsyncGenerator[Removed, None]:
        """Unlink all that matches; one result per step, `told` after each."""
        async for server, keys in self._steps(pattern, told):
            # One key a command: in a cluster, the keys of one command must be of one slot.
            answers = await self._ask(server, [("UNLINK", key) for key in keys], may_refuse=True)
            refused = sum(isinstance(answer, ResponseError) for answer in answers)
            yield Removed(sum(answer == 1 for answer in answers), refused)

    async def _steps(
        self, pattern: str, told: Callable[[], None]
    ) -> AsyncGenerator[tuple[RedisServer, list[bytes]], None]:
        for server in await self._find():
            cursor: bytes | int = 0
            while True:
                scan: Command = ("SCAN", cursor, "MATCH", pattern, "COUNT", STEP_KEYS)
                ((cursor, keys),) = await self._ask(server, [scan])
                if keys:
                    yield server, keys
                told()
                if int(cursor) == 0:
                    break

    async def _find(self) -> Sequence[RedisServer]:
        return await self._wait(self._servers.find())

    async def _divide(self, key: str) -> Sequence[tuple[RedisServer, Sequence[int]]]:
        await self._find()
        return await self._servers.divide([key])

    async def _ask(
        self, server: RedisServer, commands: Sequence[Command], *, may_refuse: bool = False
    ) -> list[Any]:
        answers = await self._wait(server.exchange(commands))
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, ResponseError) and not may_refuse:
                why, kind = refusal(answer, self._settings), type(answer).__name__
                why = why or StartError(f"RSAFE_REDIS__URL: {server.name} refuses {command[0]!s} ({kind})")
                raise why from answer
        return answers

    async def _wait(self, answer: Awaitable[Answer]) -> Answer:
        """The answer of a server. Raises `StartError` when there is none in time."""
        try:
            async with asyncio.timeout(_STEP_S):
                return await answer
        except Exception as error:
            # What stands at that address may make the client raise anything.
            kind = type(error).__name__
            why = refusal(error, self._settings)
            raise why or StartError(f"RSAFE_REDIS__URL: Redis does not answer ({kind})") from error


@asynccontextmanager
async def redis_entries(settings: RedisSettings, clock: Callable[[], float]) -> AsyncIterator[RedisEntries]:
    """The entries on the servers of the settings. Raises `SettingsError` when there are none."""
    if not settings.url.get_secret_value():
        raise SettingsError("RSAFE_REDIS__URL: expected the address of the shared cache; it is empty")
    servers = make_servers(settings, observer=_Silent(), clock=clock)
    try:
        yield RedisEntries(servers, settings)
    finally:
        await servers.close()


def _memory(server: str, info: bytes) -> Memory:
    found = info_of(info)

    def number(name: str) -> int | None:
        text = found.get(name, "")
        return int(text) if text.isdigit() else None

    return Memory(
        server,
        number("used_memory"),
        number("maxmemory"),
        found.get("maxmemory_policy"),
        number("keyspace_hits"),
        number("keyspace_misses"),
        number("evicted_keys"),
    )


def info_of(info: bytes) -> dict[str, str]:
    """The lines of an answer to INFO, by their names."""
    return dict(line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
