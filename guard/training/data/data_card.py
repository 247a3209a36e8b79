"""What a data set is made of: rows by source, label, language and licence, and what was dropped and why.

The card holds counts and names only. `data_card.json` is for programs, `data_card.md` for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from guard.training.data.drafts import Draft, Drops
from guard.training.data.rows import LabelledRow, PolicyHashes

CARD: Final = "data_card.json"
CARD_FOR_PEOPLE: Final = "data_card.md"


class SplitCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one split."""

    safe: int = 0
    unsafe: int = 0
    twins: int = 0
    """Of both labels together, rows that have a twin."""


class SourceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one source's rows: `read` + `made` = rows of both splits + all that was dropped."""

    read: int
    """Rows in its files, or drawn."""
    made: int
    """Twins that perturbation made."""
    train: SplitCounts
    dev: SplitCounts
    dropped: dict[str, int]
    """By reason."""
    licences: tuple[str, ...]
    """Of the rows that were kept."""


class DataCard(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of a data set, and the digest of its files."""

    rows: int
    train: SplitCounts
    dev: SplitCounts
    policies: int
    """Different ones, as the model reads them."""
    sources: dict[str, SourceCounts]
    languages: dict[str, int]
    licences: dict[str, int]
    dropped: dict[str, int]
    """By reason, over all sources."""
    perturbed: dict[str, int]
    """Rows by kind of change, before anything was dropped for its length or for balance."""
    mean_prompt_tokens: float
    longest_prompt_tokens: int
    seed: int
    data_sha256: str
    """Of `rows.jsonl` and then `policies.jsonl`."""


def card_of(
    rows: Sequence[LabelledRow],
    read: Counter[str],
    made: Counter[str],
    drops: Drops,
    perturbed: Counter[str],
    prompt_tokens: Sequence[int],
    seed: int,
    data_sha256: str,
) -> DataCard:
    """The card; `prompt_tokens` has a number a row.

    Raises AssertionError where the sums of a source do not come out: a row would be lost.
    """
    hashes = PolicyHashes()
    names = sorted({*read, *(source for source, _ in drops.counts), *(row.source for row in rows)})
    return DataCard(
        rows=len(rows),
        train=_split(rows, "train"),
        dev=_split(rows, "dev"),
        policies=len({hashes.of(row.policy) for row in rows}),
        sources=_sources(names, rows, read, made, drops),
        languages=_counted(rows, lambda row: row.language),
        licences=_counted(rows, lambda row: row.licence),
        dropped=_totals(drops),
        perturbed=dict(sorted(perturbed.items())),
        mean_prompt_tokens=round(sum(prompt_tokens) / len(rows), 1) if rows else 0.0,
        longest_prompt_tokens=max(prompt_tokens, default=0),
        seed=seed,
        data_sha256=data_sha256,
    )


def write_card(card: DataCard, folder: Path) -> None:
    """Write both forms of the card into the folder."""
    text = msgspec.json.format(msgspec.json.encode(card), indent=2)
    (folder / CARD).write_bytes(text + b"\n")
    (folder / CARD_FOR_PEOPLE).write_text(markdown(card), encoding="utf-8")


def markdown(card: DataCard) -> str:
    """The card as a page."""
    parts = [
        "# Data card",
        f"{card.rows:,} rows under {card.policies:,} policies: {_labels('train', card.train)}; "
        f"{_labels('dev', card.dev)}. Prompts have {card.mean_prompt_tokens:,.0f} tokens on average and at "
        f"most {card.longest_prompt_tokens:,}. Seed {card.seed}; SHA-256 of the data `{card.data_sha256}`.",
        "## Sources",
        _table(
            ("source", "read", "train safe / unsafe", "dev safe / unsafe", "twins", "dropped", "licence"),
            (
                (
                    name,
                    f"{source.read:,}",
                    f"{source.train.safe:,} / {source.train.unsafe:,}",
                    f"{source.dev.safe:,} / {source.dev.unsafe:,}",
                    f"{source.train.twins + source.dev.twins:,}",
                    ", ".join(f"{reason} {count:,}" for reason, count in source.dropped.items()) or "0",
                    ", ".join(source.licences),
                )
                for name, source in card.sources.items()
            ),
        ),
    ]
    for title, counts in (
        ("Languages", card.languages),
        ("Licences", card.licences),
        ("Dropped", card.dropped),
        ("Perturbed", card.perturbed),
    ):
        if counts:
            rows = ((name or "not told", f"{count:,}") for name, count in counts.items())
            parts += [f"## {title}", _table((title.lower(), "rows"), rows)]
    return "\n\n".join(parts) + "\n"


def rows_by_source(drafts: Iterable[Draft]) -> Counter[str]:
    """How many drafts each source has."""
    return Counter(draft.row.source for draft in drafts)


def _sources(
    names: Sequence[str],
    rows: Sequence[LabelledRow],
    read: Counter[str],
    made: Counter[str],
    drops: Drops,
) -> dict[str, SourceCounts]:
    by_source: dict[str, list[LabelledRow]] = {name: [] for name in names}
    for row in rows:
        by_source[row.source].append(row)
    sources: dict[str, SourceCounts] = {}
    for name, own in by_source.items():
        dropped = {r: count for (s, r), count in sorted(drops.counts.items()) if s == name and count}
        assert read[name] + made[name] == len(own) + sum(dropped.values()), (
            f"{name}: rows are unaccounted for"
        )
        sources[name] = SourceCounts(
            read=read[name],
            made=made[name],
            train=_split(own, "train"),
            dev=_split(own, "dev"),
            dropped=dropped,
            licences=tuple(sorted({row.licence for row in own} - {""})),
        )
    return sources


def _split(rows: Iterable[LabelledRow], split: str) -> SplitCounts:
    own = [row for row in rows if row.split == split]
    unsafe = sum(row.label == "unsafe" for row in own)
    return SplitCounts(safe=len(own) - unsafe, unsafe=unsafe, twins=sum(bool(row.twin) for row in own))


def _counted(rows: Iterable[LabelledRow], key: Callable[[LabelledRow], str]) -> dict[str, int]:
    return dict(Counter(key(row) for row in rows).most_common())


def _totals(drops: Drops) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for (_, reason), count in drops.counts.items():
        if count:
            totals[reason] += count
    return dict(totals.most_common())


def _labels(split: str, counts: SplitCounts) -> str:
    return f"{split} {counts.safe:,} safe and {counts.unsafe:,} unsafe ({counts.twins:,} with a twin)"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
