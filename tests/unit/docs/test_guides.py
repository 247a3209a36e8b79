"""The policies and messages of the guides are what the pages show, and can be used."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.unit.docs.pages import ROOT, Page
from workers.policies import find_policies

GUIDES = ROOT / "docs" / "guides"
SHOWN = [
    yaml.safe_load(block.text)
    for block in Page(GUIDES / "writing-policies.md").blocks
    if block.language == "yaml"
]


@pytest.mark.parametrize("name", ["first", "second"])
def test_the_policy_on_the_page_is_the_one_in_the_file(name: str) -> None:
    (found,) = find_policies(str(GUIDES / f"{name}.yaml"))
    assert found.policy.id == name
    assert yaml.safe_load((GUIDES / f"{name}.yaml").read_text()) in SHOWN


def test_the_messages_say_what_is_expected_of_them() -> None:
    lines = [json.loads(line) for line in (GUIDES / "messages.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == {"safe", "unsafe"}
    assert all(set(line) == {"text", "id"} for line in lines)
