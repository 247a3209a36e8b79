from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import pytest
from pydantic import SecretStr
from redis.asyncio import ConnectionPool
from redis.exceptions import TimeoutError as RedisTimeoutError

from schemas.verdict import Verdict
from tests.waiting import until
from workers.adapters.redis import RedisCache
from workers.adapters.redis_leases import RedisLeases
from workers.adapters.redis_server import Command, RedisServer
from workers.adapters.verdict_codec import encode_verdict
from workers.errors import SettingsError, StartError
from workers.ports import CachedVerdict
from workers.settings import RedisSettings

CACHED = CachedVerdict(Verdict(label="safe", score=0.1), "o", 0, "masked", "m", "c", True, "1")


class Observer:
    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    def cache_failed(self, operation: str, kind: str) -> None:
        self.failures.append((operation, kind))

    def leased(self, outcome: str) -> None: ...


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
        self._open, self._nobody = 0, asyncio.Event()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def say(self, reply: bytes) -> None:
        """On every connection, now."""
        for writer in self._writers:
            writer.write(reply)

    async def left(self) -> bool:
        """Whether every client has closed its connection; waits for that."""
        async with asyncio.timeout(5):
            return await self._nobody.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._open += 1
        self._nobody.clear()
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                self.commands.append(command)
                reply = b"+OK\r\n" if command[0] in (b"CLIENT", b"SELECT") else self.reply(command)
                if reply is not None:
                    writer.write(reply)
        self._open -= 1
        if not self._open:
            self._nobody.set()


def welcome(command: list[Any]) -> bytes:
    """A server that has nothing, and takes everything."""
    nothing = b"$-1\r\n"
    return {
        b"MGET": b"*%d\r\n" % (len(command) - 1) + nothing * (len(command) - 1),
        b"GET": nothing,
    }.get(command[0], b"+OK\r\n")


def renewed(url: str) -> RedisSettings:
    return RedisSettings(url=SecretStr(url), timeout_ms=500)


def cache_of(
    url: str, observer: Observer, time: Time, random: float = 0.5, jitter: float = 0.1
) -> RedisCache:
    settings = RedisSettings(url=SecretStr(url), timeout_ms=500, breaker_failures=2, breaker_reset_s=5)
    return RedisCache(settings, observer=observer, clock=time, random=lambda: random, jitter=jitter)


def names(server: Server) -> list[bytes]:
    return [command[0] for command in server.commands if command[0] not in (b"CLIENT", b"SELECT")]


async def test_a_batch_is_one_mget() -> None:
    async with Server(lambda command: b"*2\r\n$-1\r\n$4\r\njunk\r\n") as server:
        cache = cache_of(server.url, Observer(), Time())
        assert await cache.recall(["a", "b"]) == [None, None]
        assert names(server) == [b"MGET"]
        await cache.close()


@pytest.mark.parametrize("held", [True, False])
async def test_what_was_decoded_is_held_where_no_cache_in_the_process_does_so(held: bool) -> None:
    cached = CachedVerdict(Verdict(label="safe", score=0.1), "0" * 64, 5, "masked", "m", "c", True, "1")
    value = encode_verdict(cached)
    async with Server(lambda command: b"*1\r\n$%d\r\n%b\r\n" % (len(value), value)) as server:
        settings = RedisSettings(url=SecretStr(server.url), timeout_ms=500)
        cache = RedisCache(settings, observer=Observer(), clock=Time(), random=lambda: 0.5, hold_decoded=held)
        [first], [second] = await cache.recall(["a"]), await cache.recall(["a"])
        assert first == second == cached
        assert (first is second) == held
        await cache.close()


async def test_silence_is_a_miss_and_soon_it_is_left_alone() -> None:
    observer, time = Observer(), Time()
    async with Server(lambda command: None) as server:
        cache = cache_of(server.url, observer, time)
        for _ in range(4):
            assert await cache.recall(["a"]) == [None]
        assert observer.failures == [("recall", "TimeoutError")] * 2
        assert names(server) == [b"MGET"] * 2
        assert cache.left_alone() == [(True, True)]
        server.reply = lambda command: b"*1\r\n$-1\r\n"
        time.now = 5.0
        assert await cache.recall(["a"]) == [None]  # tried again, and nobody waits for it
        await until(lambda: len(names(server)) == 3)
        while len(names(server)) == 3:  # until the answer has come, it is left alone
            await asyncio.sleep(0)
            await cache.recall(["a"])
        assert names(server) == [b"MGET"] * 4
        assert cache.left_alone() == [(False, True)]  # nothing was written yet
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


