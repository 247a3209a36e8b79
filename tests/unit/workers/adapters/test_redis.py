from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import pytest
from pydantic import SecretStr

from schemas.verdict import Verdict
from workers.adapters.redis import RedisCache
from workers.adapters.redis_server import Command, RedisServer
from workers.errors import SettingsError, StartError
from workers.ports import CachedVerdict
from workers.settings import RedisSettings

CACHED = CachedVerdict(Verdict(label="safe", score=0.1), "o", 0, "masked", "m", "c", True, "1")


class Observer:
    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    def cache_failed(self, operation: str, kind: str) -> None:
        self.failures.append((operation, kind))


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


Reply = Callable[[list[Any]], bytes | None]


class Server:
    """Speaks enough of the protocol to answer, to be silent, or to talk nonsense."""

    def __init__(self, reply: Reply) -> None:
        self.reply, self.commands = reply, list[list[Any]]()
        self.url = ""
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                self.commands.append(command)
                reply = b"+OK\r\n" if command[0] in (b"CLIENT", b"SELECT") else self.reply(command)
                if reply is not None:
                    writer.write(reply)


def cache_of(
    url: str, observer: Observer, time: Time, random: float = 0.5, jitter: float = 0.1
) -> RedisCache:
    settings = RedisSettings(url=SecretStr(url), timeout_ms=100, breaker_failures=2, breaker_reset_s=5)
    return RedisCache(settings, observer=observer, clock=time, random=lambda: random, jitter=jitter)


def names(server: Server) -> list[bytes]:
    return [command[0] for command in server.commands if command[0] not in (b"CLIENT", b"SELECT")]


async def test_a_batch_is_one_mget() -> None:
    async with Server(lambda command: b"*2\r\n$-1\r\n$4\r\njunk\r\n") as server:
        cache = cache_of(server.url, Observer(), Time())
        assert await cache.recall(["a", "b"]) == [None, None]
        assert names(server) == [b"MGET"]
        await cache.close()


async def test_silence_is_a_miss_and_soon_it_is_left_alone() -> None:
    observer, time = Observer(), Time()
    async with Server(lambda command: None) as server:
        cache = cache_of(server.url, observer, time)
        for _ in range(4):
            assert await cache.recall(["a"]) == [None]
        assert observer.failures == [("recall", "TimeoutError")] * 2
        assert names(server) == [b"MGET"] * 2
        server.reply = lambda command: b"*1\r\n$-1\r\n"
        time.now = 5.0
        await cache.recall(["a"])
        await cache.recall(["a"])
        assert names(server) == [b"MGET"] * 4
        await cache.close()


ODD = [b"+OK\r\n", b":1\r\n", b"*-1\r\n", b"*1\r\n-ERR a shard is down\r\n", b"*1\r\n:5\r\n", b"*0\r\n"]
MALFORMED = [b"-ASK\r\n", b"-MOVED x y\r\n", b"-MOVED \xff\r\n", b"$5\r\n\xff\xff\xff\xff\xff\r\n"]


@pytest.mark.parametrize("answer", ODD + MALFORMED)
async def test_whatever_is_answered_is_a_miss_and_a_failure(answer: bytes) -> None:
    observer = Observer()
    async with Server(lambda command: answer) as server:
        cache = cache_of(server.url, observer, Time())
        assert await cache.recall(["a"]) == [None]
        assert [operation for operation, _ in observer.failures] == ["recall"]
        await cache.close()


@pytest.mark.parametrize("answer", [b"*-1\r\n", *MALFORMED])
async def test_whatever_is_answered_keeping_ends(answer: bytes) -> None:
    async with Server(lambda command: answer) as server:
        cache = cache_of(server.url, Observer(), Time())
        async with asyncio.timeout(5):
            await asyncio.gather(*(cache.keep(f"k{n}", CACHED, 60) for n in range(5)))
        await cache.close()


