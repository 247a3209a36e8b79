"""Suites: which rows answer which question about a guard. A row is judged once and may be in several.

synthetic/…     sets of the generator: in distribution, and with frames, objects or both held out
flips/…         pairs of one text under two policies; both sides must be right
wording/…       the same pairs under policies of lists and of prose, and pairs of a word listed or excepted
custom/…        categories of customers' own with words that training never saw, listed and unlisted
over_refusal/…  safe rows that resemble unsafe ones, or are unsafe under another policy
attacks/…       unsafe rows under each attack, as a whole by kind
real/<source>   rows of a real source; `real/all` pools them, `real/macro` is the mean over sources
language/<tag>  rows of real sources by language
category/…      rows that violate a category, with the safe rows of the sources that have such rows
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from guard.training.attacks.attack import Attack
from guard.training.data.rows import LabelledRow
from guard.training.evaluation_settings import EvaluationSettings
from guard.training.generator.conversations import Row
from guard.training.generator.evaluation_sets import CUSTOM_SOURCES
from schemas.policy import Category, Policy

MACRO: Final = "real/macro"
REAL: Final = "real/"
POOLED: Final = "real/all"
HELD_OUT: Final = "synthetic/held_out"
# Rows of the generator that touch on what is forbidden and forbid nothing themselves.
_HARMLESS_KINDS: Final = ("harmless", "study", "chat")
_HELD_OUT_SETS: Final = ("templates", "objects", "both")
_WORDINGS: Final = {
    "lists_harms": "lists",
    "lists_words": "lists",
    "prose_harms": "prose",
    "prose_words": "prose",
    "excepted": "exceptions",
}
_PAIRS: Final = {"pairs": "flips/in_distribution", "pairs_both": "flips/held_out"}


def policy_of(row: Row) -> Policy:
    """The policy of a generator's row as the judge reads it."""
    return Policy(
        id="evaluation",
        version="1",
        categories=tuple(
            Category(code=x.code, title=x.title, definition=x.definition, exceptions=x.exceptions)
            for x in row.policy
        ),
    )


def labelled(name: str, number: int, row: Row) -> LabelledRow:
    """A row of an evaluation set of the generator, by its place in the set.

    What is made of one draw (its twin, its attacked form, its other wording) is one group.
    """
    base, _, side = name.partition("/")
    origin = {"reworded": "in_distribution", "attacked": "pairs"}.get(base, base)
    alone = side == "other"  # drawn by itself, unlike the sides `on` and `off`
    twin = {"on": f"{base}/off", "off": f"{base}/on"}.get(side)
    return LabelledRow(
        id=f"generator/{name}/{number}",
        source="generator",
        split="dev",
        group=f"{name if alone else origin}/{number}",
        policy=policy_of(row),
        turns=row.exchange.turns,
        label=row.exchange.label,
        codes=(row.exchange.code,) if row.exchange.code else (),
        twin=f"generator/{twin}/{number}" if twin else "",
    )


def suites_of_set(name: str, row: Row) -> tuple[str, ...]:
    """The suites of a row of an evaluation set of the generator."""
    base, _, side = name.partition("/")
    found: list[str] = []
    if base in ("in_distribution", "reworded", *_HELD_OUT_SETS):
        found.append(f"synthetic/{base}")
        if base in _HELD_OUT_SETS:
            found.append(HELD_OUT)
            if row.exchange.kind in _HARMLESS_KINDS:
                found.append("over_refusal/harmless")
    elif base in _PAIRS:
        found.append(_PAIRS[base])
    elif base in _WORDINGS:
        found.append(f"wording/{_WORDINGS[base]}")
    elif base in (f"custom_{source}" for source in CUSTOM_SOURCES):
        if side in ("on", "off"):
            found.append("flips/custom")
        if side in ("on", "other"):
            found += [f"custom/{base.removeprefix('custom_')}", "custom/all"]
    elif base == "near_misses":
        found.append("over_refusal/near_misses")
    elif base == "attacked":
        found += ["attacks/forged endings", "attacks/structural"]
    if side == "off":
        found.append("over_refusal/category_off")
    return tuple(found)


def attacked_id(attack: Attack, number: int) -> str:
    """The id of a row of `pairs/on` under an attack."""
    return f"generator/attack {attack.name}/{number}"


def suites_of_attack(attack: Attack) -> tuple[str, ...]:
    """The suites of a row under an attack."""
    return (f"attacks/{attack.name}", f"attacks/{attack.kind}")


def chosen_rows(rows: Iterable[LabelledRow], settings: EvaluationSettings) -> dict[str, list[LabelledRow]]:
    """Source → the rows to judge, by id; of a source with too many, those with the lowest hashes.

    A row's twin is taken with it where both are of the source.
    """
    sources: dict[str, list[LabelledRow]] = {}
    for row in rows:
        sources.setdefault(row.source, []).append(row)
    most = settings.most_rows_per_source
    return {
        name: sorted(_sample(found, most) if most else found, key=lambda row: row.id)
        for name, found in sorted(sources.items())
    }


def suites_of_real(
    sources: Mapping[str, Sequence[LabelledRow]], settings: EvaluationSettings
) -> dict[str, tuple[str, ...]]:
    """Row id → its suites."""
    rows = [row for found in sources.values() for row in found]
    ids = {row.id for row in rows}
    languages = Counter(row.language for row in rows)
    categories = _categories(rows, settings)
    return {
        row.id: (
            *_suites_of_row(row, ids, languages, settings),
            *(name for name, having in categories.items() if _shows(row, name, having)),
        )
        for row in rows
    }


def category_suites(row: LabelledRow) -> list[str]:
    """The suites of the categories that the row violates: by policy, code and title.

    A perturbed policy keeps its id and may give a code another title; such rows are another suite.
    """
    titles = {category.code: category.title for category in row.policy.categories}
    return [f"category/{row.policy.id}/{code} {titles[code]}" for code in row.codes]


def _categories(rows: Iterable[LabelledRow], settings: EvaluationSettings) -> dict[str, set[tuple[str, str]]]:
    """Suite of a category with rows enough → the sources, each with its policy, that have such rows."""
    found: dict[str, list[LabelledRow]] = {}
    for row in rows:
        for name in category_suites(row):
            found.setdefault(name, []).append(row)
    return {
        name: {(row.source, row.policy.id) for row in having}
        for name, having in sorted(found.items())
        if len(having) >= settings.least_rows_of_category
    }


def _shows(row: LabelledRow, suite: str, having: set[tuple[str, str]]) -> bool:
    if row.label == "unsafe":
        return suite in category_suites(row)
    return (row.source, row.policy.id) in having


def _suites_of_row(
    row: LabelledRow, ids: set[str], languages: Mapping[str, int], settings: EvaluationSettings
) -> list[str]:
    found = [f"{REAL}{row.source}", POOLED]
    if languages[row.language] >= settings.least_rows_of_language:
        found.append(f"language/{row.language}")
    if row.label == "safe" and row.source in settings.look_alikes:
        found.append("over_refusal/real")
    if row.twin in ids:
        found.append("flips/real")
    return found


def _sample(rows: Sequence[LabelledRow], most: int) -> list[LabelledRow]:
    known = {row.id: row for row in rows}
    chosen: dict[str, LabelledRow] = {}
    for row in sorted(rows, key=_draw):
        if len(chosen) >= most:
            break
        chosen[row.id] = row
        if row.twin in known:
            chosen[row.twin] = known[row.twin]
    return list(chosen.values())


def _draw(row: LabelledRow) -> str:
    return hashlib.sha256(row.id.encode()).hexdigest()
