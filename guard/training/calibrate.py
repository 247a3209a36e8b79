"""From judged rows to a calibration, and to what the evaluation report says of it.

The method (isotonic or Platt) and what the score of `think` is made of are chosen by the Brier score on rows
that a fit did not see, within the rows of the fit. The report's figures are of other rows, which saw no fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np

from guard.answer import RSAFE_PROFILE
from guard.calibration import (
    FORMAT,
    Calibration,
    Curve,
    FittedOn,
    Group,
    ModeCalibration,
    UncertainBand,
    encode_calibration,
)
from guard.checkpoint import CALIBRATION, Checkpoint
from guard.scores import ThinkScore, mean_of_both
from guard.training.calibration_fit import CannotFit, as_arrays, best_method, fit_curve, uncertain_band
from guard.training.reliability import PICTURE, draw
from guard.training.score_figures import Scores, Truths, bins, counts, figures
from schemas.identifiers import Role

FittedMode = Literal["fast", "think"]
MODES: Final[tuple[FittedMode, ...]] = ("fast", "think")
MOST_ECE: Final = 0.05
"""What the expected calibration error of a checkpoint may be, in both modes."""
# A mode with fewer rows of a kind stays raw.
LEAST_ROWS: Final = 200
# A role with fewer rows of a kind is read by the curve of all roles; so many support a rate of 0.011.
LEAST_ROWS_OF_ROLE: Final = 1000
# Asking for both readings costs a call, so it must lower the Brier score by this share of it.
LEAST_GAIN: Final = 0.02
# Rates of which the report says what became of them on rows that no fit saw.
REPORTED_RATES: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_GROUPS: Final[tuple[Group, ...]] = ("all", "user", "assistant")
_THINK_SCORES: Final[tuple[ThinkScore, ...]] = ("verdict", "both")


class Reading(msgspec.Struct, frozen=True):
    """What one mode said of a row.

    `completions`: tokens of each call's completion; two calls where a rationale was closed by force.
    """

    label: str | None
    score: float | None
    completions: tuple[int, ...] = ()


class JudgedRow(msgspec.Struct, frozen=True):
    """A row, its truth, and what both modes said of it."""

    role: Role
    unsafe: bool
    fast: Reading
    think: Reading

    def score(self, mode: FittedMode, think_score: ThinkScore) -> float | None:
        """The raw score in a mode; None where there was no verdict, or none with a score."""
        if mode == "fast":
            return self.fast.score
        return (
            self.think.score if think_score == "verdict" else mean_of_both(self.fast.score, self.think.score)
        )


class _Fitted(msgspec.Struct, frozen=True):
    """A mode's calibration, and the Brier score of each method, and of each think score, in the folds."""

    calibration: ModeCalibration
    folds: dict[str, float]


def add_calibration(
    report: dict[str, Any],
    folder: Path,
    checkpoint: Checkpoint,
    *,
    fit: Sequence[JudgedRow],
    held_out: Sequence[JudgedRow],
    data: FittedOn,
    think_budget_tokens: int,
) -> None:
    """Write the calibration and its picture to `folder`; figures and bars go into the report.

    Without a calibration (a model whose scores say nothing) neither file is written, and the bar is missed.
    """
    calibration, chosen = calibrate(
        checkpoint,
        report["engine"],
        fit,
        data,
        think_budget_tokens=think_budget_tokens,
        seed=report["seed"],
    )
    section: dict[str, Any] = {"data": msgspec.to_builtins(data), "chosen": chosen, "modes": {}}
    if calibration is not None:
        (folder / CALIBRATION).write_bytes(encode_calibration(calibration))
        section["modes"] = measure(calibration, held_out)
        draw(section["modes"], folder / PICTURE)
    report["calibration"] = section
    report["bars"] = [*report["bars"], *bars(section["modes"])]
    report["passed"] = all(bar["met"] for bar in report["bars"])


