"""Two evaluations of the same rows side by side: every suite in every mode, with paired intervals.

The gate asks whether a challenger may be packaged; this shows what a step of the training changed, such as
reinforced alignment against the warm start that it began with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from guard.training.evaluation_settings import MODES, MeasuredMode
from guard.training.gate_difference import SIDES, NotComparable, Side, Sides, compare
from guard.training.measured_rows import ReportError, rows_of, speakers_of
from guard.training.steps import REPORT, read_report

_CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Compared:
    """One side of a suite in one mode: shares that are wrong, 0 to 1, and their difference."""

    mode: MeasuredMode
    suite: str
    side: Side
    challenger: float
    champion: float
    low: float
    """Lower end of the 95 % interval of challenger less champion; below 0 the challenger is better."""
    high: float

    @property
    def word(self) -> str:
        """What the interval allows to say."""
        if self.high < 0:
            return "better"
        return "worse" if self.low > 0 else "no difference shown"


def report_in(folder: Path) -> dict[str, Any]:
    """The report of an evaluation's folder. Raises `ReportError` where there is none."""
    if not (folder / REPORT).is_file():
        raise ReportError(f"{folder}: found no {REPORT}; expected a folder that `rsafe train evaluate` wrote")
    return read_report(folder)


def compare_reports(
    challenger: Mapping[str, Any], champion: Mapping[str, Any], *, draws: int = 2000, seed: int = 0
) -> list[Compared]:
    """Every side of every suite that both were measured on, modes and suites in order.

    Raises `ReportError` for reports without rows or of other rows.
    """
    ours, theirs = rows_of(challenger, "challenger"), rows_of(champion, "champion")
    sides = Sides(ours, theirs, draws, seed)
    modes = [mode for mode in MODES if mode in speakers_of(ours) and mode in speakers_of(theirs)]
    found = []
    for mode in modes:
        for suite in sorted(sides.suites(mode)):
            for side in SIDES:
                try:
                    difference = compare(sides, mode, suite, side)
                except NotComparable as error:
                    raise ReportError(f"{suite} ({mode}): {error}") from error
                if difference is not None:
                    low, high = difference.interval(_CONFIDENCE)
                    shares = difference.challenger, difference.champion
                    found.append(Compared(mode, suite, side, *shares, low, high))
    return found


def table(rows: Sequence[Compared], challenger: str, champion: str) -> str:
    """The rows as a Markdown table, in percent."""
    lines = [
        f"| Suite | Mode | Wrong | {champion} | {challenger} | difference | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        change = 100 * (row.challenger - row.champion)
        lines.append(
            f"| {row.suite} | {row.mode} | {row.side.replace('_', '-')} | {100 * row.champion:.1f} "
            f"| {100 * row.challenger:.1f} | {change:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f}) "
            f"| {row.word} |"
        )
    return "\n".join(lines)
