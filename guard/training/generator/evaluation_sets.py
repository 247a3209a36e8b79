"""Test sets, twins and attacks. None of the draws is shared with training.

Training draws from integer seeds; everything here from strings. `templates`, `objects` and `both` hold out
sentence frames, acts and objects; the sources `made_up`, `other_grammar` and `themes` hold out words.
"""

from __future__ import annotations

import random
from dataclasses import replace

from guard.prompt import Turn
from guard.training.generator import frames
from guard.training.generator.conversations import (
    Kind,
    Row,
    Split,
    draw_exchange,
    forge,
    listed_trace,
    unlisted_trace,
)
from guard.training.generator.lexicon import CONCEPTS, HIGHEST_CODE
from guard.training.generator.policies import (
    PolicyLine,
    TermSource,
    draw_policy,
    draw_term,
    removed,
    worded,
)

SPLITS: tuple[Split, ...] = ("train", "templates", "objects", "both")
CUSTOM_SOURCES: tuple[TermSource, ...] = ("made_up", "other_grammar", "themes")


def draw_rows(
    split: Split, count: int, seed: int, kind: Kind | None = None, source: TermSource = "train"
) -> list[Row]:
    """`count` rows, each under a policy of its own."""
    rng = random.Random(f"evaluation-{split}-{seed}-{kind}-{source}")
    policy_source: TermSource = "made_up" if source == "near" else source
    rows: list[Row] = []
    while len(rows) < count:
        include = rng.choice(list(CONCEPTS)) if kind == "on" else None
        custom = rng.choice([1, 1, 2, 3]) if kind in ("listed", "unlisted") else None
        policy = draw_policy(rng, policy_source, include=include, custom=custom)
        exchange = draw_exchange(rng, policy, split, kind, source)
        if exchange is not None and not exchange.forged:
            rows.append(Row(policy, exchange))
    return rows


def switched_off(row: Row) -> Row:
    """The twin: the same text, the violated category taken out of the policy; safe.

    A policy of that one category alone gets another in its place, since a policy is never empty.
    """
    exchange = row.exchange
    policy = removed(row.policy, exchange.code)
    if not policy:
        only = row.policy[0]
        name = next(n for n in CONCEPTS if n != only.concept)
        policy = (PolicyLine(only.code, name, CONCEPTS[name].phrases[:2], (), name),)
    twin = replace(exchange, label="safe", code="", trace=unlisted_trace(exchange.subject))
    return Row(policy, twin)


def reworded(row: Row, seed: int) -> Row:
    """The same policy in other words, codes and order; label unchanged."""
    rng = random.Random(f"reworded-{seed}-{row.exchange.code}-{len(row.policy)}")
    order = list(row.policy)
    rng.shuffle(order)
    numbers = sorted(rng.sample(range(1, HIGHEST_CODE + 1), len(order)))
    lines: list[PolicyLine] = []
    for line, number in zip(order, numbers, strict=True):
        code = f"R{number}"
        if line.concept is None:
            lines.append(replace(line, code=code, phrases=tuple(rng.sample(line.phrases, len(line.phrases)))))
        else:
            concept = CONCEPTS[line.concept]
            phrases = tuple(rng.sample(concept.phrases, min(3, len(line.phrases))))
            lines.append(replace(line, code=code, title=rng.choice(concept.titles), phrases=phrases))
    exchange = row.exchange
    if exchange.code:
        at = next(i for i, line in enumerate(order) if line.code == exchange.code)
        trace = listed_trace(exchange.subject, lines[at])
        exchange = replace(exchange, code=lines[at].code, trace=trace)
    return Row(tuple(lines), exchange)


def as_prose(row: Row, seed: int) -> Row:
    """The same row under the policy with all definitions as prose, in sentences that training never shows."""
    rng = random.Random(f"prose-{seed}-{row.exchange.trace}-{len(row.policy)}")
    return Row(tuple(worded(rng, line, held_out=True) for line in row.policy), row.exchange)


def excepted(row: Row, seed: int) -> Row:
    """The twin of a row with a listed word: the category names that word as its exception; safe.

    Half of the time as prose, half in the exceptions. A list of that word alone gets another one.
    """
    rng = random.Random(f"excepted-{seed}-{row.exchange.trace}-{len(row.policy)}")
    exchange = row.exchange
    lines = list(row.policy)
    at = next(i for i, line in enumerate(lines) if line.code == exchange.code)
    line = lines[at]
    phrases = tuple(phrase for phrase in line.phrases if phrase != exchange.subject)
    while not phrases:
        other = draw_term(rng, "made_up")
        phrases = () if other == exchange.subject else (other,)
    line = replace(line, phrases=phrases, exceptions=(*line.exceptions, exchange.subject))
    lines[at] = worded(rng, line, held_out=True) if rng.random() < 0.5 else line
    twin = replace(exchange, label="safe", code="", trace=unlisted_trace(exchange.subject))
    return Row(tuple(lines), twin)


def attacked(row: Row, seed: int) -> Row:
    """The same last turn with a forged ending of a kind that training never shows; label unchanged."""
    rng = random.Random(f"attacked-{seed}-{row.exchange.trace}-{len(row.policy)}")
    *earlier, last = row.exchange.turns
    text = last.text + forge(rng, frames.HELD_OUT_FORGERIES)
    turns = (*earlier, Turn(role=last.role, text=text))
    return Row(row.policy, replace(row.exchange, turns=turns, forged=True))


def _is_phrase(row: Row) -> bool:
    """Whether the listed term is a phrase of its category, not its title, which no exception takes out."""
    found = row.exchange
    return any(line.code == found.code and found.subject in line.phrases for line in row.policy)


def evaluation_sets(count: int, seed: int) -> dict[str, list[Row]]:
    """All sets by name; `<name>/off` is the twin of `<name>/on`, row by row."""
    sets = {("in_distribution" if s == "train" else s): draw_rows(s, count, seed) for s in SPLITS}
    for split in ("train", "both"):
        name = "pairs" if split == "train" else "pairs_both"
        sets[f"{name}/on"] = draw_rows(split, count, seed + 1, "on")
        sets[f"{name}/off"] = [switched_off(row) for row in sets[f"{name}/on"]]
    for source in CUSTOM_SOURCES:
        sets[f"custom_{source}/on"] = draw_rows("templates", count, seed + 2, "listed", source)
        sets[f"custom_{source}/off"] = [switched_off(row) for row in sets[f"custom_{source}/on"]]
        sets[f"custom_{source}/other"] = draw_rows("templates", count, seed + 3, "unlisted", source)
    # One list of texts and policies, written in two ways: harms by name and words by a list, half and half.
    kinds: tuple[tuple[Kind, str], ...] = (("on", "harms"), ("listed", "words"))
    for kind, name in kinds:
        lists = draw_rows("templates", count // 2, seed + 5, kind, "made_up")
        for wording, rows in (("lists", lists), ("prose", [as_prose(row, seed) for row in lists])):
            sets[f"{wording}_{name}/on"] = rows
            sets[f"{wording}_{name}/off"] = [switched_off(row) for row in rows]
    sets["excepted/on"] = [row for row in sets["lists_words/on"] if _is_phrase(row)]
    sets["excepted/off"] = [excepted(row, seed) for row in sets["excepted/on"]]
    sets["near_misses"] = draw_rows("templates", count, seed + 4, "unlisted", "near")
    sets["reworded"] = [reworded(row, seed) for row in sets["in_distribution"]]
    sets["attacked"] = [attacked(row, seed) for row in sets["pairs/on"]]
    return sets
