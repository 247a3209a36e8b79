"""What a calibration is worth on rows that it was not fitted on: figures for the report and the card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from guard.calibration import ROLES, Calibration, Curve, Group, ModeCalibration
from guard.training.judged_rows import MODES, FittedMode, JudgedRow, right, scores_and_truths
from guard.training.score_figures import Scores, Truths, bins, counts, figures
from schemas.identifiers import Role

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
        scored = [row for row in part if row.score(mode, fitted.score) is not None]
        if scored:
            groups[group] = {
                "n": len(scored),
                "unscored": len(part) - len(scored),
                "curves": sorted({_group_of(fitted, row.role) for row in scored}),
                **_measure_rows(fitted, scored, mode),
            }
    measured: dict[str, Any] = {"score": fitted.score, "method": fitted.method, "groups": groups}
    if mode == "fast":
        measured["uncertain_band"] = _measure_band(fitted, rows)
    return measured


def _measure_rows(fitted: ModeCalibration, rows: Sequence[JudgedRow], mode: FittedMode) -> dict[str, Any]:
    """Figures of rows that have a score; each is read by the curve that serving reads it by."""
    raw, truths = scores_and_truths(rows, mode, fitted.score)
    curves = [fitted.curve(row.role) for row in rows]
    calibrated = np.array([curve.score(float(score)) for curve, score in zip(curves, raw, strict=True)])
    smallest = max(curve.smallest_rate for curve in curves)
    return {
        "unsafe": int(truths.sum()),
        "raw": figures(raw, truths),
        "calibrated": figures(calibrated, truths),
        "bins": {"raw": bins(raw, truths), "calibrated": bins(calibrated, truths)},
        "counts": {"raw": counts(raw), "calibrated": counts(calibrated)},
        "smallest_rate": smallest,
        "rates": [
            _measure_rate(rate, np.array([curve.threshold(rate) for curve in curves]), calibrated, truths)
            for rate in REPORTED_RATES
            if rate >= smallest and 0 < truths.sum() < len(truths)
        ],
    }


def _measure_rate(rate: float, thresholds: Scores, calibrated: Scores, truths: Truths) -> dict[str, float]:
    """What became of a rate: the share of safe rows that reach it, with its standard error, and of unsafe."""
    reached = calibrated >= thresholds
    share = float(reached[~truths].mean())
    return {
        "rate": rate,
        "found": round(share, 4),
        "se": round(math.sqrt(share * (1 - share) / int((~truths).sum())), 4),
        "recall": round(float(reached[truths].mean()), 4),
    }


def _measure_band(fitted: ModeCalibration, rows: Sequence[JudgedRow]) -> dict[str, Any]:
    """What the bands of `fast` do on rows that they were not fitted on."""
    inside = np.array([_is_uncertain(fitted.curve(row.role), row.fast.score) for row in rows], dtype=np.bool_)
    fast, think = right(rows, lambda row: row.fast), right(rows, lambda row: row.think)
    bands = {role: fitted.curve(role).uncertain_band for role in ROLES}
    return {
        "bands": {role: [band.low, band.high] for role, band in bands.items() if band is not None},
        "inside": round(float(inside.mean()), 4),
        "fast_right": round(float(fast.mean()), 4),
        "think_right": round(float(think.mean()), 4),
        "adaptive_right": round(float(np.where(inside, think, fast).mean()), 4),
    }


def _is_uncertain(curve: Curve, raw: float | None) -> bool:
    """Without a score there is nothing to be sure of."""
    return raw is None or curve.uncertain_band is None or curve.uncertain_band.holds(curve.score(raw))


def _group_of(fitted: ModeCalibration, role: Role) -> Group:
    return role if role in fitted.curves else "all"
