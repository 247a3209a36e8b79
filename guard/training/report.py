"""The report of an evaluation as files: `report.json` for programs, `report.html` for people.

The page is one file without scripts or addresses, with its pictures in it. It names rows by id and holds no
text of any. The same reports give the same page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from guard.training.durable import write_durably
from guard.training.gate import GateResult, GateRow
from guard.training.measured_rows import ROWS_KEY
from guard.training.report_figures import Named, bars_of_suites, figure_tables
from guard.training.report_rows import attack_table, learning_curves, score_pictures, unparseable, worst_rows

REPORT: Final = "report.json"
PAGE: Final = "report.html"
_TEMPLATE: Final = Path(__file__).parent / "report_template.html"
Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows; only the challenger must be there."""

    challenger: Report
    champion: Report | None = None
    others: Mapping[str, Report] = field(default_factory=dict)
    """Further reports by name, such as ablations; bars of the first one are drawn."""
    gate: GateResult | None = None
    progress: Mapping[str, Path] = field(default_factory=dict)
    """Name of a stage → its `progress.jsonl`; files that are absent are passed over."""
    name: str = "Evaluation"


def write_report(folder: Path, report: Report) -> None:
    """Write `report.json`: figures in lines of their own, a measured row a line. Whole or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {name: value for name, value in report.items() if name != ROWS_KEY}
    text = json.dumps(figures, indent=1)
    if ROWS_KEY in report:
        rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in report[ROWS_KEY])
        text = f'{text[:-2]},\n "{ROWS_KEY}": [\n{rows}\n]}}'
    write_durably(folder / REPORT, (text + "\n").encode())


def write_page(folder: Path, page: Page) -> Path:
    """Write `report.html` and return its path. Whole or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / PAGE, page_text(page).encode())
    return folder / PAGE


def page_text(page: Page) -> str:
    """The page."""
    named = [Named("challenger", page.challenger)]
    if page.champion is not None:
        named.append(Named("champion", page.champion))
    named += [Named(name, report) for name, report in page.others.items()]
    sections = [
        ("Gate", _gate(page.gate)),
        ("Suites", bars_of_suites(named)),
        ("Figures", figure_tables(named)),
        ("Scores", score_pictures(page.challenger)),
        ("Learning curves", learning_curves(page.progress)),
        ("Attacks", attack_table(page.challenger)),
        ("Without a verdict", unparseable(page.challenger)),
        ("Worst rows", worst_rows(page.challenger)),
    ]
    body = "\n".join(f"<h2>{name}</h2>\n{text}" for name, text in sections if text)
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(page.name), about=_about(named), body=body
    )


def _about(named: Sequence[Named]) -> str:
    lines = []
    for one in named:
        report = one.report
        settings = report.get("settings", {})
        ablation = f", {settings['ablation']}" if settings.get("ablation") else ""
        lines.append(
            f"<p>{escape(one.name + ablation)}: weights <code>{escape(report['weights_digest'])}</code>, "
            f"{escape(report['engine'])}, {len(report.get(ROWS_KEY, ())):,} rows measured, "
            f"seed {report['seed']}.</p>"
        )
    return "\n".join(lines)


def _gate(result: GateResult | None) -> str:
    if result is None:
        return ""
    failed = result.failed
    word = '<b class="good">passed</b>' if result.passed else '<b class="bad">failed</b>'
    against = "compared with the champion" if result.champion else "without a champion: floors alone"
    found = [f"<p>The gate {word}, {against}; {len(failed)} of {len(result.rows)} rows failed.</p>"]
    if failed:
        found.append(_gate_table(failed))
    held = [row for row in result.rows if row.met]
    if held:
        found.append(f"<details><summary>{len(held)} rows that hold</summary>{_gate_table(held)}</details>")
    return "\n".join(found)


def _gate_table(rows: Iterable[GateRow]) -> str:
    head = "<tr><th>Suite</th><th>Mode</th><th>Figure</th><th>Value</th><th>Champion</th><th>Interval</th>"
    lines = []
    for row in rows:
        value, champion = (f"{x:.4f}" if x is not None else "–" for x in (row.value, row.champion))
        ends = f"{row.low:.4f} to {row.high:.4f}" if row.low is not None else "–"
        wanted = escape(f"{row.wanted}; {row.why}" if row.why else row.wanted)
        lines.append(
            f"<tr><td>{escape(row.suite)}</td><td>{escape(row.mode)}</td><td>{escape(row.figure)}</td>"
            f"<td>{value}</td><td>{champion}</td><td class=ends>{ends}</td><td class=words>{wanted}</td></tr>"
        )
    note = "Interval: of a floor that of the value; of a drop that of the difference."
    table = f"<table>{head}<th class=words>Wanted</th></tr>{''.join(lines)}</table>"
    return f"<div class=scroll>{table}</div><p class=note>{note}</p>"
