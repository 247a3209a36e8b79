"""The guide's example can be used as it stands, and the page shows what it says, prints and costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from guard.errors import RecipeError
from guard.training import steps
from guard.training.base_model import open_base
from guard.training.data.sources import read_raw_rows
from guard.training.grpo_settings import GrpoSettings
from guard.training.recipe import SECTIONS, read_recipe, section
from tests.unit.docs.pages import ROOT, Page
from workers.policies import find_policies

OWN = ROOT / "docs" / "guides" / "own"
RECIPE = (OWN / "recipe.yaml").read_text(encoding="utf-8")
PAGE = Page(ROOT / "docs" / "guides" / "train-your-own.md")


def shown(language: str) -> list[Any]:
    blocks = [block.text for block in PAGE.blocks if block.language == language]
    return [yaml.safe_load(text) for text in blocks] if language == "yaml" else blocks


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


def test_every_section_of_the_recipe_is_valid() -> None:
    recipe = read_recipe(str(OWN / "recipe.yaml"))
    for name in SECTIONS:
        assert getattr(recipe, name) is not None
        section(recipe, name)


def test_rewards_and_draws_are_those_of_the_shipped_recipe_at_7b() -> None:
    own, shipped = (section(read_recipe(name), "grpo") for name in (str(OWN / "recipe.yaml"), "rsafe-7b"))
    assert isinstance(own, GrpoSettings)
    for field in ("rewards", "group", "temperature", "top_p", "kl_weight", "loss", "updates_per_generation"):
        assert getattr(own, field) == getattr(shipped, field)


def test_the_page_shows_rows_and_mapping_as_they_are_in_the_files() -> None:
    lines = (OWN / "chats.jsonl").read_text(encoding="utf-8").splitlines()
    (example,) = shown("jsonl")
    assert set(example.splitlines()) <= set(lines)
    assert f"{len(lines)} invented messages" in PAGE.text
    assert yaml.safe_load((OWN / "chats-mapping.yaml").read_text(encoding="utf-8")) in shown("yaml")
    (found,) = find_policies(str(OWN / "bikes.yaml"))
    assert f"--policy {found.policy.id} " in PAGE.text


def test_every_code_of_the_rows_stands_in_the_mapping() -> None:
    codes = {code for _, row in read_raw_rows(OWN / "chats.jsonl") for code in row.categories}
    mapping = yaml.safe_load((OWN / "chats-mapping.yaml").read_text(encoding="utf-8"))
    assert codes == set(mapping["views"][0]["unsafe"])


def test_the_rows_are_built_and_the_card_says_of_them_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    recipe = read_recipe(str(OWN / "recipe.yaml"))
    steps.make_dataset(recipe, open_base(recipe).folder, tmp_path)
    card = (tmp_path / steps.ROWS / "data_card.md").read_text(encoding="utf-8")
    (own,) = (line for line in card.splitlines() if line.startswith("| chats | "))
    assert own in PAGE.text.splitlines()
    splits = [json.loads(line)["split"] for line in (OWN / "chats.jsonl").read_text().splitlines()]
    assert f"Of the {splits.count('train')} own rows for training" in PAGE.text


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("rows_per_step: 16", "rows_per_step: 15"),
        ("learning_rate: 1e-6", "learning_rate: 1e+6"),
        ("save_every: 4", "save_evry: 4"),
    ],
)
def test_wrong_values_are_refused_as_the_page_shows(mine: Path, right: str, wrong: str) -> None:
    mine.write_text(RECIPE.replace(right, wrong), encoding="utf-8")
    with pytest.raises(RecipeError) as refused:
        read_recipe(str(mine))
    assert f"rsafe: {str(refused.value).replace(str(mine), mine.name)}" in PAGE.text.splitlines()


@pytest.mark.parametrize("name", ["warm_start", "gate"])
def test_sections_on_the_page_fit_into_the_shipped_recipe(mine: Path, name: str) -> None:
    (found,) = (block for block in shown("yaml") if name in block)
    whole = yaml.safe_load((ROOT / "guard/recipes/lora-1gpu.yaml").read_text(encoding="utf-8"))
    # PyYAML reads YAML 1.1, in which 1e-5 is text; it writes it back as it stood.
    mine.write_text(yaml.safe_dump(whole | found).replace("'", ""), encoding="utf-8")
    section(read_recipe(str(mine)), name)


def test_fields_of_the_table_are_fields(mine: Path) -> None:
    rows = PAGE.text.partition("| Field | What to do with it |")[2].partition("\n\n")[0].splitlines()[2:]
    named = {word for row in rows for word in row.split("|")[1].split("`")[1::2]}
    recipe = read_recipe("rsafe-7b")
    known = {*type(recipe).__struct_fields__, *type(section(recipe, "data")).__struct_fields__}
    known |= set(GrpoSettings.__struct_fields__)
    assert len(named) > 15
    assert {name.rpartition(".")[2] for name in named} <= known


def test_the_page_shows_what_the_calculation_says() -> None:
    command = (line for block in shown("sh") for line in block.splitlines() if "cost.py" in line)
    options = next(command).partition("cost.py")[2].split()
    run = subprocess.run(
        [sys.executable, "docs/guides/own/cost.py", *options],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert run.stdout in shown("text")
