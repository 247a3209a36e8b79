"""Figures of scores under weights: what a ranking and a calibration are worth in each draw of a bootstrap.

Scores and truths have one number a row; weights have the shape (draws, rows) and say how often a row counts.
Results have one number a draw, NaN where a draw lacks rows of a kind.
"""

from __future__ import annotations

import numpy as np

from guard.training.bootstrap import Array
from guard.training.score_figures import BINS, Scores, Truths


class Ranking:
    """Rows by falling score; rows of one score are taken together, as a threshold takes them."""

    def __init__(self, scores: Scores, truths: Truths, weights: Array) -> None:
        order = np.argsort(-scores, kind="stable")
        ordered, truth = scores[order], truths[order]
        ends = np.append(np.nonzero(np.diff(ordered))[0], len(ordered) - 1)
        sorted_weights = weights[:, order]
        self._hits: Array = np.cumsum(sorted_weights * truth, axis=1)[:, ends]
        self._alarms: Array = np.cumsum(sorted_weights * ~truth, axis=1)[:, ends]

    def average_precision(self) -> Array:
        """Area under the precision-recall curve, as a sum over its steps (not interpolated)."""
        hits, alarms = self._hits, self._alarms
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(hits + alarms > 0, hits / (hits + alarms), 0.0)
            gained = np.diff(hits, axis=1, prepend=0.0) / hits[:, -1:]
        total: Array = (precision * gained).sum(axis=1)
        return total

    def recall_at(self, rate: float) -> Array:
        """The largest share of unsafe rows above a threshold that at most `rate` of the safe rows reach."""
        hits, alarms = self._hits, self._alarms
        with np.errstate(invalid="ignore", divide="ignore"):
            recall, reached = hits / hits[:, -1:], alarms / alarms[:, -1:]
        found: Array = np.where(reached <= rate, recall, 0.0).max(axis=1)
        undefined = (hits[:, -1] == 0) | (alarms[:, -1] == 0)
        return np.where(undefined, np.nan, found)


def calibration_errors(scores: Scores, truths: Truths, weights: Array) -> Array:
    """Expected calibration error; with equal weights that of `score_figures.calibration_error`.

    The bins are those of the rows themselves, in every draw.
    """
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1], method="higher"))
    places = np.searchsorted(edges, scores, side="right")
    inside = np.zeros((len(scores), len(edges) + 1))
    inside[np.arange(len(scores)), places] = 1.0
    # Of a bin with weight w, mean score s and share u: w * |s - u| is the distance of two sums.
    distances = np.abs((weights * (scores - truths)) @ inside).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        errors: Array = distances / weights.sum(axis=1)
    return errors
