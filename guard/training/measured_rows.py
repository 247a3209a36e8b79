"""A row of an evaluation as its report keeps it: suites, truth, and what each speaker said. Never a text.

A speaker is a mode of the guard, or `floor`, the classifier beside it. The gate compares two guards row by
row, so a report holds its rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from guard.errors import GuardError
from schemas.identifiers import Label

ROWS_KEY = "measured"
"""Where a report has its rows."""


class ReportError(GuardError):
    """A report is not one that an evaluation of this version writes; whoever named it acts."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a speaker said of a row."""

    label: Label | None = None
    """None: no verdict; `reason` says why."""
    score: float | None = None
    """Raw p(unsafe), 0 to 1; None where there is none."""
    calibrated: float | None = None
    """The same by the checkpoint's calibration, where it has one."""
    codes: tuple[str, ...] = ()
    """Categories that were named."""
    tokens: int = 0
    """Of all completions."""
    reason: str = ""
    """Why there is no verdict, in stable words."""


class MeasuredRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row with its truth and the replies by speaker."""

    id: str
    """Unique in the report."""
    unsafe: bool
    """The truth."""
    suites: tuple[str, ...]
    """Names of the suites that it is part of."""
    replies: dict[str, Reply]
    """Speaker → reply."""
    group: str = ""
    """Rows of one group are drawn together (pair, thread, prompt); empty: the row alone."""
    twin: str = ""
    """Id of the row with the same text and the other label, where that is measured too."""
    codes: tuple[str, ...] = ()
    """Categories that are violated, where that is known."""


def by_suite(rows: Iterable[MeasuredRow]) -> dict[str, list[MeasuredRow]]:
    """Suite → its rows, both in the order of the rows."""
    suites: dict[str, list[MeasuredRow]] = defaultdict(list)
    for row in rows:
        for suite in row.suites:
            suites[suite].append(row)
    return dict(suites)


def speakers_of(rows: Iterable[MeasuredRow]) -> tuple[str, ...]:
    """The speakers of any row, in the order in which they come up."""
    return tuple(dict.fromkeys(speaker for row in rows for speaker in row.replies))


def rows_of(report: Mapping[str, Any], name: str = "report") -> list[MeasuredRow]:
    """The rows that a report holds. Raises `ReportError`, which calls it by `name`, for one without."""
    if ROWS_KEY not in report:
        raise ReportError(f"{name}: expected the rows under `{ROWS_KEY}`; measure the checkpoint anew")
    try:
        rows = msgspec.convert(report[ROWS_KEY], list[MeasuredRow])
    except msgspec.ValidationError as error:
        raise ReportError(f"{name}: {ROWS_KEY}: {error}") from error
    if len({row.id for row in rows}) != len(rows):
        raise ReportError(f"{name}: {ROWS_KEY}: expected each id once")
    return rows


def to_report(rows: Sequence[MeasuredRow]) -> list[Any]:
    """The rows as a report holds them (JSON-ready)."""
    found: list[Any] = msgspec.json.decode(msgspec.json.encode(rows))
    return found
