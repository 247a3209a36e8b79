"""One worker asks, the others wait: short leases in Redis on questions that are at a guard.

Best effort, and never in the way. Who holds the lease asks. The others look again and again whether the
verdict is there, and for no longer than the lease; then, or when Redis is in trouble, they ask themselves.
Of a holder that dies remains a key that expires. A question that is asked twice costs time and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from redis.exceptions import RedisError, ResponseError

from workers.adapters.redis_server import Command, RedisServer
from workers.adapters.redis_topology import Servers
from workers.adapters.verdict_codec import decode_verdict
from workers.ports import CachedVerdict

# The key of the verdict in braces: Redis Cluster then has both on one server.
LEASE_PREFIX: Final = "rsafe:1:lease:"
# Between two looks, in seconds: short against a rationale, and one round trip for all questions together.
_LOOK_S: Final = 0.05
_VALUE: Final = b"1"


class LeaseObserver(Protocol):
    """Is told what came of it; must not wait."""

    def leased(self, outcome: str) -> None:
        """`taken`: asked here; `answered`: elsewhere; `in_vain`: waited, then asked here; `unavailable`."""
        ...


class _Waiter:
    __slots__ = ("done", "look_at", "until")

    def __init__(self, now: float, wait_s: float) -> None:
        self.look_at, self.until = now, now + wait_s
        self.done: asyncio.Future[CachedVerdict | None] = asyncio.get_running_loop().create_future()


class RedisLeases:
    """Turns at the guard, shared by all workers. `clock` gives monotonic seconds."""

    def __init__(
        self, servers: Servers, *, lease_s: float, observer: LeaseObserver, clock: Callable[[], float]
    ) -> None:
        self._servers, self._lease_s, self._observer, self._clock = servers, lease_s, observer, clock
        self._waiting: dict[str, _Waiter] = {}
        self._mine: dict[str, float] = {}
        self._ended: list[str] = []
        self._stir = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def take(self, key: str, limit_s: float | None) -> CachedVerdict | None:
        """The verdict that another worker gets meanwhile; None: ask the guard, and say `end` afterwards.

        Waits no longer than the lease, nor than `limit_s`. One call per key at a time.
        """
        wait_s = self._lease_s if limit_s is None else max(0.0, min(self._lease_s, limit_s))
        waiter = self._waiting[key] = _Waiter(self._clock(), wait_s)
        self._go()
        try:
            return await waiter.done
        finally:
            if self._waiting.get(key) is waiter:
                del self._waiting[key]

    def end(self, key: str) -> None:
        """The question was asked here, whatever came of it: whoever waits may look, and ask."""
        if self._clock() < self._mine.pop(key, 0.0):  # later it may be another worker's
            self._ended.append(key)
            self._go()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _go(self) -> None:
        self._stir.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting or self._ended:
            self._stir.clear()
            ended, self._ended = self._ended, []
            await self._let_go(ended)
            now = self._clock()
            await self._look([key for key, waiter in self._waiting.items() if waiter.look_at <= now])
            if self._waiting and not self._ended:
                await self._rest(min(waiter.look_at for waiter in self._waiting.values()) - self._clock())

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stir.wait()
        except TimeoutError:
            return

    async def _let_go(self, keys: Sequence[str]) -> None:
        groups = await self._servers.divide(keys) if keys else ()
        await asyncio.gather(
            *(
                server.ask("lease", [("UNLINK", _lease(keys[place])) for place in places], len)
                for server, places in groups
            )
        )

    async def _look(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        groups = await self._servers.divide(keys)
        await asyncio.gather(
            *(self._look_at(server, [keys[place] for place in places]) for server, places in groups)
        )
        had = {keys[place] for _, places in groups for place in places}
        for key in keys:
            if key not in had:
                self._settle(key, None, "unavailable")

    async def _look_at(self, server: RedisServer, keys: Sequence[str]) -> None:
        lease_ms = max(1, int(self._lease_s * 1000))
        began = self._clock()
        commands: list[Command] = []
        for key in keys:
            # In this order: a lease that ended because there is a verdict is not taken for one that is free.
            commands.append(("SET", _lease(key), _VALUE, "NX", "PX", lease_ms))
            commands.append(("GET", key))
        answers = await server.ask("lease", commands, _pairs)
        for number, key in enumerate(keys):
            answer = None if answers is None else answers[number]
            if answer is None:
                self._settle(key, None, "unavailable")
                continue
            taken, verdict = answer
            if taken:
                self._mine[key] = began + self._lease_s
            if verdict is not None:
                self._settle(key, verdict, "answered")
                self.end(key)
            elif taken:
                self._settle(key, None, "taken")
            else:
                self._wait_on(key)

    def _wait_on(self, key: str) -> None:
        waiter = self._waiting.get(key)
        if waiter is None:
            return
        now = self._clock()
        if now >= waiter.until:
            self._settle(key, None, "in_vain")
        else:
            waiter.look_at = min(now + _LOOK_S, waiter.until)

    def _settle(self, key: str, verdict: CachedVerdict | None, outcome: str) -> None:
        waiter = self._waiting.pop(key, None)
        if waiter is None or waiter.done.done():
            self.end(key)  # nobody is there any more to ask
            return
        self._observer.leased(outcome)
        waiter.done.set_result(verdict)


def _lease(key: str) -> str:
    return f"{LEASE_PREFIX}{{{key}}}"


def _pairs(answers: list[Any]) -> list[tuple[bool, CachedVerdict | None] | None]:
    """Per key, whether the lease was free and what is remembered; None where Redis refused one of them.

    Raises `RedisError` for nonsense.
    """
    pairs = list[tuple[bool, CachedVerdict | None] | None]()
    for taken, value in zip(answers[::2], answers[1::2], strict=True):
        if isinstance(taken, ResponseError) or isinstance(value, ResponseError):
            pairs.append(None)
            continue
        if taken not in (b"OK", None) or not isinstance(value, bytes | None):
            raise RedisError("expected what SET and GET answer")
        pairs.append((taken is not None, decode_verdict(value)))
    return pairs
