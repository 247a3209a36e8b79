"""Fits what `calibration.json` holds: points from raw to calibrated, rates, the uncertain band.

The only door to scikit-learn. Scores are fitted by their log-odds, since most raw scores lie within a
thousandth of 0 or 1; arrays hold one number a row, in one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from guard.calibration import Curve, FalsePositives, UncertainBand
from guard.scores import log_odds, probability
from guard.training.score_figures import Scores, Truths, brier

Method = Literal["isotonic", "platt"]
METHODS: Final[tuple[Method, ...]] = ("isotonic", "platt")
Pair = tuple[tuple[float, ...], tuple[float, ...]]
"""Raw and calibrated scores of the points of a curve."""

FOLDS: Final = 5
# Safe rows that must lie above a threshold: the standard error of their share is then a third of it or less.
LEAST_ABOVE: Final = 10
# The band may cost so much accuracy beside always thinking: half a point.
BAND_TOLERANCE: Final = 0.005
# A curve that rises by less says the same of every row.
_LEAST_RISE: Final = 0.01
_BAND_STEPS: Final = 400
_BAND_DIGITS: Final = 4
# Log-odds between two points of a Platt curve; the line between them is off by under 0.001.
_PLATT_STEP: Final = 0.25
_PLATT_END: Final = 30.0
# First digits of the rates that are stored: at most a tenth between neighbours.
_FIRST_DIGITS: Final = (
    *(10 + n for n in range(10)),
    *(20 + 2 * n for n in range(15)),
    *(50 + 5 * n for n in range(10)),
)  # fmt: skip


class CannotFit(Exception):
    """The rows have no calibration: scores that do not rise with the truth, or too few of a kind."""


def fit_points(scores: Scores, truths: Truths, method: Method) -> Pair:
    """The points of a curve. Raises `CannotFit`, also where the scores do not rise with the truth."""
    if truths.all() or not truths.any():
        raise CannotFit("the rows are all of one kind")
    odds = np.array([log_odds(score) for score in scores])
    points = _isotonic(odds, truths) if method == "isotonic" else _platt(odds, truths)
    first, last = points[0][1], points[-1][1]
    if last - first < _LEAST_RISE:
        raise CannotFit("the scores do not rise with the truth")
    # Beyond the outermost points: half of the way to what is certain.
    return _rising([(0.0, first / 2), *points, (1.0, 1.0 - (1.0 - last) / 2)])


def fit_curve(scores: Scores, truths: Truths, method: Method, band: UncertainBand | None = None) -> Curve:
    """The curve over all rows. Raises `CannotFit`."""
    raw, calibrated = fit_points(scores, truths, method)
    return Curve(
        safe=int((~truths).sum()),
        unsafe=int(truths.sum()),
        raw=raw,
        calibrated=calibrated,
        false_positives=false_positives(scores[~truths]),
        uncertain_band=band,
    )


def cross_validated(scores: Scores, truths: Truths, method: Method, seed: int) -> Scores:
    """Every row's calibrated score by a fit that did not see it. Raises `CannotFit`."""
    folds = np.random.default_rng(seed).permutation(len(scores)) % FOLDS
    out = np.empty(len(scores))
    for fold in range(FOLDS):
        seen = folds != fold
        raw, calibrated = fit_points(scores[seen], truths[seen], method)
        out[~seen] = np.interp(scores[~seen], raw, calibrated)
    return out


def best_method(scores: Scores, truths: Truths, seed: int) -> tuple[Method, dict[Method, float]]:
    """The method with the lower Brier score on rows that its fit did not see, and the scores of all.

    Raises `CannotFit`.
    """
    found = {m: brier(cross_validated(scores, truths, m, seed), truths) for m in METHODS}
    return min(METHODS, key=found.__getitem__), found


