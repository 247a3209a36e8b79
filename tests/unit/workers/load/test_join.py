"""Percentiles, and latencies that count from when an event was due."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.load.drive import Sent
from workers.load.follow import DEAD_LETTER, HIT, MISS, Outcomes
from workers.load.join import PERCENTS, Floats, join, late_ms, percentile


def _values(seed: int, count: int) -> Floats:
    """In ascending order, some of them equal."""
    return np.sort(np.random.default_rng(seed).integers(0, count, count) / 3)


SEEDS, COUNTS = st.integers(0, 2**32), st.integers(1, 5000)


@given(SEEDS, COUNTS, st.sampled_from(PERCENTS))
def test_a_percentile_is_numpys(seed: int, count: int, percent: float) -> None:
    ordered = _values(seed, count)
    found = percentile(ordered, percent)
    if found is None:
        assert count < round(100 / (100 - percent))
    else:
        # A little less: numpy takes 99.9 % of 5,000 to be more than 4,995.
        assert found == np.percentile(ordered, percent - 1e-9, method="inverted_cdf")


@given(SEEDS, st.integers(1000, 5000), st.sampled_from(PERCENTS))
def test_a_percentile_was_measured_and_so_many_are_not_above_it(
    seed: int, count: int, percent: float
) -> None:
    ordered = _values(seed, count)
    found = percentile(ordered, percent)
    assert found is not None
    assert found in ordered.tolist()
    assert (ordered <= found).sum() >= round(count * percent / 100, 6)
    assert (ordered < found).sum() < round(count * percent / 100, 6)


@pytest.mark.parametrize(("percent", "least"), [(50, 2), (90, 10), (95, 20), (99, 100), (99.9, 1000)])
def test_there_is_none_of_too_few_values(percent: float, least: int) -> None:
    assert percentile(_values(1, least - 1), percent) is None
    assert percentile(_values(1, least), percent) is not None


def _sent(at_s: list[float], *, pool: int = 0, begun_s: float = 10.0) -> Sent:
    sent = Sent(pool=pool, begun_s=begun_s, measured_from=pool)
    sent.at_s.extend(at_s)
    return sent


def _outcomes(*rows: tuple[int, int, float]) -> Outcomes:
    """(number, kind, seen)."""
    outcomes = Outcomes()
    for number, kind, seen_s in rows:
        outcomes.add(number, kind, reason=None, received_ms=1000.0, stamp_ms=1007.0, seen_s=seen_s)
    return outcomes


def test_latency_counts_from_the_time_that_the_rate_gives() -> None:
    # Due at 10.0, 10.5 and 11.0; the second was sent a second late.
    sent = _sent([10.0, 11.5, 11.5])
    joined = join(sent, _outcomes((2, HIT, 11.6), (0, MISS, 10.2), (1, HIT, 11.6)), 2.0, events_stamped=True)
    assert joined.numbers.tolist() == [2, 0, 1]
    assert joined.latency_ms.tolist() == pytest.approx([600, 200, 1100])
    assert joined.broker_ms.tolist() == [7, 7, 7]
    assert late_ms(sent, 2.0).tolist() == pytest.approx([0, 1000, 500])


def test_at_max_and_of_the_pool_it_counts_from_the_sending() -> None:
    outcomes = _outcomes((0, MISS, 9.5), (1, HIT, 12.0))
    for rate, due_s in ((None, 11.0), (4.0, 10.0)):
        joined = join(_sent([9.0, 11.0], pool=1), outcomes, rate, events_stamped=False)
        assert joined.latency_ms.tolist() == pytest.approx([500, (12.0 - due_s) * 1000])
        assert np.isnan(joined.broker_ms).all()


def test_a_dead_letter_has_no_latency() -> None:
    joined = join(_sent([10.0]), _outcomes((0, DEAD_LETTER, 10.5)), 1.0, events_stamped=True)
    assert math.isnan(joined.latency_ms[0])


def test_rows_can_be_added_while_others_are_looked_at() -> None:
    sent, outcomes = _sent([10.0]), _outcomes((0, HIT, 10.5), (1, HIT, 10.6))
    joined = join(sent, outcomes, None, events_stamped=True)
    assert joined.numbers.tolist() == [0]  # the other event is not noted yet
    sent.at_s.append(10.2)  # with memory lent out this would raise
    outcomes.add(2, HIT, reason=None, received_ms=0, stamp_ms=0, seen_s=0)
    assert join(sent, outcomes, None, events_stamped=True, first_row=1).numbers.tolist() == [1]


def test_nothing_joined_is_empty() -> None:
    joined = join(Sent(), Outcomes(), 5.0, events_stamped=None)
    assert [len(column) for column in joined] == [0] * len(joined)
    assert late_ms(Sent(), 5.0).tolist() == []
