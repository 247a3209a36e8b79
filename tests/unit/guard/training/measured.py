"""Rows of a report for tests."""

from __future__ import annotations

from typing import Any

from guard.training.measured_rows import MeasuredRow, Reply
from guard.training.suite_report import suite_report

DIGEST = "d" * 64


def row(
    number: int,
    unsafe: bool,
    said: str | None,
    score: float | None = None,
    *,
    suites: tuple[str, ...] = ("synthetic/both",),
    mode: str = "think",
    group: str = "",
    twin: str = "",
) -> MeasuredRow:
    """`said`: `unsafe`, `safe` or None for no verdict; the score is of that end unless it is given."""
    ends = {"unsafe": 0.9, "safe": 0.1, None: None}
    label: Any = said
    reply = Reply(
        label=label,
        score=ends[said] if score is None else score,
        tokens=7,
        reason="" if said else "no_verdict",
    )
    return MeasuredRow(
        id=f"r{number}", unsafe=unsafe, suites=suites, replies={mode: reply}, group=group, twin=twin
    )


def rows_with(
    hits: int,
    misses: int,
    alarms: int,
    passes: int,
    *,
    suite: str = "synthetic/both",
    mode: str = "think",
    first: int = 0,
) -> list[MeasuredRow]:
    """So many rows of each kind, the unsafe ones first."""
    kinds = (
        [(True, "unsafe")] * hits
        + [(True, "safe")] * misses
        + [(False, "unsafe")] * alarms
        + [(False, "safe")] * passes
    )
    return [
        row(first + number, unsafe, said, suites=(suite,), mode=mode)
        for number, (unsafe, said) in enumerate(kinds)
    ]


def report(rows: list[MeasuredRow], digest: str = DIGEST) -> dict[str, Any]:
    """A report with the parts that the gate and the page read."""
    return {"weights_digest": digest, "engine": "scripted 1", "rows": 10, "seed": 1} | suite_report(
        rows, 200, 1
    )