def false_positives(safe: Scores) -> FalsePositives:
    """For each rate the lowest raw score that a further safe row reaches at most so often.

    Of n safe rows at most `rate * (n + 1) - 1` reach it. Then the rate holds for a further row on average
    over all draws of the rows, not only for these (split conformal prediction; Papadopoulos et al. 2002).
    Rates for which fewer than `LEAST_ABOVE` may reach it are left out; 1 is always there.
    """
    ordered = np.sort(safe)[::-1]
    rates, scores = [], []
    for rate in _rates():
        above = int(np.floor(rate * (len(ordered) + 1) + 1e-9)) - 1
        if above < LEAST_ABOVE or above >= len(ordered):
            continue
        # The lowest score above the first row that must not reach it: equal scores stay together.
        reached = ordered[:above][ordered[:above] > ordered[above]]
        if len(reached):
            rates.append(rate)
            scores.append(float(reached[-1]))
    return FalsePositives(rates=(*rates, 1.0), scores=(*scores, 0.0))


def uncertain_band(calibrated: Scores, fast_right: Truths, think_right: Truths) -> UncertainBand:
    """The narrowest band of the calibrated fast score, by rows, that costs no more than the tolerance.

    Outside of it the fast verdict stands, within it the thinking one.
    """
    order = np.argsort(calibrated, kind="stable")
    scores, fast, think = calibrated[order], fast_right[order], think_right[order]
    edges = np.unique(np.round(np.quantile(scores, np.linspace(0, 1, _BAND_STEPS + 1)), _BAND_DIGITS))
    edges = np.unique(np.concatenate(([0.0], edges, [1.0])))
    places = np.searchsorted(scores, edges, side="left")
    places[-1] = len(scores)
    gain = np.concatenate(([0], np.cumsum(think.astype(int) - fast.astype(int))))[places]
    right = fast.sum() + gain[None, :] - gain[:, None]  # [low, high]
    inside = places[None, :] - places[:, None]
    enough = (right >= think.sum() - BAND_TOLERANCE * len(scores)) & (inside >= 0)
    least = np.where(enough, inside, len(scores) + 1)
    low, high = np.unravel_index(int(np.argmin(least)), least.shape)
    return UncertainBand(
        low=float(edges[low]),
        high=float(edges[high]),
        inside=round(float(inside[low, high]) / len(scores), 4),
        fast_right=round(float(fast.mean()), 4),
        think_right=round(float(think.mean()), 4),
        adaptive_right=round(float(right[low, high]) / len(scores), 4),
    )


def _isotonic(odds: Scores, truths: Truths) -> list[tuple[float, float]]:
    """Isotonic regression, a point in the middle of each block of equal values and lines between them.

    A plain isotonic fit is flat over each block and tells nothing apart there (Oron and Flournoy 2017,
    "Centered isotonic regression"). Shares stay off 0 and 1 as though there were one row of either kind more.
    """
    fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    values = fit.fit(odds, truths.astype(float)).predict(odds)
    least = 1.0 / (len(odds) + 2)
    points: list[tuple[float, float]] = []
    for value in np.unique(values):
        middle = probability(float(odds[values == value].mean()))
        points.append((middle, float(min(max(value, least), 1.0 - least))))
    return points


def _platt(odds: Scores, truths: Truths) -> list[tuple[float, float]]:
    """Platt scaling (1999): logistic regression on the log-odds, without its smoothing of the truths."""
    fit = LogisticRegression(C=np.inf, max_iter=1000).fit(odds[:, None], truths)
    slope, middle = float(fit.coef_[0][0]), float(fit.intercept_[0])
    steps = np.arange(-_PLATT_END, _PLATT_END + _PLATT_STEP, _PLATT_STEP)
    return [(probability(float(x)), probability(slope * float(x) + middle)) for x in steps]


def _rising(points: Sequence[tuple[float, float]]) -> Pair:
    """The points without those that do not rise in both scores; the ends stay."""
    kept = [points[0]]
    for raw, calibrated in points[1:-1]:
        if kept[-1][0] < raw < 1.0 and kept[-1][1] < calibrated < points[-1][1]:
            kept.append((raw, calibrated))
    kept.append(points[-1])
    return tuple(raw for raw, _ in kept), tuple(calibrated for _, calibrated in kept)


def _rates() -> list[float]:
    """From 0.0001 to 0.95, ascending; `0.01`, `0.005` and their like are among them."""
    return [digit / 10 ** (power + 1) for power in (4, 3, 2, 1) for digit in _FIRST_DIGITS]
