"""Builds the data set of a training run; reads top to bottom.

collect → one split per group → no leaks → vary policies → within lengths → balance → write, with a card
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from guard.prompt import PromptRenderer
from guard.training.data.balance import balanced
from guard.training.data.collect import collect
from guard.training.data.data_card import DataCard, card_of, rows_by_source, write_card
from guard.training.data.drafts import Drops, unmatched_twins
from guard.training.data.errors import TrainingDataError
from guard.training.data.groups import one_split_per_group
from guard.training.data.leaks import without_leaks
from guard.training.data.lengths import within_lengths
from guard.training.data.rows import POLICIES, ROWS, LabelledRow, write_rows
from guard.training.data.settings import DataSettings
from guard.training.data.vary import Variation

RendererOf = Callable[[Sequence[LabelledRow]], PromptRenderer]
"""Makes the renderer when the rows are there: a tokenizer may be made of their words."""


def build_dataset(settings: DataSettings, renderer_of: RendererOf, folder: Path) -> DataCard:
    """Write `rows.jsonl`, `policies.jsonl`, `data_card.json` and `data_card.md`; what the card says.

    `renderer_of` gets all rows as they are before any is too long or balanced out.
    The same settings, sources and tokenizer give the same bytes. Raises `TrainingDataError` for sources and
    mappings that cannot be used, and where no row is left to train on.
    """
    drops = Drops()
    collected = collect(settings, drops)
    read = rows_by_source(collected) + _by_source(drops)
    drafts = one_split_per_group(collected, drops)
    drafts = without_leaks(drafts, settings.leaks, drops)
    variation = Variation(settings.perturbation, settings.seed)
    varied = variation.apply(drafts)
    made = rows_by_source(varied) - rows_by_source(drafts)
    renderer = renderer_of([draft.row for draft in varied])
    kept, tokens = within_lengths(
        varied, renderer, settings.max_prompt_tokens, settings.max_completion_tokens, drops
    )
    if settings.balance:
        kept = balanced(kept, settings.seed, drops)
    rows = [draft.row for draft in kept]
    assert not unmatched_twins(rows), "a row has lost its twin"
    if not any(row.split == "train" for row in rows):
        raise TrainingDataError(f"no row is left to train on; dropped were {_told(drops)}")
    write_rows(folder, rows)
    card = card_of(
        rows,
        read,
        made,
        drops,
        variation.counts,
        [tokens[row.id] for row in rows],
        settings.seed,
        data_sha256(folder),
    )
    write_card(card, folder)
    return card


def data_sha256(folder: Path) -> str:
    """SHA-256 (hex) of the rows and of the policies of a folder."""
    digest = hashlib.sha256()
    for name in (ROWS, POLICIES):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _by_source(drops: Drops) -> Counter[str]:
    counts: Counter[str] = Counter()
    for (source, _), count in drops.counts.items():
        counts[source] += count
    return counts


def _told(drops: Drops) -> str:
    reasons: Counter[str] = Counter()
    for (_, reason), count in drops.counts.items():
        reasons[reason] += count
    return ", ".join(f"{count} for {reason}" for reason, count in reasons.most_common()) or "none"
