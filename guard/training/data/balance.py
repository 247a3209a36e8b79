"""RSafe's balance: each source of the training split gives as many safe rows as unsafe ones.

A source of one class would lose all its rows, so those sources are balanced together: the larger class gives
rows from all its sources alike. Twins are balanced as they are and stay; what is drawn is drawn from the
rest. Where all unsafe rows of a source have twins, its safe rows stay beside these (a generator's harmless
texts, say), since such a source has two classes and nothing that could balance them. `dev` stays as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from guard.training.data.drafts import Draft, Drops, chance, without


def balanced(drafts: Sequence[Draft], seed: int, drops: Drops) -> list[Draft]:
    """The drafts, in order, without those that the balance takes (`balanced_out`)."""
    by_source: defaultdict[str, dict[str, list[str]]] = defaultdict(lambda: {"safe": [], "unsafe": []})
    for draft in drafts:
        if draft.row.split == "train" and not draft.row.twin:
            by_source[draft.row.source][draft.row.label].append(draft.row.id)
    gone: set[str] = set()
    pooled: dict[str, list[str]] = {"safe": [], "unsafe": []}
    classes = _own_classes(drafts)
    for source, labels in by_source.items():
        if labels["safe"] and labels["unsafe"]:
            gone |= _surplus(labels, seed)
        elif labels["unsafe"] or classes[source] == {"safe"}:
            for label, ids in labels.items():
                pooled[label] += ids
    gone |= _surplus(pooled, seed)
    return without(drafts, gone, drops, "balanced_out")


def _own_classes(drafts: Sequence[Draft]) -> dict[str, set[str]]:
    """By source, the labels of its rows in `train`, without twins that perturbation made of them."""
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        row = draft.row
        # A made twin has the name of its row, and an ending.
        if row.split == "train" and not (row.twin and row.id.startswith(f"{row.twin}~")):
            classes[row.source].add(row.label)
    return classes


def _surplus(labels: dict[str, list[str]], seed: int) -> set[str]:
    """Ids of the larger class that go, so that the classes are of one size."""
    smaller, larger = sorted(labels.values(), key=len)
    drawn = sorted(larger, key=lambda name: (chance("balance", seed, name), name))
    return set(drawn[len(smaller) :])
