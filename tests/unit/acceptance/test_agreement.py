from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.agreement import duplicates, volatile_paths
from tests.acceptance.evidence import Decided
from tests.acceptance.records import Place, Record

FOLDER = Path(__file__).parents[3] / "schemas"
SCHEMA: dict[str, Any] = json.loads((FOLDER / "wire" / "decision.v1.schema.json").read_text("utf-8"))
BODY: dict[str, Any] = json.loads(
    (FOLDER / "examples" / "decision" / "v1" / "good_judged.json").read_text("utf-8")
)
FIELDS = sorted(SCHEMA["properties"])
VOLATILE = {"score", "raw_score", "cache", "timings", "tokens", "steps", "trace_id"}


def found(first: dict[str, Any], other: dict[str, Any]) -> set[tuple[str, str]]:
    def decided(offset: int, body: dict[str, Any]) -> Decided:
        return Decided(Record(Place("decisions", 0, offset), b""), body, Place("events", 0, 1))

    violations = duplicates([decided(0, first), decided(1, other)], volatile_paths(SCHEMA))
    return {(violation.kind, violation.detail) for violation in violations}


@pytest.mark.parametrize("field", sorted(set(FIELDS) - VOLATILE - {"decision_id", "lane", "epoch", "status"}))
def test_every_field_that_is_not_volatile_must_agree(field: str) -> None:
    assert found(BODY, BODY | {field: "something else"}) == {("disagreement", field)}


@pytest.mark.parametrize("field", sorted(VOLATILE))
def test_volatile_fields_may_differ(field: str) -> None:
    assert found(BODY, BODY | {field: "something else"}) == set()


def test_a_field_that_only_one_has_is_a_disagreement() -> None:
    assert found(BODY, BODY | {"note": 1}) == {("disagreement", "note")}
    assert found({**BODY, "note": 1}, BODY) == {("disagreement", "note")}


def test_volatile_marks_are_followed_into_items_and_references() -> None:
    schema = {
        "$ref": "#/$defs/A",
        "$defs": {
            "A": {
                "properties": {
                    "b": {"type": "array", "items": {"$ref": "#/$defs/C"}},
                    "d": {"$ref": "#/$defs/C"},
                }
            },
            "C": {"properties": {"e": {"anyOf": [{"x-volatile": True}, {"type": "null"}]}, "f": {}}},
        },
    }
    assert volatile_paths(schema) == {("b", "[]", "e"), ("d", "e")}
