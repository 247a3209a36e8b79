"""`rsafe policy`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import yaml
from click.testing import CliRunner

from schemas.policy import Policy, canonical_categories, judgement_hash, policy_hash
from workers.commands.policy import policy
from workers.errors import SettingsError, UsageError
from workers.policies import PACKS, find_policies

COMMUNITY = next(found.policy for found in find_policies("") if found.policy.id == "community")


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(policy, [*arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_check_names_each_good_policy() -> None:
    assert "community 1: 10 categories, good" in _run("check", str(PACKS)).splitlines()


def test_check_as_json_gives_places_and_hashes() -> None:
    content = json.loads(_run("check", str(PACKS / "community.yaml"), "--json"))
    (found,) = content["policies"]
    assert content["ok"] is True
    assert found["policy_hash"] == policy_hash(COMMUNITY)
    assert found["line"] == 2
    assert found["categories"][-1] == "C10"


def test_check_tells_a_problem_of_each_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("id: 1\n")
    (tmp_path / "b.yaml").write_text("- x\n")
    with pytest.raises(SettingsError) as caught:
        _run("check", str(tmp_path))
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) == 2


def test_check_as_json_tells_a_problem_of_each_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('id: a\nversion: "1"\ncategories: 3\n')
    result = CliRunner().invoke(policy, ["check", str(tmp_path), "--json"])
    assert result.exit_code == 2
    assert json.loads(result.output) == {
        "ok": False,
        "problems": [
            {
                "file": str(tmp_path / "a.yaml"),
                "line": 3,
                "field": "categories",
                "sentence": "expected a list, got a number",
            }
        ],
    }


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        (("check", "absent.yaml"), "PATH"),
        (("list", "--path", "absent.yaml"), "--path"),
        (("list",), "RSAFE_"),
    ],
)
def test_a_path_that_is_not_there_is_named_with_its_source(
    arguments: tuple[str, ...], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSAFE_POLICIES__PATH", "absent.yaml")
    with pytest.raises(SettingsError, match=r"there is no file or folder absent\.yaml") as caught:
        _run(*arguments)
    assert str(caught.value).startswith(source)


def test_list_shows_a_line_per_policy() -> None:
    lines = _run("list").splitlines()
    assert [line.split()[0] for line in lines] == ["community", "example-custom", "minors", "rsafe-18"]
    assert "tenant northstar-games" in lines[1]
    assert [entry["id"] for entry in json.loads(_run("list", "--json"))] == [
        line.split()[0] for line in lines
    ]


def test_list_reads_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text((PACKS / "minors.yaml").read_text())
    monkeypatch.setenv("RSAFE_POLICIES__PATH", str(tmp_path))
    assert [line.split()[0] for line in _run("list").splitlines()] == ["minors"]


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_show_gives_a_policy_that_can_be_loaded_again(form: str) -> None:
    output = _run("show", "community", *(["--json"] if form == "json" else []))
    content = json.loads(output) if form == "json" else yaml.safe_load(output)
    shown = msgspec.convert(content, Policy)
    assert policy_hash(shown) == policy_hash(COMMUNITY)
    assert shown.categories == canonical_categories(COMMUNITY)


def test_hash_prints_both_hashes() -> None:
    assert _run("hash", "community").split() == [
        "policy_hash",
        policy_hash(COMMUNITY),
        "judgement_hash",
        judgement_hash(COMMUNITY),
    ]
    assert json.loads(_run("hash", "community", "--json"))["judgement_hash"] == judgement_hash(COMMUNITY)


def test_an_unknown_policy_is_told_with_those_that_are_loaded() -> None:
    with pytest.raises(
        UsageError, match="no policy 'nobody' is loaded; loaded are community, example-custom"
    ):
        _run("show", "nobody")


def test_control_characters_of_a_file_are_escaped(tmp_path: Path) -> None:
    text = (PACKS / "minors.yaml").read_text()
    (tmp_path / "a.yaml").write_text(
        text.replace("title: Strict", 'title: "\\e[31m').replace("of minors\n", '"\n', 1)
    )
    assert "\\x1b[31m" in _run("list", "--path", str(tmp_path))
