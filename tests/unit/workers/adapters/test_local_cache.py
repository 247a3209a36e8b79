from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.verdict import Verdict
from workers.adapters.local_cache import ENTRY_OVERHEAD_BYTES, SHARED_TTL_S, LocalCache, TieredCache, Watched
from workers.ports import CachedVerdict


def cached(rationale: str = "") -> CachedVerdict:
    verdict = Verdict(label="safe", score=0.1, rationale=rationale)
    return CachedVerdict(verdict, "o", 0, "masked", "m", "c", True, "1")


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3000)), max_size=30))
def test_the_limit_holds_whatever_is_kept(kept: list[tuple[str, int]]) -> None:
    cache = LocalCache(3 * ENTRY_OVERHEAD_BYTES, Time())
    for key, length in kept:
        cache.put(key, cached("x" * length), 60)
        assert 0 <= cache.bytes <= 3 * ENTRY_OVERHEAD_BYTES
    for key in "abcdefgh":
        cache.put(key, cached("x" * 10**5), 60)  # never fits, and takes the place of what it replaces
    assert (cache.bytes, len(cache)) == (0, 0)


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = LocalCache(int(2.5 * (ENTRY_OVERHEAD_BYTES + 150)), Time())
    cache.put("a", cached(), 60)
    cache.put("b", cached(), 60)
    cache.look_up(["a"])
    cache.put("c", cached(), 60)
    assert [verdict is not None for verdict in cache.look_up(["a", "b", "c"])] == [True, False, True]


def test_an_expired_verdict_is_a_miss_and_frees_its_bytes() -> None:
    time = Time()
    cache = LocalCache(10**6, time)
    cache.put("a", cached(), 60)
    time.now = 60.0
    assert cache.look_up(["a"]) == [None]
    assert cache.bytes == 0


def test_a_cache_of_no_size_keeps_nothing() -> None:
    cache = LocalCache(0, Time())
    cache.put("a", cached(), SHARED_TTL_S)
    assert cache.look_up(["a"]) == [None]


@pytest.mark.parametrize(
    ("left_s", "expected_s"), [(-1, 0), (5, 5), (1000, SHARED_TTL_S), (None, SHARED_TTL_S)]
)
async def test_what_the_shared_cache_has_is_remembered_for_a_minute_and_not_beyond_its_end(
    left_s: int | None, expected_s: float
) -> None:
    time = Time()
    local, shared = LocalCache(10**6, time), LocalCache(10**6, Time())
    now_ms = 1_000_000
    verdict = msgspec.structs.replace(cached(), expires_at_ms=0 if left_s is None else now_ms + left_s * 1000)
    shared.put("a", verdict, 10_000)
    assert await TieredCache(local, shared, lambda: now_ms).recall(["a"]) == [verdict]
    time.now = expected_s - 0.001
    assert local.look_up(["a"]) == [verdict if expected_s else None]
    time.now = expected_s
    assert local.look_up(["a"]) == [None]


class Shared:
    async def recall(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        return [cached() if key == "there" else None for key in keys]

    async def keep(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None: ...


async def test_what_is_found_is_told_by_tier_and_redis_only_of_what_it_was_asked() -> None:
    told: list[tuple[str, int, int]] = []
    local = LocalCache(10**6, Time())
    local.put("here", cached(), 60)
    tiers = TieredCache(local, Shared(), lambda: 0.0, lambda *look: told.append(look))
    await tiers.recall(["here", "there", "nowhere"])
    assert told == [("local", 1, 2), ("shared", 1, 1)]
    await tiers.recall(["here", "there"])  # remembered by now
    assert told[2:] == [("local", 2, 0)]


async def test_a_watched_cache_is_the_cache_and_tells_what_was_found() -> None:
    told: list[tuple[str, int, int]] = []
    local = LocalCache(10**6, Time())
    watched = Watched(local, "local", lambda *look: told.append(look))
    await watched.keep("a", cached(), 60)
    assert await watched.recall(["a", "b"]) == [cached(), None]
    assert told == [("local", 1, 1)]
