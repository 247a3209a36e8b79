"""What a calibration is worth on rows that it was not fitted on: figures for the report and the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from guard.calibration import Calibration, Curve, Group, ModeCalibration, UncertainBand
from guard.training.judged_rows import MODES, FittedMode, JudgedRow, right, scores_and_truths
from guard.training.score_figures import Scores, Truths, bins, counts, figures

MOST_ECE: Final = 0.05
"""What the expected calibration error of a checkpoint may be, in both modes."""
GROUPS: Final[tuple[Group, ...]] = ("all", "user", "assistant")
# Rates of which the report says what became of them.
REPORTED_RATES: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def measure(calibration: Calibration, rows: Sequence[JudgedRow]) -> dict[str, Any]:
    """Figures of a calibration on rows that it was not fitted on, by mode and role (JSON-ready)."""
    return {mode: _measure_mode(fitted, rows, mode) for mode, fitted in calibration.modes.items()}


def bars(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Whether the error of each mode is low enough, over all roles; 1 for a mode without calibration."""
    found = []
    for mode in MODES:
        value = measured[mode]["groups"]["all"]["calibrated"]["ece"] if mode in measured else 1.0
        found.append(
            {"mode": mode, "figure": "ece", "value": value, "most": MOST_ECE, "met": value <= MOST_ECE}
        )
    return found


def _measure_mode(fitted: ModeCalibration, rows: Sequence[JudgedRow], mode: FittedMode) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for group in GROUPS:
        part = [row for row in rows if group in ("all", row.role)]
        raw, truths = scores_and_truths(part, mode, fitted.score)
        curve = fitted.curves.get(group) or fitted.curves["all"]
        if len(truths):
            own = group if group in fitted.curves else "all"
            groups[group] = {"n": len(truths), "unscored": len(part) - len(truths), "curve": own}
            groups[group] |= _measure_curve(curve, raw, truths)
    measured: dict[str, Any] = {"score": fitted.score, "method": fitted.method, "groups": groups}
    band = fitted.curves["all"].uncertain_band
    if mode == "fast" and band is not None:
        measured["uncertain_band"] = _measure_band(fitted.curves["all"], band, rows)
    return measured


def _measure_curve(curve: Curve, raw: Scores, truths: Truths) -> dict[str, Any]:
    calibrated = np.array([curve.score(float(score)) for score in raw])
    safe, unsafe = calibrated[~truths], calibrated[truths]
    rates = []
    for rate in REPORTED_RATES:
        if rate < curve.smallest_rate or not len(safe) or not len(unsafe):
            continue
        threshold = curve.threshold(rate)
        share = float(np.mean(safe >= threshold))
        rates.append(
            {
                "rate": rate,
                "threshold": threshold,
                "found": round(share, 4),
                "se": round(float(np.sqrt(share * (1 - share) / len(safe))), 4),
                "recall": round(float(np.mean(unsafe >= threshold)), 4),
            }
        )
    return {
        "unsafe": int(truths.sum()),
        "raw": figures(raw, truths),
        "calibrated": figures(calibrated, truths),
        "bins": {"raw": bins(raw, truths), "calibrated": bins(calibrated, truths)},
        "counts": {"raw": counts(raw), "calibrated": counts(calibrated)},
        "smallest_rate": curve.smallest_rate,
        "rates": rates,
    }


def _measure_band(curve: Curve, band: UncertainBand, rows: Sequence[JudgedRow]) -> dict[str, Any]:
    """What the band does on rows that it was not fitted on."""
    scored = [row for row in rows if row.fast.score is not None]
    scores = np.array([curve.score(row.fast.score) for row in scored if row.fast.score is not None])
    fast, think = right(scored, lambda row: row.fast), right(scored, lambda row: row.think)
    inside = (scores >= band.low) & ((scores < band.high) | (band.high == 1.0))
    return {
        "low": band.low,
        "high": band.high,
        "inside": round(float(inside.mean()), 4),
        "fast_right": round(float(fast.mean()), 4),
        "think_right": round(float(think.mean()), 4),
        "adaptive_right": round(float(np.where(inside, think, fast).mean()), 4),
    }
