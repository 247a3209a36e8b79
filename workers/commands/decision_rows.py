"""Records as rows: a table in a terminal, plain lines or JSON elsewhere.

Nothing of a record reaches a terminal as it is: control characters are escaped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TextIO

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.dead_letter import read_dead_letter
from schemas.decision import Decision
from workers.adapters.topics_io import Record
from workers.terminal import ACTION_STYLES, harmless

# name, width in characters (fixed, so that batches of rows stand below each other), and from which width of
# the terminal on the column is shown
_DECISION_COLUMNS: Final = (
    ("time", 8, 0),
    ("tenant", 15, 100),
    ("conversation", 12, 80),
    ("author", 10, 0),
    ("policy", 14, 112),
    ("verdict", 9, 0),
    ("action", 6, 0),
    ("score", 5, 0),
    ("categories", 11, 0),
    ("from", 5, 80),
    ("ms", 5, 0),
)
_DEAD_LETTER_COLUMNS: Final = (
    ("time", 8, 100),
    ("reason", 14, 0),
    ("field", 22, 80),
    ("origin", 24, 120),
    ("sentence", 40, 0),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One record, twice: as cells for people and as a value for programs."""

    cells: tuple[str, ...]
    content: dict[str, Any]
    style: str = ""


class Rows(Protocol):
    """Where rows are written."""

    def write(self, rows: list[Row]) -> None: ...


def decision_row(record: Record) -> Row | str:
    """The decision of a record, or the reason why it is none (it quotes nothing of the record)."""
    try:
        decision = msgspec.json.decode(record.value or b"", type=Decision)
        content = msgspec.json.decode(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "not a decision"
    codes = ",".join(category.code for category in decision.categories if category.violated)
    source = "cache" if decision.cache.hit else decision.guard.mode if decision.guard else "-"
    cells = (
        _clock(decision.received_at.timestamp()),
        decision.tenant,
        decision.conversation_id,
        decision.author,
        decision.policy.id,
        decision.label or decision.status,
        decision.action,
        "-" if decision.score is None else f"{decision.score:.2f}",
        codes or decision.reason or "-",
        source,
        f"{decision.timings.total_ms:.0f}",
    )
    return Row(cells, content, ACTION_STYLES[decision.action])


def dead_letter_row(record: Record) -> Row | str:
    """The dead letter of a record, or the reason why it is none. The original bytes are only counted."""
    try:
        letter = read_dead_letter(record.headers)
    except msgspec.ValidationError:
        return "not a dead letter"
    time = "-" if record.timestamp_ms < 0 else _clock(record.timestamp_ms / 1000)
    origin = f"{letter.topic}/{letter.partition}/{letter.offset}"
    content = {
        **msgspec.to_builtins(letter),
        "key": None if record.key is None else record.key.decode("utf-8", "backslashreplace"),
        "value_bytes": len(record.value or b""),
    }
    return Row((time, letter.reason, letter.field, origin, letter.sentence), content)


def _clock(timestamp_s: float) -> str:
    """The time of the day in UTC, `-` for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(timestamp_s, UTC).strftime("%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "-"


class JsonRows:
    """One JSON object a line, in ASCII."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, rows: list[Row]) -> None:
        self._out.writelines(json.dumps(row.content) + "\n" for row in rows)
        self._out.flush()


class PlainRows:
    """The cells of a row, two spaces between them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, rows: list[Row]) -> None:
        self._out.writelines("  ".join(map(harmless, row.cells)) + "\n" for row in rows)
        self._out.flush()


class TableRows:
    """A table that grows downwards; its head stands once."""

    def __init__(self, *, dead_letters: bool, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._columns = _DEAD_LETTER_COLUMNS if dead_letters else _DECISION_COLUMNS
        self._head = True

    def write(self, rows: list[Row]) -> None:
        if not rows:
            return
        table = Table(box=None, show_header=self._head, padding=(0, 1, 0, 0), pad_edge=False)
        shown = [number for number, (_, _, least) in enumerate(self._columns) if self._console.width >= least]
        for name, width, _ in (self._columns[number] for number in shown):
            right = name in ("score", "ms")
            table.add_column(
                name, width=width, no_wrap=True, overflow="ellipsis", justify="right" if right else "left"
            )
        for row in rows:
            table.add_row(*(Text(harmless(row.cells[number])) for number in shown), style=row.style)
        self._console.print(table)
        self._head = False
