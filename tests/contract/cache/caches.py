"""Caches for the tests of this folder, and a verdict to keep in them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import SecretStr

from schemas.verdict import Step, Verdict
from tests.redis_sites import SERVICE, SentinelSite
from tests.waiting import PATIENCE_S
from workers.adapters.redis import RedisCache
from workers.ports import CachedVerdict
from workers.settings import RedisSettings

# A thread that wakes so often, and once in so long at most, unless the whole machine stands still.
_TICK_S: Final = 0.02
_LONGEST_TICK_S: Final = 0.15

VERDICT = CachedVerdict(
    verdict=Verdict(
        label="unsafe",
        score=0.75,
        codes=("C1", "C2"),
        category_scores={"C1": 0.5},
        rationale="ä ▇▇▇ 🙂",
        mode="think",
        steps=(Step(mode="think", prompt_tokens=5, completion_tokens=3, finish_reason="stop"),),
    ),
    origin_decision="d" * 64,
    kept_at_ms=1_700_000_000_000,
    rationale_form="masked",
    model="m",
    checkpoint_digest="c",
    verified=True,
    engine_version="1",
)


class Observer:
    """Remembers what failed, and how."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.kinds: list[str] = []
        self.leases: list[str] = []

    def cache_failed(self, operation: str, kind: str) -> None:
        self.failures.append(operation)
        self.kinds.append(kind)

    def leased(self, outcome: str) -> None:
        self.leases.append(outcome)


def redis_settings(url: str, **changes: Any) -> RedisSettings:
    options: dict[str, Any] = {"timeout_ms": 2000, **changes}
    return RedisSettings(url=SecretStr(url), **options)


def redis_cache(
    url: str, observer: Any, clock: Callable[[], float] = time.monotonic, **changes: Any
) -> RedisCache:
    settings = redis_settings(url, **changes)
    return RedisCache(settings, observer=observer, clock=clock, random=lambda: 0.5)


def sentinel_cache(site: SentinelSite, observer: Any, **changes: Any) -> RedisCache:
    more = {"topology": "sentinel", "sentinel_service": SERVICE}
    return redis_cache(site.url, observer, **(more | changes))


async def until(condition: Callable[[], Awaitable[Any]], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Ask again and again until it is true."""
    end = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        await asyncio.sleep(0.02)


async def took_s(asked: Awaitable[Any]) -> float:
    """How long it takes, less for how long the whole machine stood still meanwhile."""
    clock = _Standstill()
    began = time.monotonic()
    try:
        await asked
        passed_s = time.monotonic() - began
    finally:
        still_s = clock.stop()
    return passed_s - still_s


class _Standstill:
    """Counts for how long nothing of this process ran; an event loop that is blocked does not count."""

    def __init__(self) -> None:
        self._ends, self._still_s = threading.Event(), 0.0
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The seconds so far."""
        self._ends.set()
        self._thread.join()
        return self._still_s

    def _tick(self) -> None:
        ended, last = False, time.monotonic()
        while not ended:
            ended = self._ends.wait(_TICK_S)
            now = time.monotonic()
            if now - last > _LONGEST_TICK_S:
                self._still_s += now - last - _TICK_S
            last = now
