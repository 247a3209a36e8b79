"""The suites on a report's page: bars of several guards side by side, and tables of all figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any, Final, NamedTuple

from guard.training.charts import SERIES, Bar, bar_chart
from guard.training.suite_report import FLOOR
from guard.training.suites import MACRO, POOLED

_FIGURES: Final = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "false_positives": "False positives",
    "auprc": "AUPRC",
    "recall_at_1_percent": "Recall at 1 %",
    "ece": "ECE raw",
    "ece_calibrated": "ECE",
    "pairs": "Pairs",
    "codes_right": "Category",
    "parse": "Parses",
    "tokens": "Tokens",
}
# Kinds of suites in the order in which they are drawn; others follow.
_KINDS: Final = ("synthetic", "flips", "custom", "over_refusal", "attacks", "real", "language", "category")
# What a suite's bar shows: the first that its rows define.
_HEADLINES: Final = {"flips": ("pairs",)}
_HEADLINE: Final = ("balanced_accuracy", "accuracy")
_NOTE: Final = (
    "Bars: both sides right (flips), else the mean of recall and specificity, else the share that is right. "
    "Whiskers: 95 % intervals over groups of rows. An answer without a verdict is wrong."
)


class Named(NamedTuple):
    """A report and what the page calls it."""

    name: str
    report: Mapping[str, Any]


def bars_of_suites(named: Sequence[Named]) -> str:
    """For each mode the bars of every suite, a colour for each report; the floor beside real sources."""
    shown = named[: SERIES - 1]
    found = [f"<p class=note>{_NOTE}</p>"]
    for mode in _modes(named[0].report):
        # The classifier has no modes: its bars stand beside those of every mode.
        speakers = [(one.name, one.report["suites"].get(mode, {})) for one in shown]
        floor = named[0].report["suites"].get(FLOOR, {})
        if floor:
            speakers.append(("TF-IDF floor", floor))
        found.append(f"<h3>{escape(mode)}</h3>{_keys([name for name, _ in speakers])}")
        for _, names in groupby(sorted(speakers[0][1], key=_order), key=_kind):
            rows = [(name, list(_bars(name, speakers))) for name in names]
            found.append(f"<div>{bar_chart(rows)}</div>")
    return "\n".join(found) if len(found) > 1 else ""


def figure_tables(named: Sequence[Named]) -> str:
    """Every figure of every suite, a table for each report and speaker."""
    found = []
    for one in named:
        for speaker, suites in one.report.get("suites", {}).items():
            rows = "".join(_row(name, suites[name]) for name in sorted(suites, key=_order))
            head = "".join(f"<th>{title}</th>" for title in _FIGURES.values())
            found.append(
                f"<details><summary>{escape(one.name)}, {escape(speaker)}</summary><div class=scroll><table>"
                f"<tr><th>Suite</th><th>n</th><th>unsafe</th>{head}</tr>{rows}</table></div></details>"
            )
    return "\n".join(found)


def _modes(report: Mapping[str, Any]) -> list[str]:
    return [speaker for speaker in report.get("suites", {}) if speaker != FLOOR]


def _kind(suite: str) -> str:
    return suite.partition("/")[0]


def _order(suite: str) -> tuple[int, bool, str]:
    """By kind; the mean and the pooled rows before the single sources."""
    kind = _kind(suite)
    place = _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
    return place, suite not in (MACRO, POOLED), suite


def _bars(name: str, speakers: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[Bar]:
    for series, (who, suites) in enumerate(speakers):
        figures = suites.get(name, {}).get("figures", {})
        figure = next((one for one in _headlines(name) if one in figures), None)
        if figure is not None:
            value = figures[figure]
            says = f"{who}: {figure.replace('_', ' ')} {_told(value)}, n = {suites[name]['n']:,}"
            yield Bar(series, value["value"], value["low"], value["high"], says)


def _headlines(suite: str) -> tuple[str, ...]:
    return (*_HEADLINES.get(_kind(suite), ()), *_HEADLINE)


def _keys(names: Sequence[str]) -> str:
    keys = "".join(
        f'<span class=key><i class="s{number % SERIES}"></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return f"<p>{keys}</p>"


def _row(name: str, suite: Mapping[str, Any]) -> str:
    cells = "".join(_cell(figure, suite["figures"].get(figure)) for figure in _FIGURES)
    return f"<tr><td>{escape(name)}</td><td>{suite['n']:,}</td><td>{suite['unsafe']:,}</td>{cells}</tr>"


def _cell(figure: str, value: Mapping[str, float] | None) -> str:
    if value is None:
        return "<td>–</td>"
    if figure == "tokens":
        return f"<td>{value['value']:.1f}</td>"
    return f'<td title="{value["low"]:.3f} to {value["high"]:.3f}">{value["value"]:.3f}</td>'


def _told(value: Mapping[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"