async def test_a_user_without_a_right_on_info_is_not_refused() -> None:
    async with Server(welcome) as server:
        cache = cache_of(server.url, Observer(), Time())
        assert await cache.check()
        assert names(server) == [b"PING", b"MGET", b"SET"]
        await cache.close()


async def test_other_servers_take_the_place_of_the_former_ones_and_leases_follow() -> None:
    observer, time = Observer(), Time()
    async with Server(welcome) as former, Server(welcome) as later:
        cache = cache_of(former.url, observer, time)
        leases = RedisLeases(cache.servers, lease_s=5, observer=observer, clock=time)
        await cache.recall(["a"])
        assert await cache.renew(renewed(later.url))
        before = len(former.commands)
        await cache.recall(["a"])
        await cache.keep("a", CACHED, 60)
        await leases.take("a", 1)
        assert [name for name in names(later)[-4:] if name != b"GET"] == [b"MGET", b"SET", b"SET"]
        assert len(former.commands) == before
        assert await former.left()
        assert observer.failures == []
        await leases.close()
        await cache.close()


async def test_what_is_under_way_while_servers_are_replaced_is_answered() -> None:
    observer, asked, tried = Observer(), asyncio.Event(), asyncio.Event()

    def trial(command: list[Any]) -> bytes:
        tried.set()
        return welcome(command)

    async with Server(welcome) as former, Server(trial) as later:
        cache = cache_of(former.url, observer, Time())
        await cache.recall(["a"])

        def late(command: list[Any]) -> None:
            asked.set()

        former.reply = late
        asking = asyncio.create_task(cache.recall(["a", "b"]))
        await asked.wait()
        renewing = asyncio.create_task(cache.renew(renewed(later.url)))
        await tried.wait()
        former.say(b"*2\r\n$-1\r\n$-1\r\n")
        assert await asking == [None, None]
        assert await renewing
        assert observer.failures == []
        await cache.close()


@pytest.mark.parametrize("refused", [True, False])
async def test_servers_that_refuse_or_are_away_leave_the_former_ones_in_use(refused: bool) -> None:
    observer = Observer()
    async with Server(welcome) as former, Server(lambda _: b"-NOAUTH Authentication required.\r\n") as poor:
        cache = cache_of(former.url, observer, Time())
        if refused:
            with pytest.raises(StartError, match="refuses the credentials"):
                await cache.renew(renewed(poor.url))
        else:
            assert not await cache.renew(renewed("redis://127.0.0.1:1/0"))
        await cache.recall(["a"])
        assert names(former) == [b"MGET"]
        await cache.close()


async def test_files_of_no_use_leave_the_former_servers_in_use() -> None:
    async with Server(welcome) as server:
        cache = cache_of(server.url, Observer(), Time())
        changes = {"url": SecretStr("rediss://host"), "ssl_ca_location": "/absent"}
        with pytest.raises(SettingsError, match=r"^RSAFE_REDIS__SSL_CA_LOCATION"):
            await cache.renew(RedisSettings.model_validate(changes))
        await cache.recall(["a"])
        assert names(server) == [b"MGET"]
        await cache.close()


async def test_former_servers_that_do_not_say_goodbye_hinder_no_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close = ConnectionPool.aclose

    async def rudely(pool: ConnectionPool) -> None:
        await close(pool)
        raise RedisTimeoutError("Timed out closing connection after 0.1")

    async with Server(welcome) as former, Server(welcome) as later:
        cache = cache_of(former.url, Observer(), Time())
        await cache.recall(["a"])
        monkeypatch.setattr(ConnectionPool, "aclose", rudely)
        assert await cache.renew(renewed(later.url))
        await cache.recall(["a"])
        assert names(later)[-1] == b"MGET"
        await cache.close()
