"""The door to Redis: verdicts shared by all workers. Redis failing is a miss, never an error of an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError

from workers.adapters.breaker import CircuitBreaker
from workers.adapters.redis_client import make_client
from workers.adapters.verdict_codec import decode_verdict, encode_verdict
from workers.errors import StartError
from workers.ports import CachedVerdict
from workers.settings import RedisSettings

# Share by which a lifetime is varied, so that what was kept together does not expire together.
_JITTER: Final = 0.1


class CacheObserver(Protocol):
    """Is told of trouble; must not wait."""

    def cache_failed(self, operation: str, kind: str) -> None: ...


class RedisCache:
    """Verdicts in Redis. `random` gives numbers from 0 up to 1, `clock` monotonic seconds."""

    def __init__(
        self,
        settings: RedisSettings,
        *,
        observer: CacheObserver,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._timeout_s = settings.timeout_ms / 1000
        self._observer, self._random = observer, random
        self._breaker = CircuitBreaker(
            failures=settings.breaker_failures, reset_s=settings.breaker_reset_s, clock=clock
        )
        self._client: Any = make_client(settings)
        self._waiting: list[tuple[str, bytes, int, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def check(self) -> bool:
        """Whether Redis answers. Raises `StartError` when it refuses the credentials."""
        try:
            async with asyncio.timeout(self._timeout_s * 4):  # a first connection, perhaps with TLS
                await self._client.ping()
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            raise StartError("RSAFE_REDIS__URL: Redis refuses the credentials") from error
        except Exception as error:  # noqa: BLE001 - as in `recall`
            self._failed("connect", error)
            return False
        return True

    async def recall(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        """One result per key, same order, in one MGET; all None when Redis does not answer in time."""
        if not keys or not self._breaker.allows():
            return [None] * len(keys)
        try:
            async with asyncio.timeout(self._timeout_s):
                values = await self._client.mget(keys)
            _require_answers(values, len(keys))
        except Exception as error:  # noqa: BLE001 - what stands at that address may make the client raise anything
            self._failed("recall", error)
            return [None] * len(keys)
        self._breaker.succeeded()
        return [decode_verdict(value) for value in values]

    async def keep(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None:
        """Kept for about `ttl_s` when this returns; what several tasks keep meanwhile goes together."""
        lifetime_ms = int(ttl_s * 1000 * (1 + _JITTER * (2 * self._random() - 1)))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, encode_verdict(verdict), max(1, lifetime_ms), done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await done

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._client.aclose()

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            if self._breaker.allows():
                await self._set(batch)
            for *_, done in batch:
                if not done.done():
                    done.set_result(None)

    async def _set(self, batch: Sequence[tuple[str, bytes, int, asyncio.Future[None]]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for key, value, lifetime_ms, _ in batch:
            pipeline.set(key, value, px=lifetime_ms)
        try:
            async with asyncio.timeout(self._timeout_s):
                await pipeline.execute()
        except Exception as error:  # noqa: BLE001 - as in `recall`
            self._failed("keep", error)
        else:
            self._breaker.succeeded()

    def _failed(self, operation: str, error: BaseException) -> None:
        self._breaker.failed()
        self._observer.cache_failed(operation, type(error).__name__)


def _require_answers(values: object, count: int) -> None:
    """Raise RedisError unless there is one for every key; a proxy may put an error in the place of one."""
    if not isinstance(values, list) or len(values) != count:
        raise RedisError("expected one answer for every key")
    for value in values:
        if value is not None and type(value) is not bytes:
            raise RedisError("expected bytes")
