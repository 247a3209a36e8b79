"""The reliability diagram: how often a message with a score is unsafe, raw and calibrated, by mode.

The second door to matplotlib (the other is `workers.load.picture`). The file is the same for the same
figures and the same version of matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

PICTURE: Final = "reliability.svg"
_WIDTH_INCHES: Final = 4.6
_HEIGHT_INCHES: Final = 6.2
_GREY, _BLUE, _LIGHT = "#999999", "#1f6fb4", "#dddddd"
# Letters as text and ids from a fixed salt; neither the time nor the machine's fonts enter the file.
_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rsafe",
    "font.family": "sans-serif",
    "font.size": 9,
}


def draw(measured: Mapping[str, Any], path: Path) -> None:
    """Write the picture (SVG) of what `guard.training.calibrate.measure` found; one column a mode."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_INCHES * len(measured), _HEIGHT_INCHES), layout="constrained")
        grid = figure.subplots(2, len(measured), squeeze=False, height_ratios=(3, 1))
        for column, (mode, found) in enumerate(measured.items()):
            everyone = found["groups"]["all"]
            _draw_curves(grid[0][column], mode, found, everyone)
            _draw_counts(grid[1][column], everyone["counts"])
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw_curves(axes: Any, mode: str, found: Mapping[str, Any], everyone: Mapping[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color=_LIGHT, linewidth=1)
    for kind, color in (("raw", _GREY), ("calibrated", _BLUE)):
        points: Sequence[Mapping[str, float]] = everyone["bins"][kind]
        axes.plot(
            [point["score"] for point in points],
            [point["unsafe"] for point in points],
            marker="o",
            markersize=4,
            linewidth=1,
            color=color,
            label=f"{kind}, ECE {everyone[kind]['ece']:.3f}",
        )
    axes.set_title(f"{mode} ({found['method']}, n = {everyone['n']:,})")
    axes.set_xlabel("score")
    axes.set_ylabel("share of unsafe rows")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.grid(visible=True, color=_LIGHT, linewidth=0.5)
    axes.legend(loc="upper left")


def _draw_counts(axes: Any, counts: Mapping[str, Sequence[int]]) -> None:
    for kind, color in (("raw", _GREY), ("calibrated", _BLUE)):
        edges = [step / len(counts[kind]) for step in range(len(counts[kind]) + 1)]
        axes.stairs(counts[kind], edges, color=color)
    axes.set_xlim(-0.02, 1.02)
    axes.set_yscale("log")
    axes.set_xlabel("score")
    axes.set_ylabel("rows")
