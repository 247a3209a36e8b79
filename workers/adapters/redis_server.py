"""One Redis server: many commands in one round trip, bounded in time, and left alone when it keeps failing.

Reading and writing are left alone apart, so that a server that is full or read-only still answers what it
knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, Protocol, TypeVar

import hiredis
from redis.exceptions import AskError, RedisError, ResponseError, TryAgainError

from workers.adapters.breaker import CircuitBreaker
from workers.settings import RedisSettings

Command = tuple[str | bytes | int, ...]
Operation = Literal["connect", "recall", "keep", "lease"]
Understood = TypeVar("Understood")
_ELSEWHERE: Final = (AskError, TryAgainError)  # of which `MovedError` is one
_PACK: Final[Any] = hiredis.pack_command  # its types know of one argument only


class CacheObserver(Protocol):
    """Is told of trouble; must not wait."""

    def cache_failed(self, operation: str, kind: str) -> None: ...


class RedisServer:
    """One server. `moved` is called when it says, or its silence may mean, that keys are elsewhere now."""

    def __init__(
        self,
        name: str,
        pool: Any,
        settings: RedisSettings,
        *,
        observer: CacheObserver,
        clock: Callable[[], float],
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self._pool = name, pool
        self._timeout_s = settings.timeout_ms / 1000
        self._observer, self._moved = observer, moved
        self._tries: set[asyncio.Task[Any]] = set()
        self._reading, self._writing = (
            CircuitBreaker(failures=settings.breaker_failures, reset_s=settings.breaker_reset_s, clock=clock)
            for _ in range(2)
        )

    @property
    def left_alone(self) -> tuple[bool, bool]:
        """Whether it is tried only now and then for reading, and for writing."""
        return self._reading.is_open, self._writing.is_open

    async def ask(
        self,
        operation: Operation,
        commands: Sequence[Command],
        understand: Callable[[list[Any]], Understood],
    ) -> Understood | None:
        """What the answers mean; None when there are none in time, or it is left alone. Never raises.

        Whoever tries a server again that is left alone does not wait for its answer.
        """
        breaker = self._reading if operation == "recall" else self._writing
        if not breaker.allows():
            return None
        if not breaker.is_open:
            return await self._try(operation, commands, understand)
        again = asyncio.create_task(self._try(operation, commands, understand))
        self._tries.add(again)
        again.add_done_callback(self._tries.discard)
        return None

    async def _try(
        self,
        operation: Operation,
        commands: Sequence[Command],
        understand: Callable[[list[Any]], Understood],
    ) -> Understood | None:
        writes = operation != "recall"
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self.exchange(commands)
            errors = [answer for answer in answers if isinstance(answer, ResponseError)]
            understood = understand(answers)
        except Exception as error:  # noqa: BLE001 - what stands at that address may make the client raise anything
            self._reading.failed()
            self._writing.failed()
            self._observer.cache_failed(operation, type(error).__name__)
            self._moved()
            return None
        if errors:
            self._observer.cache_failed(operation, type(errors[0]).__name__)
            self._moved()
        # A slot that has moved says nothing of the server; other refusals do, when nothing else was answered.
        if len(errors) == len(answers) and not any(isinstance(error, _ELSEWHERE) for error in errors):
            (self._writing if writes else self._reading).failed()
            return understood
        self._reading.succeeded()
        if writes:
            self._writing.succeeded()
        return understood

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """One answer per command, same order; an error of the server stands in the place of its answer.

        Waits as long as it takes. Raises whatever the client library raises when there is no answer.
        """
        connection = await self._pool.get_connection()
        try:
            # redis-py packs in Python even where hiredis is installed; that was 40 % of a batch.
            await connection.send_packed_command(b"".join(map(_PACK, commands)))
            answers = list[Any]()
            for _ in commands:
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:
                    answers.append(error)
        except BaseException:
            # Answers that nobody read would be taken for those to the next commands.
            await connection.disconnect(nowait=True)
            raise
        else:
            return answers
        finally:
            await self._pool.release(connection)

    async def close(self) -> None:
        for again in self._tries:
            again.cancel()
        # A server that hangs does not say goodbye, and then the client library raises; its connections are
        # dropped all the same.
        with suppress(RedisError, OSError):
            await self._pool.aclose()
