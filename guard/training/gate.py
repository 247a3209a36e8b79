"""The gate: a challenger passes, or the rows of this account say exactly where it does not.

Two-sided in every suite: a guard that misses less because it refuses more is as bad as the other way round.
Where a suite has twins, pairs of which not both rows are right count beside.
Challenger and champion are compared row by row on the same rows, and a difference counts by its bootstrap
interval. Whatever could not be compared has failed: never lets something pass because it was not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from guard.training.durable import write_durably
from guard.training.gate_difference import SIDES, NotComparable, Side, Sides, compare
from guard.training.gate_settings import Drop, Floor, GateSettings
from guard.training.measured_rows import ReportError, rows_of
from guard.training.metrics import LOWER_IS_BETTER
from guard.training.suite_report import FLOOR as CLASSIFIER
from guard.training.suites import MACRO

RESULT: Final = "gate.json"
Report = Mapping[str, Any]
_PATTERN: Final = frozenset("*?[")


class GateRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was asked, and whether it holds."""

    mode: str
    suite: str
    check: Literal["floor", "drop"]
    figure: str
    """Of a drop `misses`, `over_refusals` or `pairs`."""
    met: bool
    wanted: str
    """In words."""
    value: float | None = None
    """The challenger's; None: not measured."""
    champion: float | None = None
    """The champion's."""
    low: float | None = None
    """Of a floor the interval of the value, of a drop that of the difference (challenger less champion)."""
    high: float | None = None
    why: str = ""
    """Why it could not be measured or compared."""

    def line(self) -> str:
        """The row for people."""
        start = f"{'holds ' if self.met else 'FAILED'}  {self.mode:6} {self.suite}: {self.figure}"
        if self.why or self.value is None:
            return f"{start}: {self.why}; wanted {self.wanted}"
        found = f"{start} {self.value:.4f}"
        if self.champion is not None:
            found += f", champion {self.champion:.4f}, difference {self.value - self.champion:+.4f}"
        ends = "" if self.low is None else f" [{self.low:.4f}, {self.high:.4f}]"
        return f"{found}{ends}, wanted {self.wanted}"


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a gate; `gate.json` holds it."""

    passed: bool
    challenger: str
    """Weights digest."""
    champion: str | None
    """Weights digest; None: there was none."""
    rows: tuple[GateRow, ...]
    settings: GateSettings

    @property
    def failed(self) -> tuple[GateRow, ...]:
        """The rows for which it did not pass."""
        return tuple(row for row in self.rows if not row.met)

    def manifest(self) -> dict[str, Any]:
        """What a checkpoint's manifest says of it (JSON-ready)."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def run_gate(settings: GateSettings, challenger: Report, champion: Report | None, folder: Path) -> GateResult:
    """The result, which is also written to `folder` as `gate.json`; the file is whole or absent.

    `challenger` and `champion` are reports of `guard.training.evaluation.evaluate`. Raises `ReportError` for
    one that is not.
    """
    rows = list(_floors(settings, challenger))
    if champion is None:
        if settings.champion_required:
            rows.append(
                _failed("–", "–", "drop", "all", "a champion", "there is no champion to compare with")
            )
    else:
        rows += _drops(settings, challenger, champion)
    if not rows:
        rows.append(_failed("–", "–", "drop", "all", "something to look at", "no suite was looked at"))
    result = GateResult(
        passed=all(row.met for row in rows),
        challenger=_digest(challenger, "challenger"),
        champion=None if champion is None else _digest(champion, "champion"),
        rows=tuple(rows),
        settings=settings,
    )
    write_result(folder, result)
    return result


