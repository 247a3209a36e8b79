"""Figures about scores: calibration error, Brier score, ranking.

Scores and truths (True: unsafe) are arrays of one length.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]

BINS: Final = 15
"""Of the expected calibration error, as in Guo et al. (2017), "On calibration of modern neural networks"."""
STEPS: Final = 20
# Beyond these a score says "sure", and one message is hardly told from another.
SATURATED: Final = (0.001, 0.999)


def bins(scores: Scores, truths: Truths) -> list[dict[str, float]]:
    """Up to 15 bins of about equally many rows, by rising score; equal scores stand in one bin.

    Of each: `n`, `score` (the mean) and `unsafe` (the share). Equal mass instead of equal width (Nixon et al.
    2019, "Measuring calibration in deep learning"), since most scores lie at the two ends.
    """
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1], method="higher"))
    places = np.searchsorted(edges, scores, side="right")
    found = []
    for place in np.unique(places):
        inside = places == place
        found.append(
            {
                "n": int(inside.sum()),
                "score": float(scores[inside].mean()),
                "unsafe": float(truths[inside].mean()),
            }
        )
    return found


def counts(scores: Scores) -> list[int]:
    """Rows in each of twenty steps of equal width from 0 to 1."""
    return [int(count) for count in np.histogram(scores, bins=STEPS, range=(0.0, 1.0))[0]]


def calibration_error(scores: Scores, truths: Truths) -> float:
    """Expected calibration error: the mean distance of score and share of unsafe rows over the bins.

    Each bin counts by its rows (Naeini et al. 2015).
    """
    found = bins(scores, truths)
    return sum(one["n"] * abs(one["score"] - one["unsafe"]) for one in found) / len(scores)


def brier(scores: Scores, truths: Truths) -> float:
    """Mean squared distance of score and truth (Brier 1950); lower is better."""
    return float(np.mean((scores - truths) ** 2))


def ranking(scores: Scores, truths: Truths) -> float:
    """Area under the ROC curve: how often an unsafe row has a higher score than a safe one; ties count half.

    From ranks (Mann and Whitney 1947). Not a number without rows of both kinds.
    """
    unsafe = int(truths.sum())
    safe = len(truths) - unsafe
    if not unsafe or not safe:
        return float("nan")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # the mean rank of equal scores
    return float((ranks[truths].sum() - unsafe * (unsafe + 1) / 2) / (unsafe * safe))


def figures(scores: Scores, truths: Truths) -> dict[str, Any]:
    """What a report says of one kind of score."""
    low, high = SATURATED
    return {
        "ece": round(calibration_error(scores, truths), 4),
        "brier": round(brier(scores, truths), 4),
        "auroc": round(ranking(scores, truths), 4),
        "saturated": round(float(np.mean((scores < low) | (scores > high))), 4),
    }
