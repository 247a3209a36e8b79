from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from guard.checkpoint import SHIPPED, open_checkpoint
from guard.errors import CheckpointError, KeyFileError
from guard.training import steps
from guard.training.pipeline import Pipeline
from guard.training.recipe import read_recipe
from guard.training.settings import Recipe


def over(base: Path, **more: Any) -> Recipe:
    """A recipe that takes a base as it is."""
    known: dict[str, Any] = {"base": str(base), "stages": (), "template": "rsafe-instruct-1"}
    return replace(read_recipe("smoke"), **known | more)


def pipeline(recipe: Recipe, output: Path) -> Pipeline:
    return Pipeline(recipe, output, lambda line: None, lambda line: None)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model folder whose own template is not the recipe's."""
    return Path(shutil.copytree(SHIPPED / "tiny", tmp_path / "base"))


def test_a_base_that_is_taken_as_it_is_is_measured_as_it_will_be_packaged(tmp_path: Path, base: Path) -> None:
    trained = pipeline(over(base), tmp_path / "out").grpo()
    assert trained.folder == tmp_path / "out" / "warm-start" / steps.MODEL
    opened = open_checkpoint(str(trained.folder))
    assert opened.template.version == "rsafe-instruct-1"
    assert open_checkpoint("tiny").template.version != opened.template.version
    again = pipeline(over(base), tmp_path / "out").grpo()
    assert again == trained
    other = pipeline(over(base, template="rsafe-compact-1"), tmp_path / "out").grpo()
    assert other.digest != trained.digest


@pytest.fixture
def trains(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was begun; nothing of it comes to an end."""
    begun: list[str] = []

    def begin(*arguments: object) -> None:
        begun.append("dataset")
        raise AssertionError("begun")

    monkeypatch.setattr("guard.training.steps.make_dataset", begin)
    return begun


def test_champion_and_key_are_read_before_anything_that_takes_long(
    tmp_path: Path, base: Path, trains: list[str]
) -> None:
    recipe = over(base, champion="no-such-checkpoint", gate={"drops": []})
    with pytest.raises(CheckpointError, match="no checkpoint 'no-such-checkpoint'"):
        pipeline(recipe, tmp_path / "out").checkpoint("a command", None)
    (tmp_path / "key").write_text("no key")
    with pytest.raises(KeyFileError, match="expected a private ed25519 key"):
        pipeline(over(base), tmp_path / "out").checkpoint("a command", tmp_path / "key")
    with pytest.raises(KeyFileError, match="expected a private ed25519 key"):
        pipeline(over(base), tmp_path / "out").checkpoint_anew(open_checkpoint("tiny"), tmp_path / "key")
    assert trains == []
