from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.calibration import Curve
from guard.training.calibration_fit import (
    BAND_TOLERANCE,
    LEAST_ABOVE,
    METHODS,
    CannotFit,
    Method,
    best_method,
    cross_validated,
    false_positives,
    fit_curve,
    fit_points,
    uncertain_band,
)
from guard.training.score_figures import Scores, Truths, calibration_error


def sigmoid(odds: Scores) -> Scores:
    return np.asarray(1 / (1 + np.exp(-odds)))


def overconfident(count: int, seed: int = 0, factor: float = 3.0) -> tuple[Scores, Truths]:
    """Rows whose log-odds are `factor` times as far out as the truth."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 2.5, count)
    return sigmoid(odds * factor), rng.random(count) < sigmoid(odds)


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_mends_scores_that_are_too_sure(method: Method) -> None:
    curve = fit_curve(*overconfident(4000), method)
    scores, truths = overconfident(4000, seed=1)
    calibrated = np.array([curve.score(float(score)) for score in scores])
    assert calibration_error(scores, truths) > 0.1
    assert calibration_error(calibrated, truths) < 0.03


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(METHODS),
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=30, max_size=200),
)
def test_a_fit_of_any_rows_is_a_curve_that_a_file_may_hold_or_none(
    method: Method, rows: list[tuple[float, bool]]
) -> None:
    scores = np.array([score for score, _ in rows])
    truths = np.array([unsafe for _, unsafe in rows], dtype=bool)
    try:
        raw, calibrated = fit_points(scores, truths, method)
    except CannotFit:
        return
    assert (raw[0], raw[-1]) == (0.0, 1.0)
    for values in (raw, calibrated):
        assert all(0 <= low < high <= 1 for low, high in pairwise(values))


def test_scores_that_are_equal_to_a_thousandth_are_told_apart() -> None:
    """Where most scores are saturated, what is left of them is in the digits after the nines."""
    rng = np.random.default_rng(2)
    odds = rng.normal(0, 1, 4000)
    scores, truths = sigmoid(odds + 9), rng.random(4000) < sigmoid(odds)
    assert float(np.quantile(scores, 0.1)) > 0.999
    for method in METHODS:
        curve = fit_curve(scores, truths, method)
        assert curve.score(float(sigmoid(np.array(11.0)))) - curve.score(float(sigmoid(np.array(7.0)))) > 0.4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["one kind", "turned round", "noise"])
def test_scores_that_say_nothing_have_no_fit(method: Method, kind: str) -> None:
    scores, truths = overconfident(1000)
    match kind:
        case "one kind":
            truths = np.ones(1000, dtype=bool)
        case "turned round":
            truths = ~truths
        case _:
            scores = np.full(1000, 0.5)
    with pytest.raises(CannotFit):
        fit_points(scores, truths, method)


def test_the_method_is_chosen_on_rows_that_its_fit_did_not_see() -> None:
    # Log-odds three times too large are what Platt's two numbers can mend; a step is not.
    assert best_method(*overconfident(3000), seed=1)[0] == "platt"
    rng = np.random.default_rng(3)
    scores = rng.random(3000)
    truths = rng.random(3000) < np.where(scores > 0.5, 0.6, np.where(scores > 0.25, 0.5, 0.02))
    method, found = best_method(scores, truths, seed=1)
    assert method == "isotonic"
    assert found["isotonic"] < found["platt"]


def test_cross_validation_sees_no_row_twice() -> None:
    """A row that is alone with its score cannot teach its own truth."""
    scores = np.linspace(0.01, 0.99, 200)
    truths = np.random.default_rng(0).random(200) < scores
    out = cross_validated(scores, truths, "isotonic", seed=0)
    turned = truths.copy()
    turned[100] = ~turned[100]
    assert cross_validated(scores, turned, "isotonic", seed=0)[100] == out[100]


@given(st.lists(st.floats(0, 1), min_size=LEAST_ABOVE + 1, max_size=400))
def test_no_rate_is_exceeded_on_the_rows_themselves(values: list[float]) -> None:
    safe = np.array(values)
    found = false_positives(safe)
    for rate, score in zip(found.rates, found.scores, strict=True):
        assert float(np.mean(safe >= score)) <= rate


def test_the_smallest_rate_leaves_rows_enough_above_it() -> None:
    safe = np.random.default_rng(0).random(1000)
    found = false_positives(safe)
    assert 0.01 < found.rates[0] < 0.012
    assert int(np.sum(safe >= found.scores[0])) >= LEAST_ABOVE
    assert {0.02, 0.05, 0.1, 0.5, 1.0} <= set(found.rates)
    assert false_positives(safe[:10]).rates == (1.0,)


def test_rates_that_lie_within_equal_scores_are_not_offered() -> None:
    """A third of the safe rows has the highest score there is: no threshold has fewer above it."""
    safe = np.concatenate([np.ones(300), np.linspace(0, 0.9, 700)])
    assert false_positives(safe).rates[0] > 0.3


def test_a_rate_holds_for_rows_that_the_fit_did_not_see() -> None:
    """On average over the draws, as split conformal prediction promises."""
    shares = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = false_positives(rng.beta(0.3, 2, 500))
        at = max(n for n, rate in enumerate(found.rates) if rate <= 0.05)
        shares.append(np.mean(rng.beta(0.3, 2, 500) >= found.scores[at]))
    assert float(np.mean(shares)) <= 0.05 + 0.002


# The band


def test_the_band_is_where_thinking_pays() -> None:
    """`fast` guesses between 0.4 and 0.6 and is right elsewhere; `think` is always right."""
    scores = np.linspace(0, 1, 2001)
    guesses = (scores > 0.4) & (scores < 0.6)
    fast = ~guesses | (np.arange(2001) % 2 == 0)
    band = uncertain_band(scores, fast, np.ones(2001, dtype=bool))
    assert 0.38 <= band.low < band.high <= 0.62
    assert band.inside < 0.21
    assert band.adaptive_right >= 1 - BAND_TOLERANCE


def test_there_is_no_band_where_thinking_never_pays() -> None:
    scores = np.linspace(0, 1, 500)
    band = uncertain_band(scores, np.ones(500, dtype=bool), np.zeros(500, dtype=bool))
    assert (band.low, band.inside, band.adaptive_right) == (band.high, 0.0, 1.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), min_size=1, max_size=300))
def test_a_band_costs_no_more_than_the_tolerance(rows: list[tuple[float, bool, bool]]) -> None:
    scores = np.array([score for score, _, _ in rows])
    fast = np.array([one for _, one, _ in rows], dtype=bool)
    think = np.array([one for _, _, one in rows], dtype=bool)
    band = uncertain_band(scores, fast, think)
    inside = (scores >= band.low) & ((scores < band.high) | (band.high == 1.0))
    right = float(np.where(inside, think, fast).mean())
    assert right == pytest.approx(band.adaptive_right, abs=1e-3)
    assert right >= float(think.mean()) - BAND_TOLERANCE - 1e-9


def test_a_curve_counts_its_rows() -> None:
    scores, truths = overconfident(600)
    curve: Curve = fit_curve(scores, truths, "platt")
    assert (curve.safe, curve.unsafe) == (int((~truths).sum()), int(truths.sum()))
