"""What Redis servers say, as facts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import NoPermissionError

from workers.adapters import redis_facts as module
from workers.adapters.redis_facts import redis_facts
from workers.adapters.redis_server import Command
from workers.errors import StartError
from workers.settings import RedisSettings

SETTINGS = RedisSettings(url=SecretStr("redis://localhost:1"), timeout_ms=1000)
INFO = b"redis_version:7.2.1\r\nused_memory:1024\r\nmaxmemory:4096\r\nmaxmemory_policy:allkeys-lru\r\n"
REFUSED = NoPermissionError("this user has no permissions to run the 'info' command")


class Server:
    """Answers every command with OK, or as it is told to."""

    name = "a:1"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        if isinstance(self.answers.get("all"), Exception):
            raise self.answers["all"]
        return [self.answers.get(str(command[0]), b"OK") for command in commands]


class Servers:
    closed = False

    def __init__(self, server: Server) -> None:
        self.server = server

    def several(self) -> bool:
        return False

    async def find(self) -> Sequence[Any]:
        return [self.server]

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(server: Server) -> Servers:
        servers = Servers(server)
        monkeypatch.setattr(module, "make_servers", lambda *_, **__: servers)
        return servers

    return put


async def test_memory_and_clock_are_told(serve: Any) -> None:
    now = time.time() + 30
    servers = serve(Server(INFO=INFO, TIME=[b"%d" % int(now), b"0"]))
    (server,) = (await redis_facts(SETTINGS, leases=False)).servers
    assert (server.version, server.used_bytes, server.limit_bytes) == ("7.2.1", 1024, 4096)
    assert server.when_full == "allkeys-lru"
    assert server.clock_off_ms == pytest.approx(30_000, abs=2_000)
    assert servers.closed


async def test_what_a_user_may_not_ask_is_unknown(serve: Any) -> None:
    serve(Server(INFO=REFUSED, TIME=REFUSED))
    (server,) = (await redis_facts(SETTINGS, leases=False)).servers
    assert (server.version, server.limit_bytes, server.clock_off_ms) == (None, None, None)


async def test_a_server_that_does_not_answer_is_counted(serve: Any) -> None:
    servers = serve(Server(all=NotConnected("away")))
    found = await redis_facts(SETTINGS, leases=False)
    assert (found.servers, found.silent, found.errors) == ((), 1, ("ConnectionError",))
    assert servers.closed


async def test_a_server_that_stops_to_answer_meanwhile_is_counted(serve: Any) -> None:
    class Stopping(Server):
        async def exchange(self, commands: Sequence[Command]) -> list[Any]:
            if ("TIME",) in commands:
                raise NotConnected("away")
            return await super().exchange(commands)

    serve(Stopping())
    found = await redis_facts(SETTINGS, leases=False)
    assert (found.servers, found.silent) == ((), 1)


async def test_how_long_an_answer_took_is_told_with_its_clock(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter((100.0, 104.0))
    monkeypatch.setattr(
        module, "time", SimpleNamespace(time=lambda: next(readings), monotonic=time.monotonic)
    )
    serve(Server(INFO=INFO, TIME=[b"102", b"0"]))
    (server,) = (await redis_facts(SETTINGS, leases=False)).servers
    assert (server.clock_off_ms, server.clock_unsure_ms) == (0.0, 2_000.0)


async def test_a_right_that_a_worker_lacks_is_an_error(serve: Any) -> None:
    servers = serve(Server(SET=NoPermissionError("this user has no permissions to run the 'set' command")))
    with pytest.raises(StartError, match="may not run SET"):
        await redis_facts(SETTINGS, leases=False)
    assert servers.closed
