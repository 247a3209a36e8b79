"""The ledger as a table, and its place in the page of the docs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.acceptance.faults.ledger import Ledger, Repeat

BEGIN: Final = "<!-- results: written by `make test-faults` -->"
END: Final = "<!-- end of results -->"
_HEAD: Final = (
    "| Fault | Repeats | Events | Decisions | Dead letters | Unjudged | Violations | Duplicates "
    "| Most in one repeat (bound) | Back at work after, p50 (max) | Longest pause |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
)


@dataclass(frozen=True, slots=True)
class Summary:
    """All repeats of a row together; times in seconds."""

    done: int
    events: int
    decisions: int
    dead_letters: int
    unjudged: int
    violations: int
    duplicates: int
    most_duplicates: int
    bound: int
    resumed_p50_s: float | None
    resumed_max_s: float | None
    pause_max_s: float


def summary(repeats: Sequence[Repeat]) -> Summary:
    """Sums, and the largest of what is bounded."""
    resumed = [one.resumed_s for one in repeats if one.resumed_s is not None]
    return Summary(
        done=sum(one.number > 0 for one in repeats),
        events=sum(one.events for one in repeats),
        decisions=sum(one.decisions for one in repeats),
        dead_letters=sum(one.dead_letters for one in repeats),
        unjudged=sum(one.unjudged for one in repeats),
        violations=sum(one.violation_count for one in repeats),
        duplicates=sum(one.duplicates for one in repeats),
        most_duplicates=max((one.duplicates for one in repeats), default=0),
        bound=max((one.most_duplicates for one in repeats), default=0),
        resumed_p50_s=statistics.median(resumed) if resumed else None,
        resumed_max_s=max(resumed, default=None),
        pause_max_s=max((one.pause_s for one in repeats), default=0.0),
    )


def table(rows: Iterable[tuple[str, str, int]], ledger: Ledger) -> str:
    """Markdown, one line for each (name, title, repeats of the full run)."""
    lines = []
    for name, title, wanted in rows:
        one = summary(ledger.read(name))
        if not one.done:
            lines.append(f"| {title} | 0 of {wanted} |" + " |" * 9)
            continue
        back = "–" if one.resumed_p50_s is None else f"{one.resumed_p50_s:.1f} s ({one.resumed_max_s:.1f} s)"
        cells = (
            title,
            f"{one.done} of {wanted}",
            f"{one.events:,}",
            f"{one.decisions:,}",
            f"{one.dead_letters:,}",
            f"{one.unjudged:,}",
            str(one.violations),
            f"{one.duplicates:,}",
            f"{one.most_duplicates} ({one.bound})",
            back,
            f"{one.pause_max_s:.1f} s",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return _HEAD + "".join(f"{line}\n" for line in lines)


def commits(rows: Iterable[str], ledger: Ledger) -> str:
    """A sentence: with which code the repeats were made, most of them first."""
    counted = Counter(
        repeat.commit for row in rows for repeat in ledger.read(row) if repeat.number > 0
    ).most_common()
    if not counted:
        return ""
    named = (f"{f'`{commit}`' if commit else 'not noted'} ({count:,})" for commit, count in counted)
    return f"Commits of the code, and repeats made with each: {', '.join(named)}.\n"


def write_into(page: Path, text: str) -> None:
    """Put the text between the two markers of the page. Raises ValueError when they are not there."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: expected the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")
