"""What the demo shows: a row per decision while it runs, a summary at the end.

In a terminal the newest rows stand in a table that is redrawn; elsewhere each row is a plain line.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from schemas.decision import Decision
from workers.terminal import ACTION_STYLES

NEWEST_ROWS: Final = 18
TEXT_COLUMNS: Final = 44


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One decision as a person reads it."""

    who: str
    said: str
    policy: str
    verdict: str
    action: str
    category: str
    score: str
    source: str
    milliseconds: float

    def cells(self) -> tuple[str, ...]:
        return (
            self.who,
            self.said,
            self.policy,
            f"{self.verdict} → {self.action}",
            self.category,
            self.score,
            self.source,
            f"{self.milliseconds:.0f}",
        )


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The demo in figures; times in seconds and milliseconds."""

    events: int
    decisions: int
    dead_letters: int
    unjudged: int
    cache_hits: int
    events_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    def lines(self) -> list[str]:
        return [
            f"events         {self.events}",
            f"decisions      {self.decisions} ({self.unjudged} unjudged)",
            f"dead letters   {self.dead_letters}",
            f"cache hits     {self.cache_hits}",
            f"throughput     {self.events_per_second:.0f} events/s",
            f"latency        p50 {self.p50_ms:.0f} ms  p95 {self.p95_ms:.0f} ms  p99 {self.p99_ms:.0f} ms",
        ]


def decision_row(decision: Decision, *, said: str, titles: Mapping[str, str], milliseconds: float) -> Row:
    """The row of a decision.

    `titles`: category title per code; `milliseconds`: from event published to decision published.
    """
    violated = [category.code for category in decision.categories if category.violated]
    return Row(
        who=decision.author,
        said=_printable(said),
        policy=decision.policy.id,
        verdict=decision.label or decision.status,
        action=decision.action,
        category=", ".join(f"{code} {titles.get(code, '')}".strip() for code in violated) or "–",
        score="–" if decision.score is None else f"{decision.score:.2f}",
        source=_source(decision),
        milliseconds=milliseconds,
    )


def _source(decision: Decision) -> str:
    if decision.cache.hit:
        return "cached"
    return "judged" if decision.status == "judged" else decision.reason or "–"


def percentile(values: list[float], percent: int) -> float:
    """The given percentile (1 to 99) of at least one value, interpolated; 0.0 of none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


class Board:
    """Collects rows and draws them. Use as a context manager."""

    def __init__(self, console: Console, expected: int) -> None:
        self._console = console
        self._expected = expected
        self._rows: deque[Row] = deque(maxlen=NEWEST_ROWS)
        self._seen = 0
        self._dead_letters = 0
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None

    def __enter__(self) -> Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._draw())
            self._live.stop()

    def add(self, row: Row) -> None:
        """Show a decision."""
        self._seen += 1
        self._rows.append(row)
        if self._live:
            self._live.update(self._draw())
        else:
            self._console.print("  ".join(row.cells()), markup=False, highlight=False, soft_wrap=True)

    def add_dead_letter(self, reason: str, sentence: str) -> None:
        """Show a record that could not become a decision."""
        self._dead_letters += 1
        if self._live is None:
            line = f"dead letter: {reason}: {sentence}"
            self._console.print(_printable(line, 200), markup=False, highlight=False, soft_wrap=True)

    def _draw(self) -> Group:
        table = Table(expand=True)
        for name in ("who", "said", "policy", "verdict → action", "category", "score", "from", "ms"):
            table.add_column(name, no_wrap=True, justify="right" if name in {"score", "ms"} else "left")
        for row in self._rows:
            style = ACTION_STYLES.get(row.action, "")
            cells = enumerate(row.cells())
            table.add_row(*(Text(cell, style=style if index == 3 else "") for index, cell in cells))
        done = f"{self._seen + self._dead_letters} of {self._expected} events"
        done += f", {self._dead_letters} of them dead letters" if self._dead_letters else ""
        return Group(table, Text(done))


def _printable(text: str, width: int = TEXT_COLUMNS) -> str:
    plain = "".join(char if char.isprintable() else " " for char in text)
    return plain if len(plain) <= width else plain[: width - 1] + "…"