def write_result(folder: Path, result: GateResult) -> None:
    """Write `gate.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / RESULT, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def _floors(settings: GateSettings, report: Report) -> Iterator[GateRow]:
    classifier = _suites(report, CLASSIFIER, "challenger")
    for floor in settings.floors:
        for mode in floor.modes:
            suites = _suites(report, mode, "challenger")
            names = _matching(floor.suite, suites)
            if not names:
                why = f"no suite of this name was measured in {mode}"
                yield _failed(mode, floor.suite, "floor", floor.figure, _wanted(floor, None), why)
            measured = 0
            for name in names:
                found = suites[name]["figures"].get(floor.figure)
                if found is not None:
                    measured += 1
                    beside = classifier.get(name, {}).get("figures", {}).get(floor.figure)
                    yield _floor(floor, mode, name, found, beside)
            if names and not measured:
                why = "its rows do not define this figure"
                yield _failed(mode, floor.suite, "floor", floor.figure, _wanted(floor, None), why)


def _floor(
    floor: Floor, mode: str, suite: str, found: Mapping[str, float], beside: Mapping[str, float] | None
) -> GateRow:
    """`beside`: what the classifier reaches; None where it was not measured."""
    wanted = _wanted(floor, beside)
    if floor.over_classifier is not None and beside is None:
        why = "the classifier beside the guard was not measured on it"
        return _failed(mode, suite, "floor", floor.figure, wanted, why)
    bound, lower = _bound(floor, beside), floor.figure in LOWER_IS_BETTER
    end = found["value" if floor.by == "value" else ("high" if lower else "low")]
    return GateRow(
        mode=mode,
        suite=suite,
        check="floor",
        figure=floor.figure,
        met=end <= bound if lower else end >= bound,
        wanted=wanted if floor.by == "value" else f"{wanted} by its interval",
        value=found["value"],
        low=found["low"],
        high=found["high"],
    )


def _bound(floor: Floor, beside: Mapping[str, float] | None) -> float:
    """What a figure must reach: more, or less where that is better."""
    if floor.over_classifier is not None:
        assert beside is not None
        margin = -floor.over_classifier if floor.figure in LOWER_IS_BETTER else floor.over_classifier
        return round(beside["value"] + margin, 6)  # figures have four decimals
    bound = floor.most if floor.least is None else floor.least
    assert bound is not None
    return bound


def _wanted(floor: Floor, beside: Mapping[str, float] | None) -> str:
    word = "at most" if floor.figure in LOWER_IS_BETTER else "at least"
    if floor.over_classifier is None:
        return f"{word} {_bound(floor, None):g}"
    better = f"the classifier's, better by {floor.over_classifier:g}"
    return f"{word} {better}" if beside is None else f"{word} {_bound(floor, beside):g} ({better})"


def _drops(settings: GateSettings, challenger: Report, champion: Report) -> Iterator[GateRow]:
    sides = Sides(
        rows_of(challenger, "challenger"), rows_of(champion, "champion"), settings.draws, settings.seed
    )
    seen: set[tuple[str, str, str]] = set()
    for drop in settings.drops:
        for mode in drop.modes:
            # A suite that the champion alone has counts too: what is not measured cannot be shown to hold.
            names = _matching(drop.suite, sides.suites(mode))
            if not names and (why := _why_nothing(drop, mode, sides)):
                yield _failed(mode, drop.suite, "drop", "all", "a suite to compare", why)
            for name in names:
                for side in SIDES:
                    if (mode, name, side) not in seen:  # the first rule that means a suite holds
                        seen.add((mode, name, side))
                        row = _drop(drop, mode, name, side, sides)
                        if row is not None:
                            yield row


def _why_nothing(drop: Drop, mode: str, sides: Sides) -> str:
    """Why a rule that means no suite has failed; empty where it may mean none."""
    if not sides.suites(mode):
        return f"nothing was measured in {mode}"
    if drop.if_measured or not _PATTERN.isdisjoint(drop.suite):
        return ""
    return f"no suite of this name was measured in {mode}"


def _drop(drop: Drop, mode: str, suite: str, side: Side, sides: Sides) -> GateRow | None:
    """None where neither has rows of this side."""
    allowed = drop.allowed(side)
    wanted = f"at most {allowed:g} more" + (" for certain" if drop.proof == "no_worse" else "")
    try:
        found = compare(sides, mode, suite, side)
    except NotComparable as error:
        return _failed(mode, suite, "drop", side, wanted, str(error))
    if found is None:
        return None
    low, high = found.interval(drop.confidence)
    difference = found.challenger - found.champion
    worse = difference > allowed and low > 0.0
    met = not worse if drop.proof == "worse" else high <= allowed
    return GateRow(
        mode=mode,
        suite=suite,
        check="drop",
        figure=side,
        met=bool(met),
        wanted=wanted,
        value=round(found.challenger, 4),
        champion=round(found.champion, 4),
        low=round(low, 4),
        high=round(high, 4),
    )


def _failed(mode: str, suite: str, check: Any, figure: str, wanted: str, why: str) -> GateRow:
    return GateRow(mode=mode, suite=suite, check=check, figure=figure, met=False, wanted=wanted, why=why)


def _suites(report: Report, mode: str, name: str) -> Mapping[str, Any]:
    if "suites" not in report:
        raise ReportError(f"{name}: expected figures under `suites`; measure the checkpoint anew")
    found: Mapping[str, Any] = report["suites"].get(mode, {})
    return found


def _matching(pattern: str, suites: Mapping[str, Any] | set[str]) -> list[str]:
    """`real/*` means the single sources and the pooled rows; the mean over sources goes by its own name."""
    return sorted(
        name for name in suites if fnmatchcase(name, pattern) and (name != MACRO or pattern == MACRO)
    )


def _digest(report: Report, name: str) -> str:
    found = report.get("weights_digest")
    if not isinstance(found, str):
        raise ReportError(f"{name}: weights_digest: expected the digest of the weights that were measured")
    return found
