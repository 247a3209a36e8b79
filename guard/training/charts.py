"""Pictures of a report as SVG text: bars with intervals, lines, reliability, histograms.

Written by hand and not with matplotlib: they stand in one page, follow its colours (classes `s0` to `s3`),
and every mark says its number when pointed at. The same figures give the same text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

SERIES: Final = 4
"""Series that have a colour of their own."""
_LABEL: Final = 210
# What fits there; the whole label shows when pointed at.
_MOST_LETTERS: Final = 36
_BAR: Final = 9
_GAP: Final = 7
_WIDE: Final = 420
_SIDE: Final = 190
_LINE_WIDTH, _LINE_HEIGHT = 250, 110


class Bar(NamedTuple):
    """A value with the ends of its interval, all from 0 to 1, and the number of its series."""

    series: int
    value: float
    low: float
    high: float
    says: str
    """What it says when pointed at."""


def bar_chart(rows: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Horizontal bars from 0 to 1, grouped under labels; a whisker spans the interval."""
    parts, y = [], 16.0
    for step in range(0, 11, 2):
        x = _LABEL + _WIDE * step / 10
        parts.append(f'<text class="tick" x="{x:.1f}" y="10" text-anchor="middle">{step / 10:g}</text>')
    for label, bars in rows:
        middle = y + (len(bars) * _BAR) / 2 + 4
        parts.append(
            f'<text x="{_LABEL - 8}" y="{middle:.1f}" text-anchor="end"><title>{escape(label)}</title>'
            f"{escape(_short(label))}</text>"
        )
        for bar in bars:
            parts.append(_bar(bar, y))
            y += _BAR
        y += _GAP
    lines = "".join(
        f'<line class="grid" x1="{_LABEL + _WIDE * step / 10:.1f}" y1="14" '
        f'x2="{_LABEL + _WIDE * step / 10:.1f}" y2="{y:.1f}"/>'
        for step in range(0, 11, 2)
    )
    return _svg(_LABEL + _WIDE + 14, y + 2, lines + "".join(parts))


def line_chart(name: str, points: Sequence[tuple[float, float]], ends: Sequence[float] = ()) -> str:
    """A curve over steps; `ends` are places where something new begins. Empty without a finite point."""
    known = [(x, y) for x, y in points if math.isfinite(y)]
    if not known:
        return ""
    left, top, width, height = 44, 18, _LINE_WIDTH, _LINE_HEIGHT
    x0, x1 = known[0][0], known[-1][0]
    low, high = min(y for _, y in known), max(y for _, y in known)
    spread = high - low or abs(high) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x0) / (x1 - x0) if x1 > x0 else 0.5
        return left + width * across, top + height * (1 - (y - low) / spread)

    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in known))
    parts = [f'<text x="{left}" y="11" class="name">{escape(name)}</text>']
    for value in (low, high):
        y = place(x0, value)[1]
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{left - 4}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    for end in ends:
        x = place(end, low)[0]
        parts.append(f'<line class="end" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}"/>')
    parts.append(f'<polyline class="line" points="{path}"><title>{escape(name)}: last {known[-1][1]:.4g}')
    parts.append("</title></polyline>")
    return _svg(left + width + 8, top + height + 8, "".join(parts))


def reliability_chart(title: str, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Share of unsafe rows over the score; on the diagonal a score is worth what it says."""
    left, top, side = 34, 20, _SIDE

    def place(point: Mapping[str, float]) -> tuple[float, float]:
        return left + side * point["score"], top + side * (1 - point["unsafe"])

    parts = [_frame(title, left, top), _line("grid", left, top + side, left + side, top)]
    for number, (name, bins) in enumerate(curves.items()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, bins))
        parts.append(f'<polyline class="line l{number % SERIES}" points="{path}"/>')
        for one in bins:
            x, y = place(one)
            says = f"{name}: score {one['score']:.3f}, unsafe {one['unsafe']:.3f}, n = {one['n']:g}"
            parts.append(
                f'<circle class="s{number % SERIES}" cx="{x:.1f}" cy="{y:.1f}" r="3">'
                f"<title>{escape(says)}</title></circle>"
            )
    return _svg(left + side + 12, top + side + 22, "".join(parts))


def histogram(title: str, counts: Mapping[str, Sequence[int]]) -> str:
    """Rows in steps of the score from 0 to 1, side by side, on a logarithmic scale."""
    left, top, side = 34, 20, _SIDE
    most = max((one for values in counts.values() for one in values), default=0)
    scale = math.log10(most + 1) or 1.0
    parts = [_frame(title, left, top, label=f"{most:,} rows")]
    for number, (name, values) in enumerate(counts.items()):
        step = side / max(1, len(values))
        width = step / len(counts)
        for place, value in enumerate(values):
            height = side * math.log10(value + 1) / scale
            parts.append(
                f'<rect class="s{number % SERIES}" x="{left + place * step + number * width:.1f}" '
                f'y="{top + side - height:.1f}" width="{max(width - 0.5, 0.5):.1f}" height="{height:.1f}">'
                f"<title>{escape(name)}: {value:,} rows from {place / len(values):g}</title></rect>"
            )
    return _svg(left + side + 12, top + side + 22, "".join(parts))


def _bar(bar: Bar, y: float) -> str:
    middle = y + (_BAR - 1) / 2
    low, high = (_LABEL + _WIDE * min(1.0, max(0.0, end)) for end in (bar.low, bar.high))
    return (
        f'<g><title>{escape(bar.says)}</title><rect class="s{bar.series % SERIES}" x="{_LABEL}" y="{y:.1f}" '
        f'width="{_WIDE * min(1.0, max(0.0, bar.value)):.1f}" height="{_BAR - 1}"/>'
        f"{_line('whisker', low, middle, high, middle)}</g>"
    )


def _short(label: str) -> str:
    return label if len(label) <= _MOST_LETTERS else f"{label[: _MOST_LETTERS - 1]}…"


def _frame(title: str, left: int, top: int, label: str = "") -> str:
    side = _SIDE
    return (
        f'<text class="name" x="{left}" y="12">{escape(title)}</text>'
        f'<rect class="frame" x="{left}" y="{top}" width="{side}" height="{side}"/>'
        f'<text class="tick" x="{left}" y="{top + side + 13}">0</text>'
        f'<text class="tick" x="{left + side}" y="{top + side + 13}" text-anchor="end">1</text>'
        f'<text class="tick" x="{left + side / 2}" y="{top + side + 13}" text-anchor="middle">score</text>'
        f'<text class="tick" x="{left + side - 4}" y="{top + 11}" text-anchor="end">{escape(label)}</text>'
    )


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _svg(width: float, height: float, inner: str) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{inner}</svg>'
