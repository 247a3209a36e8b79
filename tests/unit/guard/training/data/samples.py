"""Rows, policies and files of these tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from guard.prompt import Turn
from guard.training.data.drafts import Draft
from guard.training.data.rows import LabelledRow
from schemas.policy import Category, Policy


def policy(*codes: str, threshold: float = 0.5, name: str = "") -> Policy:
    """A policy with these categories; their definitions are lists."""
    categories = tuple(
        Category(code=c, title=f"Title of {c}", definition=f"first of {c}; second of {c}; third of {c}")
        for c in codes
    )
    return Policy(id=name or "p-" + "-".join(codes), version="1", categories=categories, threshold=threshold)


ONE_POLICY = policy("A1", "A2", "A3")


def row(number: int, **changes: Any) -> LabelledRow:
    """An unsafe row of `train`, with a text of its own."""
    whole = LabelledRow(
        id=f"s-{number}",
        source="s",
        split="train",
        group=f"g-{number}",
        policy=ONE_POLICY,
        turns=(Turn(role="user", text=f"secret words number {number}"),),
        label="unsafe",
        codes=("A1",),
    )
    return msgspec.structs.replace(whole, **changes)


def draft(number: int, *, safe: bool = False, **changes: Any) -> Draft:
    """A draft of such a row; what it touches is what it violates."""
    if safe:
        changes = {"label": "safe", "codes": (), **changes}
    made = row(number, **changes)
    return Draft(made, frozenset(made.codes))


def raw(number: int, text: str, **changes: Any) -> dict[str, Any]:
    """A row as it stands in a file."""
    whole = {
        "id": f"chats-{number}",
        "source": "chats",
        "split": "train",
        "kind": "prompt",
        "messages": [{"role": "user", "content": text}],
        "label": "safe",
        "categories": [],
        "licence": "MIT",
    }
    return {**whole, **changes}


def write_lines(path: Path, rows: Iterable[object]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


MAPPING = """
note: of the tests
views:
  - {name: own, policy: own.yaml, unsafe: {"*": unsafe, bad: C1}, safe: {"*": safe}}
"""
POLICY = """
id: own
version: "1"
categories:
  - {code: C1, title: Bad things, definition: bad things; worse things}
  - {code: C2, title: Other things, definition: other things; further things}
"""


def write_mapping(folder: Path, mapping: str = MAPPING, own: str = POLICY) -> Path:
    """A mapping and its policy in a folder."""
    (folder / "own.yaml").write_text(own, encoding="utf-8")
    path = folder / "mapping.yaml"
    path.write_text(mapping, encoding="utf-8")
    return path
