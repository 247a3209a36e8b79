"""From judged rows to what a report says of every suite: figures by speaker, and the rows themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from guard.calibration import Calibration
from guard.scores import mean_of_both
from guard.training.data.rows import LabelledRow
from guard.training.evaluation_settings import MeasuredMode
from guard.training.measured_rows import (
    ROWS_KEY,
    MeasuredRow,
    Reply,
    by_suite,
    speakers_of,
    to_report,
)
from guard.training.metrics import Measured, macro, measure
from guard.training.suites import MACRO, POOLED, REAL
from schemas.identifiers import Label

FLOOR: Final = "floor"
"""The speaker that is not a guard: `guard.training.floor`."""


class SaidFully(Protocol):
    """What one mode said of a row, with all that a report keeps."""

    @property
    def label(self) -> Label | None:
        """None: no verdict."""
        ...

    @property
    def score(self) -> float | None: ...

    @property
    def codes(self) -> tuple[str, ...]: ...

    @property
    def reason(self) -> str: ...

    @property
    def completions(self) -> tuple[int, ...]: ...


def measured_row(
    row: LabelledRow,
    suites: tuple[str, ...],
    said: Mapping[MeasuredMode, SaidFully],
    calibration: Calibration | None,
    floor: Reply | None = None,
) -> MeasuredRow:
    """The row as a report keeps it: without its text."""
    replies: dict[str, Reply] = {mode: _reply(row, mode, said, calibration) for mode in said}
    return MeasuredRow(
        id=row.id,
        unsafe=row.label == "unsafe",
        suites=suites,
        replies=replies if floor is None else {**replies, FLOOR: floor},
        group=row.group,
        twin=row.twin,
        codes=row.codes,
    )


def suite_report(rows: Sequence[MeasuredRow], draws: int, seed: int) -> dict[str, Any]:
    """`suites`: speaker → suite → figures; `measured`: the rows. JSON-ready."""
    suites: dict[str, Any] = {}
    for speaker in speakers_of(rows):
        found = measure_suites([row for row in rows if speaker in row.replies], speaker, draws, seed)
        suites[speaker] = {name: measured.report() for name, measured in found.items()}
    return {"suites": suites, ROWS_KEY: to_report(rows)}


def measure_suites(rows: Iterable[MeasuredRow], speaker: str, draws: int, seed: int) -> dict[str, Measured]:
    """Suite → figures, by name; `real/macro` where there are real sources. Every row has the speaker."""
    found = {
        name: measure(members, speaker, draws, suite_seed(name, seed))
        for name, members in sorted(by_suite(rows).items())
    }
    sources = [found[name] for name in sources_of(found)]
    return found | {MACRO: macro(sources)} if sources else found


def sources_of(suites: Iterable[str]) -> list[str]:
    """Of the suites those of a single real source, over which the mean is taken."""
    return [name for name in suites if name.startswith(REAL) and name not in (POOLED, MACRO)]


def suite_seed(name: str, seed: int) -> int:
    """Of the draws of a suite: another one for each, so that the draws of two suites are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")


def _reply(
    row: LabelledRow,
    mode: MeasuredMode,
    said: Mapping[MeasuredMode, SaidFully],
    calibration: Calibration | None,
) -> Reply:
    one = said[mode]
    return Reply(
        label=one.label,
        score=None if one.score is None else round(one.score, 6),
        calibrated=_calibrated(row, mode, said, calibration),
        codes=one.codes,
        tokens=sum(one.completions),
        reason=one.reason,
    )


def _calibrated(
    row: LabelledRow,
    mode: MeasuredMode,
    said: Mapping[MeasuredMode, SaidFully],
    calibration: Calibration | None,
) -> float | None:
    """As serving would show it; None without a calibration of the mode, or without a score."""
    fitted = calibration.modes.get(mode) if calibration is not None else None
    if fitted is None or said[mode].label is None:
        return None
    raw = said[mode].score
    if fitted.score == "both":
        raw = mean_of_both(said["fast"].score, raw)
    return None if raw is None else round(fitted.curve(row.turns[-1].role).score(raw), 6)
