from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.helm.goldens import CASES, FOLDER, NAMES, VALUES, VERSIONS, normalised, path
from tests.unit.helm.kubernetes_schemas import errors
from tests.unit.helm.rendering import parse

each_case = pytest.mark.parametrize(("values", "version"), CASES, ids=NAMES)


def test_each_value_file_has_its_goldens_and_none_is_left_over() -> None:
    assert {file.name for file in FOLDER.glob("*.yaml")} == {f"{name}.yaml" for name in NAMES}


def test_there_are_ten_value_files_and_two_versions() -> None:
    assert len(VALUES) >= 10
    assert len(VERSIONS) >= 2


@each_case
def test_a_server_accepts_every_object(values: Path, version: str) -> None:
    refused = [
        f"{part['kind']}/{part['metadata']['name']} {error}"
        for part in parse(path(values, version).read_text(encoding="utf-8"))
        for error in errors(part, version)
    ]
    assert refused == []


def test_the_order_of_objects_and_keys_makes_no_difference() -> None:
    one = {"kind": "A", "metadata": {"name": "a"}}
    two = {"metadata": {"name": "b"}, "kind": "A"}
    assert normalised([two, one]) == normalised([one, two])


def test_a_long_text_is_its_hash() -> None:
    text = "x" * 5000
    part = {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": text}}
    assert " of 5000 characters" in normalised([part])
    assert text not in normalised([part])
