from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.scores import log_odds, mean_of_both, p_unsafe, probability

SHARE = st.floats(0, 1)


@given(st.floats(-30, 30))
def test_log_odds_and_probability_are_inverse(odds: float) -> None:
    # Near 1 a double has no more digits: 1 - p is rounded to steps of 1e-16.
    assert log_odds(probability(odds)) == pytest.approx(odds, abs=1e-6 + 1e-16 * math.exp(abs(odds)) * 4)


@given(SHARE)
def test_log_odds_are_bounded(share: float) -> None:
    assert -30 <= log_odds(share) <= 30


@given(SHARE, SHARE)
def test_the_mean_of_both_lies_between_them_and_knows_no_order(one: float, other: float) -> None:
    mean = mean_of_both(one, other)
    assert mean is not None
    assert mean == mean_of_both(other, one)
    assert min(one, other) - 1e-9 <= mean <= max(one, other) + 1e-9


@given(SHARE, SHARE, SHARE)
def test_a_higher_reading_never_gives_a_lower_score(one: float, low: float, high: float) -> None:
    before, after = mean_of_both(one, min(low, high)), mean_of_both(one, max(low, high))
    assert before is not None
    assert after is not None
    assert after >= before - 1e-12


def test_equal_odds_on_either_side_cancel_out() -> None:
    assert mean_of_both(0.9, 0.1) == pytest.approx(0.5)


@pytest.mark.parametrize(("fast", "verdict"), [(None, 0.5), (0.5, None), (None, None)])
def test_one_reading_is_no_score_of_both(fast: float | None, verdict: float | None) -> None:
    assert mean_of_both(fast, verdict) is None


@pytest.mark.parametrize(
    ("pair", "score"),
    [
        (None, None),
        ((math.nan, -1.0), None),
        ((-math.inf, -math.inf), None),
        ((-math.inf, -1.0), 1.0),
        ((-1.0, -math.inf), 0.0),
        ((-2.0, -2.0), 0.5),
    ],
)
def test_a_score_needs_two_log_probabilities(pair: tuple[float, float] | None, score: float | None) -> None:
    assert p_unsafe(pair) == score