def calibrate(
    checkpoint: Checkpoint,
    engine: str,
    rows: Sequence[JudgedRow],
    data: FittedOn,
    *,
    think_budget_tokens: int,
    seed: int,
) -> tuple[Calibration | None, dict[str, Any]]:
    """The calibration of a checkpoint, None when no mode can have one, and how it was chosen (JSON-ready)."""
    modes: dict[FittedMode, ModeCalibration] = {}
    chosen: dict[str, Any] = {}
    for mode in MODES:
        try:
            fitted = _fit_mode(rows, mode, think_budget_tokens, seed)
        except CannotFit as error:
            chosen[mode] = {"none": str(error)}
            continue
        modes[mode] = fitted.calibration
        chosen[mode] = {
            "score": fitted.calibration.score,
            "method": fitted.calibration.method,
            "brier_in_folds": fitted.folds,
        }
    if not modes:
        return None, chosen
    calibration = Calibration(
        format=FORMAT,
        weights_digest=checkpoint.weights_digest,
        template_version=checkpoint.template.version,
        parser_version=RSAFE_PROFILE.name,
        engine=engine,
        data=data,
        modes=modes,
    )
    return calibration, chosen


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


def _fit_mode(rows: Sequence[JudgedRow], mode: FittedMode, budget: int, seed: int) -> _Fitted:
    folds: dict[str, float] = {}
    found: dict[ThinkScore, tuple[Literal["isotonic", "platt"], float]] = {}
    for think_score in _THINK_SCORES if mode == "think" else _THINK_SCORES[:1]:
        scores, truths = _arrays(rows, mode, think_score)
        _require(truths, LEAST_ROWS)
        method, by_method = best_method(scores, truths, seed)
        found[think_score] = method, by_method[method]
        folds |= {f"{think_score}, {name}": round(value, 5) for name, value in by_method.items()}
    think_score = "verdict"
    if mode == "think" and found["both"][1] <= found["verdict"][1] * (1 - LEAST_GAIN):
        think_score = "both"
    method = found[think_score][0]
    curves: dict[Group, Curve] = {}
    for group in _GROUPS:
        part = [row for row in rows if group in ("all", row.role)]
        scores, truths = _arrays(part, mode, think_score)
        if group == "all" or _enough(truths, LEAST_ROWS_OF_ROLE):
            curve = fit_curve(scores, truths, method)
            band = _band(curve, part) if mode == "fast" else None
            curves[group] = msgspec.structs.replace(curve, uncertain_band=band)
    lengths = [row.think.completions for row in rows if mode == "think"]
    calibration = ModeCalibration(
        score=think_score,
        method=method,
        think_budget_tokens=budget,
        longest_completion_tokens=max((one[0] for one in lengths if len(one) == 1), default=0),
        closed_by_force=sum(len(one) > 1 for one in lengths),
        curves=curves,
    )
    return _Fitted(calibration, folds)


def _band(curve: Curve, rows: Sequence[JudgedRow]) -> UncertainBand:
    scored = [row for row in rows if row.fast.score is not None]
    calibrated = np.array([curve.score(row.fast.score) for row in scored if row.fast.score is not None])
    return uncertain_band(
        calibrated, _right(scored, lambda row: row.fast), _right(scored, lambda row: row.think)
    )


def _right(rows: Sequence[JudgedRow], reading: Callable[[JudgedRow], Reading]) -> Truths:
    """Whether the label is right; no verdict is wrong."""
    return np.array([reading(row).label == ("unsafe" if row.unsafe else "safe") for row in rows], dtype=bool)


def _arrays(rows: Sequence[JudgedRow], mode: FittedMode, think_score: ThinkScore) -> tuple[Scores, Truths]:
    scored = ((row.score(mode, think_score), row.unsafe) for row in rows)
    return as_arrays([(score, unsafe) for score, unsafe in scored if score is not None])


def _enough(truths: Truths, least: int) -> bool:
    return min(int(truths.sum()), int((~truths).sum())) >= least


def _require(truths: Truths, least: int) -> None:
    if not _enough(truths, least):
        unsafe, safe = int(truths.sum()), int((~truths).sum())
        raise CannotFit(f"{unsafe} unsafe and {safe} safe rows with a score; expected {least} of each")


def _measure_mode(fitted: ModeCalibration, rows: Sequence[JudgedRow], mode: FittedMode) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for group in _GROUPS:
        part = [row for row in rows if group in ("all", row.role)]
        raw, truths = _arrays(part, mode, fitted.score)
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
    fast, think = _right(scored, lambda row: row.fast), _right(scored, lambda row: row.think)
    inside = (scores >= band.low) & ((scores < band.high) | (band.high == 1.0))
    return {
        "low": band.low,
        "high": band.high,
        "inside": round(float(inside.mean()), 4),
        "fast_right": round(float(fast.mean()), 4),
        "think_right": round(float(think.mean()), 4),
        "adaptive_right": round(float(np.where(inside, think, fast).mean()), 4),
    }
