"""Verdicts in the process: bounded in bytes, oldest use goes first; alone, or in front of a shared cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Literal

from workers.adapters.verdict_codec import encode_verdict
from workers.ports import CachedVerdict, VerdictCache

# What an entry costs beside key and value: objects, pointers, the decoded structs.
ENTRY_OVERHEAD_BYTES: Final = 1_500
# Before a shared cache an entry is asked for again after so long, so that a flush there takes effect.
SHARED_TTL_S: Final = 60.0


Looked = Callable[[str, int, int], None]
"""Told of a look into a tier (`local` or `shared`): what was found, and what was not. Never waits."""


class LocalCache:
    """A cache of at most `limit_bytes`, about. `clock` gives monotonic seconds."""

    def __init__(self, limit_bytes: int, clock: Callable[[], float]) -> None:
        self._limit, self._clock = limit_bytes, clock
        self._entries: OrderedDict[str, tuple[CachedVerdict, float, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def recall(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        """One result per key, same order."""
        return self.look_up(keys)

    async def keep(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None:
        self.put(key, verdict, ttl_s)

    def look_up(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        """As `recall`, without a chance for other tasks to run."""
        now, entries = self._clock(), self._entries
        found: list[CachedVerdict | None] = []
        for key in keys:
            entry = entries.get(key)
            if entry is None:
                found.append(None)
            elif entry[1] <= now:
                self._drop(key)
                found.append(None)
            else:
                entries.move_to_end(key)
                found.append(entry[0])
        return found

    def put(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None:
        """Keep for `ttl_s`, 0 or less: not at all; what was used longest ago goes when it does not fit."""
        self._drop(key)
        if ttl_s <= 0:
            return
        size = len(key) + len(encode_verdict(verdict)) + ENTRY_OVERHEAD_BYTES
        if size > self._limit:
            return
        self._entries[key] = (verdict, self._clock() + ttl_s, size)
        self.bytes += size
        while self.bytes > self._limit:
            _, (_, _, size) = self._entries.popitem(last=False)
            self.bytes -= size

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry[2]


class TieredCache:
    """The process's cache first, then the shared one, in one round trip for all that is not here.

    `now_ms` gives Unix milliseconds, by the clock by which verdicts say when they expire: what is found
    shortly before is not remembered beyond that.
    """

    def __init__(
        self,
        local: LocalCache,
        shared: VerdictCache,
        now_ms: Callable[[], float],
        looked: Looked = lambda *_: None,
    ) -> None:
        self._local, self._now_ms, self._looked = local, now_ms, looked
        self._shared = Watched(shared, "shared", looked)

    async def recall(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        found = self._local.look_up(keys)
        absent = [index for index, verdict in enumerate(found) if verdict is None]
        self._looked("local", len(keys) - len(absent), len(absent))
        if absent:
            for index, verdict in zip(
                absent, await self._shared.recall([keys[index] for index in absent]), strict=True
            ):
                if verdict is not None:
                    self._local.put(keys[index], verdict, self._left_s(verdict))
                    found[index] = verdict
        return found

    def _left_s(self, verdict: CachedVerdict) -> float:
        if not verdict.expires_at_ms:
            return SHARED_TTL_S
        return min(SHARED_TTL_S, (verdict.expires_at_ms - self._now_ms()) / 1000)

    async def keep(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None:
        self._local.put(key, verdict, min(ttl_s, SHARED_TTL_S))
        await self._shared.keep(key, verdict, ttl_s)


class Watched:
    """A cache, and what is found in it is told."""

    def __init__(self, cache: VerdictCache, tier: Literal["local", "shared"], looked: Looked) -> None:
        self._cache, self._tier, self._looked = cache, tier, looked

    async def recall(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        found = await self._cache.recall(keys)
        misses = found.count(None)
        self._looked(self._tier, len(found) - misses, misses)
        return found

    async def keep(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None:
        await self._cache.keep(key, verdict, ttl_s)
