import numpy as np
import pytest

from guard.training import bootstrap
from guard.training.bootstrap import draw_weights, group_numbers, interval, wilson


def test_rows_of_a_group_are_drawn_together_and_nameless_rows_alone() -> None:
    groups = group_numbers(["a", "", "a", "", "b"])
    assert groups.tolist() == [0, 1, 0, 2, 3]
    weights = np.concatenate(list(draw_weights(groups, 50, 3)))
    assert weights.shape == (50, 5)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3, 4]].sum(axis=1) == 4).all()


def test_the_same_draws_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = group_numbers([f"g{n % 7}" for n in range(20)])
    whole = np.concatenate(list(draw_weights(groups, 33, 5)))
    monkeypatch.setattr(bootstrap, "_BLOCK", 60)
    parts = list(draw_weights(groups, 33, 5))
    assert len(parts) == 11
    assert (np.concatenate(parts) == whole).all()


def test_no_rows_have_no_draws() -> None:
    assert list(draw_weights(group_numbers([]), 10, 1)) == []


def test_draws_without_a_value_do_not_count() -> None:
    assert interval(np.array([np.nan, 0.0, 1.0, np.nan]), 0.5) == (0.25, 0.75)
    assert all(np.isnan(interval(np.array([np.nan]))))


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(1)
    values = rng.random(400) < 0.3
    groups = group_numbers([""] * 400)
    draws = np.concatenate([w @ values / w.sum(axis=1) for w in draw_weights(groups, 4000, 2)])
    low, high = interval(draws)
    se = float(np.sqrt(values.mean() * (1 - values.mean()) / 400))
    assert (high - low) / (2 * 1.96 * se) == pytest.approx(1.0, abs=0.06)


def test_wilsons_interval_has_a_width_where_all_rows_agree() -> None:
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-3)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    low, high = wilson(0.5, 10_000)
    assert (low + high, high - low) == pytest.approx((1.0, 2 * 1.96 * 0.005), abs=1e-4)
