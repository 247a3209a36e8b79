from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.training.score_figures import BINS, bins, brier, calibration_error, counts, figures, ranking

ROWS = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=200)


def arrays(rows: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in rows]), np.array([unsafe for _, unsafe in rows], dtype=bool)


@given(ROWS)
def test_every_row_stands_in_one_bin_and_the_error_is_a_share(rows: list[tuple[float, bool]]) -> None:
    scores, truths = arrays(rows)
    found = bins(scores, truths)
    assert sum(one["n"] for one in found) == len(rows)
    assert len(found) <= BINS
    assert 0 <= calibration_error(scores, truths) <= 1
    assert sum(counts(scores)) == len(rows)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows: list[tuple[float, bool]], random: object) -> None:
    before = calibration_error(*arrays(rows))
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert calibration_error(*arrays(shuffled)) == pytest.approx(before)


def test_equal_scores_stand_in_one_bin() -> None:
    scores = np.array([0.9] * 50 + [0.1] * 50)
    truths = np.array([True] * 25 + [False] * 75)
    assert [one["n"] for one in bins(scores, truths)] == [50, 50]
    assert calibration_error(scores, truths) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)


def test_scores_that_are_probabilities_have_almost_no_error() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(50_000)
    truths = rng.random(50_000) < scores
    assert calibration_error(scores, truths) < 0.01
    assert calibration_error(scores**3, truths) > 0.1


def test_bins_have_equally_many_rows() -> None:
    scores = np.random.default_rng(1).random(1500) ** 8
    found = bins(scores, scores > 0.5)
    assert len(found) == BINS
    assert all(abs(one["n"] - 100) <= 1 for one in found)


def test_brier_and_ranking() -> None:
    scores, truths = np.array([0.0, 0.5, 1.0]), np.array([False, True, True])
    assert brier(scores, truths) == pytest.approx(0.25 / 3)
    assert ranking(scores, truths) == 1.0
    assert ranking(1 - scores, truths) == 0.0
    assert ranking(np.full(3, 0.7), truths) == 0.5  # ties count half
    assert math.isnan(ranking(scores, np.array([True] * 3)))


def test_figures_say_how_many_scores_are_saturated() -> None:
    scores = np.array([0.9999, 0.0001, 0.5, 0.6])
    assert figures(scores, np.array([True, False, False, True]))["saturated"] == 0.5
