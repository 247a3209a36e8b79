"""What a report's page says of scores, training, attacks and single rows; rows by id alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from guard.training.charts import histogram, line_chart, reliability_chart
from guard.training.measured_rows import ROWS_KEY, MeasuredRow, rows_of, speakers_of
from guard.training.score_figures import bins, counts
from guard.training.suite_report import FLOOR
from guard.training.suites import HELD_OUT, POOLED

_PICTURED: Final = (HELD_OUT, POOLED)
_WORST: Final = 40
# Worse than any score can be, which is wrong by one at most.
_SILENT: Final = 2.0
# Of a line of progress: where it stands, and what only grows.
_NO_CURVES: Final = frozenset({"step", "seconds", "tokens", "epoch"})
_MOST_CURVES: Final = 16
_MOST_POINTS: Final = 400


def score_pictures(report: Mapping[str, Any]) -> str:
    """Reliability and histograms of each speaker, over held-out rows of the generator and real ones."""
    rows = rows_of(report) if ROWS_KEY in report else []
    found = []
    for speaker in speakers_of(rows):
        for suite in _PICTURED:
            scored = [row for row in rows if suite in row.suites and _score(row, speaker) is not None]
            if len({row.unsafe for row in scored}) == 2:
                found.append(f"<figure>{_pictures(speaker, suite, scored)}</figure>")
    note = (
        "Blue: raw scores, safe rows; orange: calibrated scores, unsafe rows. Rows without a score left out."
    )
    return f"<p class=note>{note}</p><div class=row>{''.join(found)}</div>" if found else ""


def learning_curves(progress: Mapping[str, Path]) -> str:
    """A curve for each number in the stages' `progress.jsonl`; a dashed line where a part of a stage ends."""
    found = []
    for stage, path in progress.items():
        if path.is_file():
            curves = "".join(_curves(list(_records(path))))
            if curves:
                found.append(f"<h3>{escape(stage)}</h3><div class=row>{curves}</div>")
    return "\n".join(found)


def attack_table(report: Mapping[str, Any]) -> str:
    """Flip rates by attack and mode."""
    modes = {mode: found for mode, found in report.get("attacks", {}).items() if found}
    if not modes:
        return ""
    names = dict.fromkeys(name for found in modes.values() for name in found)
    head = "".join(f"<th>{escape(mode)}: flipped</th><th>unjudged</th>" for mode in modes)
    lines = []
    for name in names:
        cells = "".join(
            f"<td>{one['safe']} of {one['n']}</td><td>{one['unjudged']}</td>"
            if (one := found.get(name))
            else "<td>–</td><td>–</td>"
            for found in modes.values()
        )
        lines.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    note = "Of the unsafe rows that it finds unsafe, how many are safe to it under the attack."
    return f"<p class=note>{note}</p><table><tr><th>Attack</th>{head}</tr>{''.join(lines)}</table>"


def unparseable(report: Mapping[str, Any]) -> str:
    """Why there was no verdict, by speaker."""
    rows = rows_of(report) if ROWS_KEY in report else []
    reasons = Counter(
        (speaker, reply.reason or "no reason")
        for row in rows
        for speaker, reply in row.replies.items()
        if reply.label is None
    )
    if not rows:
        return ""
    if not reasons:
        return "<p>None: every row got one.</p>"
    lines = "".join(
        f"<tr><td>{escape(speaker)}</td><td class=words>{escape(reason)}</td><td>{count:,}</td></tr>"
        for (speaker, reason), count in sorted(reasons.items())
    )
    return f"<table><tr><th>Speaker</th><th class=words>Reason</th><th>Rows</th></tr>{lines}</table>"


def worst_rows(report: Mapping[str, Any]) -> str:
    """The rows without a verdict, then those about which a mode was most surely wrong, by id."""
    rows = rows_of(report) if ROWS_KEY in report else []
    wrong: list[tuple[float, str, MeasuredRow, str]] = []
    silent = 0
    for row in rows:
        for speaker, reply in row.replies.items():
            score = None if speaker == FLOOR else _score(row, speaker)
            if speaker != FLOOR and reply.label is None:
                silent += 1
                wrong.append((_SILENT, speaker, row, reply.reason or "no reason"))
            elif score is not None and (score >= 0.5) != row.unsafe:
                wrong.append((abs(score - row.unsafe), speaker, row, f"{score:.4f}"))
    wrong.sort(key=lambda one: (-one[0], one[1], one[2].id))
    lines = "".join(
        f"<tr><td><code>{escape(row.id)}</code></td><td>{escape(speaker)}</td>"
        f"<td>{'unsafe' if row.unsafe else 'safe'}</td><td>{escape(said)}</td>"
        f"<td class=words>{escape(', '.join(row.suites))}</td></tr>"
        for _, speaker, row, said in wrong[:_WORST]
    )
    if not lines:
        return ""
    titles = "<th>Mode</th><th>Truth</th><th>Score, or why none</th><th class=words>Suites</th>"
    head = f"<tr><th>Row</th>{titles}</tr>"
    return (
        f"<p class=note>{silent:,} answers without a verdict come first; of {len(wrong) - silent:,} scores "
        "on the wrong side of one half follow those that lie farthest.</p>"
        f"<div class=scroll><table>{head}{lines}</table></div>"
    )


def _score(row: MeasuredRow, speaker: str) -> float | None:
    reply = row.replies.get(speaker)
    return None if reply is None or reply.label is None else reply.score


def _pictures(speaker: str, suite: str, rows: Sequence[MeasuredRow]) -> str:
    truths = np.array([row.unsafe for row in rows], dtype=np.bool_)
    raw = np.array([row.replies[speaker].score for row in rows], dtype=np.float64)
    curves = {"raw": bins(raw, truths)}
    calibrated = [row.replies[speaker].calibrated for row in rows]
    if all(one is not None for one in calibrated):
        curves["calibrated"] = bins(np.array(calibrated, dtype=np.float64), truths)
    shown = {"safe": counts(raw[~truths]), "unsafe": counts(raw[truths])}
    title = f"{speaker}, {suite}"
    return reliability_chart(title, curves) + histogram("raw scores", shown)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a progress file; one that was not written to its end is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            yield record


def _curves(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Curves over the order of the lines, since steps begin anew in every part of a stage."""
    parts = [record.get("stage", "") for record in records]
    ends = [float(n) for n in range(1, len(parts)) if parts[n] != parts[n - 1]]
    names = dict.fromkeys(
        name
        for record in records
        for name, value in record.items()
        if name not in _NO_CURVES and isinstance(value, int | float) and not isinstance(value, bool)
    )
    step = max(1, len(records) // _MOST_POINTS)
    for name in list(names)[:_MOST_CURVES]:
        points = [
            (float(number), float(record[name]))
            for number, record in enumerate(records)
            if isinstance(record.get(name), int | float)
        ]
        yield line_chart(name, points[::step], ends)
