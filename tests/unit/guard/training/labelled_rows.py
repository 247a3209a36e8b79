"""Rows for the tests of training: twins of the generator under the shipped checkpoint's kind of policy."""

from collections.abc import Sequence
from typing import Literal

from guard.prompt import Turn
from guard.training.data.rows import LabelledRow
from guard.training.generator.evaluation_sets import draw_rows, switched_off
from guard.training.generator.policies import PolicyLine
from schemas.policy import Category, Policy

POLICY = Policy(
    id="p",
    version="1",
    categories=(
        Category(code="C1", title="weapons", definition="guns; knives"),
        Category(code="C2", title="gambling", definition="casino; poker", exceptions=("chess",)),
    ),
)


def row(
    number: int = 0,
    label: Literal["safe", "unsafe"] = "unsafe",
    codes: tuple[str, ...] = ("C2",),
    text: str = "the casino opens at nine",
    twin: str = "",
    rationale: str = "",
) -> LabelledRow:
    return LabelledRow(
        id=f"row-{number}",
        source="test",
        split="train",
        group=str(number),
        policy=POLICY,
        turns=(Turn(role="user", text=text),),
        label=label,
        codes=codes if label == "unsafe" else (),
        twin=twin,
        rationale=rationale,
    )


def twins(count: int, seed: int = 1) -> list[LabelledRow]:
    """`count` pairs: the same text with its category in the policy, and taken out of it."""
    rows = []
    for number, on in enumerate(draw_rows("train", count, seed, "on")):
        for drawn, name, other in ((on, "on", "off"), (switched_off(on), "off", "on")):
            exchange = drawn.exchange
            rows.append(
                LabelledRow(
                    id=f"{number}-{name}",
                    source="generator",
                    split="train",
                    group=str(number),
                    policy=_policy(f"{number}-{name}", drawn.policy),
                    turns=tuple(exchange.turns),
                    label=exchange.label,
                    codes=(exchange.code,) if exchange.code else (),
                    twin=f"{number}-{other}",
                    rationale=exchange.trace,
                )
            )
    return rows


def _policy(name: str, lines: Sequence[PolicyLine]) -> Policy:
    categories = tuple(
        Category(
            code=line.code, title=line.title, definition=line.definition, exceptions=tuple(line.exceptions)
        )
        for line in lines
    )
    return Policy(id=name, version="1", categories=categories)
