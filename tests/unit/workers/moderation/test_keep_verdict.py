from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.unit.workers.moderation.builders import (
    GUARD,
    make_asked,
    make_chosen,
    make_event,
    make_turn,
    make_verdict,
)
from workers.moderation.keep_verdict import cacheable, keep_verdict
from workers.ports import CachedVerdict

QUOTING = make_verdict(rationale="the secret password was said before hello there; listed")


class Cache:
    def __init__(self) -> None:
        self.kept: list[tuple[str, float]] = []

    async def recall(self, keys: Sequence[str]) -> list[CachedVerdict | None]:
        raise NotImplementedError

    async def keep(self, key: str, verdict: CachedVerdict, ttl_s: float) -> None:
        self.kept.append((key, ttl_s))


def test_no_words_of_message_or_context_are_kept_unless_the_setting_says_full() -> None:
    asked = make_asked(make_event(context=(make_turn("the secret password"),)))
    masked = cacheable(asked, QUOTING, GUARD, "masked", 5.7, 60)
    assert "password" not in masked.verdict.rationale
    assert "hello" not in masked.verdict.rationale
    assert "listed" in masked.verdict.rationale
    assert cacheable(asked, QUOTING, GUARD, "full", 5, 60).verdict == QUOTING
    assert cacheable(asked, QUOTING, GUARD, "off", 5, 60).verdict.rationale == ""
    assert (masked.kept_at_ms, masked.origin_decision) == (5, asked.decision_id)


@pytest.mark.parametrize(
    ("own", "default", "expected"), [(None, 60, [60]), (5, 60, [5]), (0, 60, []), (None, 0, [])]
)
async def test_the_policys_lifetime_goes_before_the_settings(
    own: int | None, default: int, expected: list[int]
) -> None:
    cache, asked = Cache(), make_asked(chosen=make_chosen(cache_ttl=own))
    await keep_verdict(asked, cacheable(asked, QUOTING, GUARD, "masked", 0, default), cache, default)
    assert cache.kept == [("key", seconds) for seconds in expected]


@pytest.mark.parametrize(("own", "expected"), [(None, 60_005), (5, 5_005)])
def test_a_verdict_says_until_when_it_may_be_used(own: int | None, expected: int) -> None:
    asked = make_asked(chosen=make_chosen(cache_ttl=own))
    assert cacheable(asked, QUOTING, GUARD, "masked", 5.7, 60).expires_at_ms == expected
