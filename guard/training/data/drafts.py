"""What the steps of a build hand on: drafts of rows, and the count of what was dropped and why."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from guard.training.data.mapping import Placed
from guard.training.data.rows import LabelledRow


@dataclass(frozen=True, slots=True)
class Draft:
    """A row on its way into a data set."""

    row: LabelledRow
    touched: frozenset[str] | None
    """Categories of the row's policy that the text may violate; None: any. Empty for safe rows."""
    others: tuple[Placed, ...] = ()
    """Other views of the source's mapping that support the row."""
    perturb: bool = True
    """Whether the source's policies may be changed."""


@dataclass(slots=True)
class Drops:
    """How many rows of which source were dropped, and why. Every row that was read is kept or stands here."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, source: str, reason: str, rows: int = 1) -> None:
        """Count rows of a source under a reason."""
        self.counts[source, reason] += rows


def chance(*parts: object) -> float:
    """A number from 0 to below 1 that follows from the parts alone, whatever the order of rows."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def without(drafts: Iterable[Draft], gone: Collection[str], drops: Drops, reason: str) -> list[Draft]:
    """The drafts but those whose ids are `gone`, and but the twins of these: a pair stays whole or goes.

    A twin that goes for the other's sake is counted as `twin_dropped`.
    """
    kept: list[Draft] = []
    for draft in drafts:
        if draft.row.id in gone:
            drops.add(draft.row.source, reason)
        elif draft.row.twin and draft.row.twin in gone:
            drops.add(draft.row.source, "twin_dropped")
        else:
            kept.append(draft)
    return kept


def unmatched_twins(rows: Sequence[LabelledRow]) -> list[str]:
    """Ids of rows whose twin is absent, or has the same label, or another text, group or split."""
    by_id = {row.id: row for row in rows}
    wrong = []
    for row in rows:
        if not row.twin:
            continue
        twin = by_id.get(row.twin)
        if (
            twin is None
            or twin.twin != row.id
            or twin.label == row.label
            or (twin.turns, twin.group, twin.split) != (row.turns, row.group, row.split)
        ):
            wrong.append(row.id)
    return wrong
