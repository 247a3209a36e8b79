"""The events of a load: the same for the same seed, in the asked shares, and as the worker wants them."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.event import Event
from schemas.keys import record_key
from tests.unit.workers.load.worlds import EVENTS, plan
from workers.load.lengths import read_lengths
from workers.load.plan import CHUNK, Traffic, event_prefix, zipf_shares
from workers.moderation.read_event import EventLimits, decode_event
from workers.settings import LimitsSettings

LIMITS = EventLimits(**LimitsSettings().model_dump())


def _events(count: int, **changes: Any) -> list[Event]:
    return [EVENTS.decode(value) for _, value in islice(Traffic(plan(**changes)).events(), count)]


def _pool(**changes: Any) -> list[Event]:
    return [EVENTS.decode(value) for _, value in Traffic(plan(**changes)).pool()]


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(seed: int) -> None:
    first, again, other = (Traffic(plan(seed=number)) for number in (seed, seed, seed + 1))
    assert list(first.pool()) == list(again.pool())
    some = list(islice(first.events(), 300))
    assert some == list(islice(again.events(), 300))
    assert some != list(islice(other.events(), 300))


def test_another_run_of_one_seed_has_other_texts_of_the_same_lengths() -> None:
    pairs = list(zip(_events(500, run="aa"), _events(500, run="bb"), strict=True))
    assert not {one.message.text for one, _ in pairs} & {other.message.text for _, other in pairs}
    for one, other in pairs:
        assert one.conversation_id == other.conversation_id
        assert len(one.message.text) == len(other.message.text)


@given(st.floats(0, 1))
@settings(max_examples=30)
def test_the_share_of_hits_is_exact_over_every_chunk(share: float) -> None:
    traffic = Traffic(plan(hits=share, pool=20 if share else 0))
    found = 0
    for chunk in range(3):
        found += int(traffic.draws(chunk).hits.sum())
        assert found == pytest.approx((chunk + 1) * CHUNK * share, abs=1)


def test_hits_come_in_no_pattern() -> None:
    hits = Traffic(plan(hits=0.9)).draws(0).hits
    gaps = np.diff(np.flatnonzero(~hits))
    assert len(set(gaps.tolist())) > 10
    assert hits[:1000].mean() == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("tenants", [("acme",), ("acme", "globex", "initech")])
def test_a_hit_repeats_a_text_that_its_tenant_asked_before_and_a_miss_is_new(
    tenants: tuple[str, ...],
) -> None:
    asked: dict[str, set[str]] = defaultdict(set)
    for event in _pool(tenants=tenants, pool=31):
        asked[event.tenant].add(event.message.text)
    assert sum(map(len, asked.values())) == 31
    hits = 0
    for event in _events(2000, tenants=tenants, pool=31):
        known = event.message.text in asked[event.tenant]
        hits += known
        assert known or not any(event.message.text in texts for texts in asked.values())
        if not known:
            asked[event.tenant].add(event.message.text)
    assert hits / 2000 == pytest.approx(0.5, abs=0.05)


@given(st.integers(1, 200), st.floats(0, 4))
def test_zipf_shares_fall_as_the_law_says(count: int, exponent: float) -> None:
    shares = zipf_shares(count, exponent)
    assert shares.sum() == pytest.approx(1)
    for rank in range(1, count + 1):
        assert shares[0] / shares[rank - 1] == pytest.approx(rank**exponent)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.8])
def test_conversations_are_as_busy_as_their_shares(exponent: float) -> None:
    traffic = Traffic(plan(zipf=exponent))
    drawn = np.concatenate([traffic.draws(chunk).conversations for chunk in range(6)])
    found = np.bincount(drawn, minlength=50) / len(drawn)
    # Four times the standard deviation of a share.
    shares = zipf_shares(50, exponent)
    assert (np.abs(found - shares) < 4 * np.sqrt(shares / len(drawn))).all()


def test_a_conversation_has_one_tenant_and_tenants_take_turns() -> None:
    tenants = defaultdict(set)
    for event in _events(2000):
        tenants[event.conversation_id].add(event.tenant)
    assert all(len(found) == 1 for found in tenants.values())
    assert Counter(next(iter(found)) for found in tenants.values()).keys() == {"acme", "globex"}


def test_events_are_numbered_on_from_the_pool() -> None:
    prefix = event_prefix("r1")
    ids = [event.event_id for event in [*_pool(), *_events(CHUNK + 5)]]
    assert ids == [f"{prefix}{number}" for number in range(20 + CHUNK + 5)]


def test_every_event_is_one_that_the_worker_takes_and_its_key_is_the_conversations() -> None:
    traffic = Traffic(plan(policy="minors", tenants=("acme/eu", "globex")))
    for key, value in [*traffic.pool(), *islice(traffic.events(), 300)]:
        event = decode_event(value, LIMITS)
        assert isinstance(event, Event)
        assert (event.policy, key) == ("minors", record_key(event.tenant, event.conversation_id))


@given(st.integers(1, 300))
def test_a_text_has_the_drawn_length_but_is_never_shorter_than_its_mark(length: int) -> None:
    events = _events(300, lengths=read_lengths(f"fixed:{length}"), hits=0.0, pool=0)
    lengths = {len(event.message.text) for event in events}
    assert lengths == {length} or (length < 8 and max(lengths) <= len("r1-12b"))
    assert len({event.message.text for event in events}) == 300


def test_texts_are_bounded_by_the_limit() -> None:
    events = _events(200, lengths=read_lengths("lognormal:1000:2"), longest_text=200)
    assert max(len(event.message.text) for event in events) == 200


def test_the_pool_is_spread_over_the_conversations_of_each_tenant() -> None:
    assert len({event.conversation_id for event in _pool(pool=50)}) == 50
    assert len({event.conversation_id for event in _pool(conversations=3)}) == 3
