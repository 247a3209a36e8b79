"""JSON Schemas and structs say the same; generated files are fresh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas import generate
from schemas.json_schema import NOUNS, Noun, wire_schema
from tests.unit.schemas.strategies import instances

_VALIDATORS = {noun.name: Draft202012Validator(wire_schema(noun)) for noun in NOUNS}


@given(data=st.data())
@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.name)
@settings(
    max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)
def test_any_instance_is_accepted_by_its_schema_and_survives_the_wire(
    noun: Noun, data: st.DataObject
) -> None:
    instance = data.draw(instances(noun.struct))
    wire = msgspec.json.encode(instance)
    _VALIDATORS[noun.name].validate(json.loads(wire))
    assert msgspec.json.decode(wire, type=noun.struct) == instance


def _described(schema: Any) -> list[str]:
    objects = [schema, *schema.get("$defs", {}).values()]
    return [
        f"{one['title']}.{name}"
        for one in objects
        for name, field in one["properties"].items()
        if len(field.get("description", "")) < 8
    ]


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.name)
def test_every_struct_and_field_is_described(noun: Noun) -> None:
    schema = wire_schema(noun)
    assert _described(schema) == []
    assert all(one["description"] for one in [schema, *schema.get("$defs", {}).values()])


def test_volatile_fields_of_a_decision_are_marked() -> None:
    schema = wire_schema(next(noun for noun in NOUNS if noun.name == "decision"))
    marked = {name for name, field in schema["properties"].items() if field.get("x-volatile")}
    assert marked == {"score", "raw_score", "cache", "timings", "tokens", "steps", "trace_id"}
    inner = schema["$defs"]["CategoryDecision"]["properties"]
    assert {name for name, field in inner.items() if field.get("x-volatile")} == {"score"}


def test_checked_in_files_are_fresh() -> None:
    assert generate.stale(generate.generated()) == [], "run `python -m schemas.generate`"


def test_a_changed_absent_or_left_over_file_is_stale(tmp_path: Path) -> None:
    same, changed, absent = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    same.write_text("1")
    changed.write_text("1")
    assert generate.stale({same: "1", changed: "2", absent: "3"})[:2] == [changed, absent]
    files = generate.generated()
    first = next(iter(files))
    assert generate.stale({path: text for path, text in files.items() if path != first}) == [first]


def test_check_reports_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wire" / "new.json"
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    monkeypatch.setattr(generate, "generated", lambda: {path: "text"})
    assert generate.main(["--check"]) == 1
    assert "new.json is stale" in capsys.readouterr().err
    assert not path.exists()
    assert generate.main([]) == 0
    assert path.read_text() == "text"
    (tmp_path / "wire" / "old.json").write_text("x")
    assert generate.main([]) == 0
    assert [file.name for file in path.parent.iterdir()] == ["new.json"]


def test_a_field_without_docstring_is_refused() -> None:
    class Bare(msgspec.Struct):
        """No field is described."""

        name: str

    with pytest.raises(LookupError, match=r"Bare\.name"):
        wire_schema(Noun("bare", 1, Bare))
