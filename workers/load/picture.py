"""The figures of a run as a picture: rates and latency over time, and latency by percentile.

The only door to matplotlib, which is imported when a picture is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from workers.errors import UsageError
from workers.load.figures import LoadReport

SUFFIXES: Final = (".png", ".svg")
_SIZE_INCHES: Final = (9.0, 10.0)
_DOTS_PER_INCH: Final = 120
_TICKS: Final = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)
_BLUE, _ORANGE, _GREEN, _GREY = "#1f6fb4", "#d9730d", "#2f8f4e", "#777777"


def check_picture(path: Path) -> None:
    """Raises `UsageError` when no picture can be drawn to `path`: called before a run, not after it."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--picture: expected a name that ends with {' or '.join(SUFFIXES)}, not {path.name}"
        )
    _library()


def draw(report: LoadReport, path: Path) -> None:
    """Write the picture; the ending says whether as PNG or SVG. Raises `UsageError`."""
    figure = _library().Figure(figsize=_SIZE_INCHES, layout="constrained")
    rates, times, curve = figure.subplots(3, 1)
    figure.suptitle(_title(report), fontsize=10, parse_math=False)
    _draw_rates(rates, report)
    _draw_times(times, report)
    _draw_curve(curve, report)
    for axes in (rates, times, curve):
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", fontsize=8)
    try:
        figure.savefig(path, dpi=_DOTS_PER_INCH)
    except OSError as error:
        raise UsageError(f"--picture: {path}: {error.strerror}") from error


def _library() -> ModuleType:
    try:
        import matplotlib.figure
    except ImportError as error:
        raise UsageError(
            "--picture: expected matplotlib, which is not installed; `pip install matplotlib` "
            "or the extra `load` brings it"
        ) from error
    return matplotlib.figure


def _title(report: LoadReport) -> str:
    asked = report.asked
    rate = "as fast as possible" if asked.rate_per_s is None else f"{asked.rate_per_s:,.0f} events/s"
    return (
        f"{rate}, {asked.hits:.0%} asked before, {asked.conversations:,} conversations "
        f"(Zipf {asked.zipf:g}), lengths {Path(asked.lengths).name}, seed {asked.seed}"
    )


def _draw_rates(axes: Any, report: LoadReport) -> None:
    at_s = [point.at_s for point in report.over_time]
    axes.step(at_s, [point.sent_per_s for point in report.over_time], where="post", label="sent", color=_GREY)
    outcomes = [point.outcomes_per_s for point in report.over_time]
    axes.step(at_s, outcomes, where="post", label="outcomes", color=_BLUE)
    axes.set_ylabel("events/s")
    axes.set_ylim(bottom=0)
    _shade_warm_up(axes, report)


def _draw_times(axes: Any, report: LoadReport) -> None:
    at_s = [point.at_s for point in report.over_time]
    axes.plot(at_s, _numbers([point.p50_ms for point in report.over_time]), label="p50", color=_BLUE)
    axes.plot(at_s, _numbers([point.p99_ms for point in report.over_time]), label="p99", color=_ORANGE)
    axes.set_ylabel("latency, ms")
    axes.set_xlabel("seconds; by when the event was due" if report.asked.rate_per_s else "seconds")
    axes.set_ylim(bottom=0)
    _shade_warm_up(axes, report)


def _draw_curve(axes: Any, report: LoadReport) -> None:
    curve = report.curve
    at = [-math.log10(1 - percent / 100) for percent in curve.percents]
    for label, values, color in (
        ("all", curve.all_ms, _BLUE),
        ("hits", curve.hits_ms, _GREEN),
        ("misses", curve.misses_ms, _ORANGE),
    ):
        numbers = _numbers(values)
        if any(not math.isnan(number) for number in numbers):
            axes.plot(at, numbers, label=label, color=color)
    axes.set_yscale("log")
    axes.set_ylabel("latency, ms")
    axes.set_xlabel("percentile")
    axes.set_xticks(
        [-math.log10(1 - percent / 100) for percent in _TICKS], [f"{percent:g}" for percent in _TICKS]
    )


def _shade_warm_up(axes: Any, report: LoadReport) -> None:
    if report.warm_up.sent:
        axes.axvspan(0, report.asked.warm_up_s, color="#eeeeee", label="warm-up")


def _numbers(values: Sequence[float | None]) -> list[float]:
    # A gap in the line, where there were too few values.
    return [math.nan if value is None else value for value in values]