async def test_keeping_survives_errors_and_refusals() -> None:
    observer = Observer()
    async with Server(lambda command: b"-READONLY no writing here\r\n") as server:
        cache = cache_of(server.url, observer, Time())
        await asyncio.gather(*(cache.keep(f"k{n}", CACHED, 60) for n in range(5)))
        assert observer.failures
        assert {operation for operation, _ in observer.failures} == {"keep"}
        await cache.close()


@pytest.mark.parametrize(
    ("jitter", "random", "expected"),
    [
        (0.1, 0.0, b"9000"),
        (0.1, 0.5, b"10000"),
        (0.1, 1.0, b"11000"),
        (0.4, 0.0, b"6000"),
        (0, 1.0, b"10000"),
    ],
)
async def test_lifetimes_vary_by_the_share_that_is_set(jitter: float, random: float, expected: bytes) -> None:
    async with Server(lambda command: b"+OK\r\n") as server:
        cache = cache_of(server.url, Observer(), Time(), random, jitter)
        await cache.keep("k", CACHED, 10)
        (command,) = [command for command in server.commands if command[0] == b"SET"]
        assert command[3:] == [b"PX", expected]
        await cache.close()


async def test_refused_writes_leave_reading_alone() -> None:
    observer = Observer()

    def reply(command: list[Any]) -> bytes:
        return b"*1\r\n$-1\r\n" if command[0] == b"MGET" else b"-OOM command not allowed\r\n"

    async with Server(reply) as server:
        cache = cache_of(server.url, observer, Time())
        for _ in range(4):
            await cache.keep("k", CACHED, 60)
            await cache.recall(["k"])
        assert names(server) == [b"SET", b"MGET"] * 2 + [b"MGET"] * 2
        assert observer.failures == [("keep", "OutOfMemoryError")] * 2
        await cache.close()


async def test_silence_when_writing_leaves_reading_alone_too() -> None:
    async with Server(lambda command: None) as server:
        cache = cache_of(server.url, Observer(), Time())
        for _ in range(2):
            await cache.keep("k", CACHED, 60)
        assert await cache.recall(["k"]) == [None]
        assert names(server) == [b"SET"] * 2
        await cache.close()


async def test_refused_credentials_end_the_program_and_absence_does_not() -> None:
    observer = Observer()
    async with Server(lambda command: b"-NOAUTH Authentication required.\r\n") as server:
        cache = cache_of(server.url, observer, Time())
        with pytest.raises(StartError, match="RSAFE_REDIS__URL"):
            await cache.check()
        await cache.close()
    absent = cache_of("redis://127.0.0.1:1/0", observer, Time())
    assert not await absent.check()
    await absent.close()


@pytest.mark.parametrize(
    "url", ["http://user:secret@host", "nonsense", "redis://host:port", "redis://h/?db=x"]
)
def test_a_malformed_address_is_named_and_not_quoted(url: str) -> None:
    with pytest.raises(SettingsError, match="RSAFE_REDIS__URL") as refused:
        cache_of(url, Observer(), Time())
    assert "secret" not in str(refused.value)


async def test_what_several_tasks_keep_goes_in_one_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    trips: list[int] = []
    exchange = RedisServer.exchange

    async def counted(server: RedisServer, commands: Sequence[Command]) -> list[Any]:
        trips.append(len(commands))
        return await exchange(server, commands)

    monkeypatch.setattr(RedisServer, "exchange", counted)
    async with Server(lambda command: b"+OK\r\n") as server:
        cache = cache_of(server.url, Observer(), Time())
        await asyncio.gather(*(cache.keep(f"k{n}", CACHED, 60) for n in range(300)))
        assert trips == [300]
        await cache.close()


async def test_without_redis_a_batch_costs_no_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_of("redis://127.0.0.1:1/0", Observer(), Time())
    for _ in range(2):
        await cache.recall(["a"])

    async def refused(server: RedisServer, commands: Sequence[Command]) -> list[Any]:
        raise AssertionError("the server is left alone")

    monkeypatch.setattr(RedisServer, "exchange", refused)
    assert await cache.recall([f"k{n}" for n in range(500)]) == [None] * 500
    await cache.close()
