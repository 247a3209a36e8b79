"""Rows of the project's own generator; a share has a twin in which the violated category is switched off.

The draws for `dev` hold out sentence templates and made-up words; those for `train` come from other seeds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from guard.training.data.drafts import Draft, chance
from guard.training.data.rows import LabelledRow
from guard.training.data.settings import GeneratorSource, Split
from guard.training.generator.conversations import Row, draw_exchange, terms_of
from guard.training.generator.conversations import Split as HeldOut
from guard.training.generator.evaluation_sets import switched_off
from guard.training.generator.policies import PolicyLine, draw_policy, wordings_with
from schemas.policy import Category, Policy

# The generator writes English, and nobody's words: the licence is the project's own.
_LICENCE = "Apache-2.0"


def generated(source: GeneratorSource, seed: int) -> Iterator[Draft]:
    """`train_rows` and `dev_rows` draws, each under a policy of its own.

    Behind the settings' share of the unsafe ones (in `dev`, behind all) stands a twin; which ones follows
    from the seed.
    """
    counts: tuple[tuple[Split, int], ...] = (("train", source.train_rows), ("dev", source.dev_rows))
    for split, count in counts:
        for number in range(count):
            drawn = _drawn(source, split, f"data-{split}-{seed}-{number}")
            row = _row(source, split, f"{source.name}-{split}-{number}", drawn)
            paired = split == "dev" or chance(seed, "generator twin", row.id) < source.twins
            if row.label == "unsafe" and paired:
                yield from _pair(source, row, drawn)
            else:
                yield Draft(row, frozenset(row.codes), perturb=source.perturb)


def _drawn(source: GeneratorSource, split: Split, seed: str) -> Row:
    rng = random.Random(seed)
    terms = terms_of(source.style)
    held: HeldOut = "train"
    written = wordings_with(source.prose)
    if split == "dev":
        terms, held = "made_up", "templates"
        written = replace(written, held_out=True)
    while True:
        policy = draw_policy(rng, terms, wordings=written)
        exchange = draw_exchange(rng, policy, held, source=terms, style=source.style)
        if exchange is not None:
            return Row(policy, exchange)


def _pair(source: GeneratorSource, on: LabelledRow, drawn: Row) -> Iterator[Draft]:
    off = _row(source, on.split, f"{on.id}~off", switched_off(drawn))
    off = msgspec.structs.replace(off, group=on.group, twin=on.id)
    yield Draft(msgspec.structs.replace(on, twin=off.id), frozenset(on.codes), perturb=source.perturb)
    yield Draft(off, frozenset(), perturb=source.perturb)


def _row(source: GeneratorSource, split: Split, name: str, drawn: Row) -> LabelledRow:
    exchange = drawn.exchange
    return LabelledRow(
        id=name,
        source=source.name,
        split=split,
        group=name,
        policy=policy_of_lines(drawn.policy),
        turns=exchange.turns,
        label=exchange.label,
        codes=(exchange.code,) if exchange.code else (),
        licence=_LICENCE,
        rationale=exchange.trace,
    )


def policy_of_lines(lines: tuple[PolicyLine, ...]) -> Policy:
    """A drawn policy in the form of the wire."""
    categories = tuple(
        Category(code=line.code, title=line.title, definition=line.definition, exceptions=line.exceptions)
        for line in lines
    )
    return Policy(id="generated", version="1", categories=categories)
