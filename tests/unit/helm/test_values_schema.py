from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import jsonschema
import pytest

from tests.unit.helm.chart import CHART, FULL, ROOT, SCHEMA, VALUES, merged
from workers.settings import setting_fields


def objects(schema: dict[str, Any], path: str = "$") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)] if schema.get("type") == "object" else []
    for name, part in schema.get("properties", {}).items():
        found += objects(part, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        found += objects(schema["items"], f"{path}[]")
    return found


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("values", [VALUES, merged(VALUES, FULL)], ids=["values.yaml", "full-values.yaml"])
def test_shipped_values_satisfy_the_schema(values: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(SCHEMA).validate(values)


def test_every_key_of_the_schema_has_a_default_in_values() -> None:
    assert set(VALUES) == set(SCHEMA["properties"])


def test_every_described_key_has_a_description() -> None:
    silent = [
        f"{path}.{name}"
        for path, schema in objects(SCHEMA)
        for name, part in schema.get("properties", {}).items()
        if "description" not in part and path != "$.settings"
    ]
    assert silent == []


def test_objects_with_keys_of_ours_refuse_unknown_ones() -> None:
    # A parent chart's own, and EnvVars of Kubernetes.
    foreign = {
        "$.global",
        "$.extraEnv[]",
        "$.guard.extraEnv[]",
        "$.conduct.extraEnv[]",
        "$.trainer.extraEnv[]",
    }
    lax = [path for path, schema in objects(SCHEMA) if "properties" in schema and path not in foreign]
    assert [
        path for path in lax if dict(objects(SCHEMA))[path].get("additionalProperties") is not False
    ] == []


def test_settings_keys_equal_the_worker_s() -> None:
    groups = SCHEMA["properties"]["settings"]["properties"]
    described = {(group, name) for group, part in groups.items() for name in part["properties"]}
    assert described == {field.path for field in setting_fields() if not field.secret}


def test_the_settings_part_is_fresh() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "helm" / "settings_schema.py"), "--check"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_each_secret_setting_is_a_reference() -> None:
    template = (CHART / "templates" / "_helpers.tpl").read_text(encoding="utf-8")
    secrets = [field for field in setting_fields() if field.secret]
    assert len(VALUES["secrets"]) == len(secrets)
    for field in secrets:
        assert f"variable: {field.variable}_FILE, " in template


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("settings", "guard", "chekpoint"), "x"),
        (("settings", "redis", "url"), "redis://user:password@host"),
        (("settings", "stream", "drain_s"), 0),
        (("settings", "log", "level"), "verbose"),
        (("replica",), 2),
        (("image", "digest"), "latest"),
        (("policies", "files"), {"../evil": "id: x"}),
        (("extraEnv",), [{"name": "RSAFE_GUARD__ENGINE", "value": "scripted"}]),
        (("checkpoint", "path"), "/absolute"),
    ],
)
def test_a_value_that_the_worker_would_refuse_is_refused(path: tuple[str, ...], value: object) -> None:
    values = copy.deepcopy(VALUES)
    place = values
    for step in path[:-1]:
        place = place.setdefault(step, {})
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(SCHEMA).validate(values)
