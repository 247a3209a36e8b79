"""From judged rows to a calibration, and to what the evaluation report says of it.

The method (isotonic or Platt) and what the score of `think` is made of are chosen by the Brier score on rows
that a fit did not see, within the rows of the fit. The report's figures are of other rows, which saw no fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np

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
from guard.scores import ThinkScore
from guard.training.calibration_fit import CannotFit, best_method, fit_curve, uncertain_band
from guard.training.calibration_measure import GROUPS, bars, measure
from guard.training.judged_rows import MODES, FittedMode, JudgedRow, right, scores_and_truths
from guard.training.reliability import PICTURE, draw
from guard.training.score_figures import Truths

# A mode with fewer rows of a kind stays raw.
LEAST_ROWS: Final = 200
# A role with fewer rows of a kind is read by the curve of all; so many safe ones support a rate of 0.01.
LEAST_ROWS_OF_ROLE: Final = 1100
# Asking for both readings costs a call, so it must lower the Brier score by this share of it.
LEAST_GAIN: Final = 0.02
_THINK_SCORES: Final[tuple[ThinkScore, ...]] = ("verdict", "both")


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
    for name in (CALIBRATION, PICTURE):  # of a run that was cut off
        (folder / name).unlink(missing_ok=True)
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
        template_version=checkpoint.template_version,
        parser_version=checkpoint.profile.grammar,
        engine=engine,
        data=data,
        modes=modes,
    )
    return calibration, chosen


def _fit_mode(rows: Sequence[JudgedRow], mode: FittedMode, budget: int, seed: int) -> _Fitted:
    folds: dict[str, float] = {}
    found: dict[ThinkScore, tuple[Literal["isotonic", "platt"], float]] = {}
    for think_score in _THINK_SCORES if mode == "think" else _THINK_SCORES[:1]:
        scores, truths = scores_and_truths(rows, mode, think_score)
        _require(truths, LEAST_ROWS)
        method, by_method = best_method(scores, truths, seed)
        found[think_score] = method, by_method[method]
        folds |= {f"{think_score}, {name}": round(value, 5) for name, value in by_method.items()}
    think_score = "verdict"
    if mode == "think" and found["both"][1] <= found["verdict"][1] * (1 - LEAST_GAIN):
        think_score = "both"
    method = found[think_score][0]
    curves: dict[Group, Curve] = {}
    for group in GROUPS:
        part = [row for row in rows if group in ("all", row.role)]
        scores, truths = scores_and_truths(part, mode, think_score)
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
        calibrated, right(scored, lambda row: row.fast), right(scored, lambda row: row.think)
    )


def _enough(truths: Truths, least: int) -> bool:
    return min(int(truths.sum()), int((~truths).sum())) >= least


def _require(truths: Truths, least: int) -> None:
    if not _enough(truths, least):
        unsafe, safe = int(truths.sum()), int((~truths).sum())
        raise CannotFit(f"{unsafe} unsafe and {safe} safe rows with a score; expected {least} of each")
