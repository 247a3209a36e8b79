from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from guard.checkpoint import SHIPPED
from guard.errors import TrainingError
from guard.training import steps
from guard.training.recipe import read_recipe
from guard.training.settings import ABLATIONS, Recipe
from tests.unit.guard.training.labelled_rows import twins
from tests.unit.guard.training.measured import report, rows_with

SMOKE = read_recipe("smoke")


@pytest.mark.parametrize(("name", "modes"), [("reasoning", ("fast",)), ("reinforcement", ("think", "fast"))])
@pytest.mark.parametrize("evaluation", [None, {"draws": 200}])
def test_each_ablation_has_its_settings(
    name: str, modes: tuple[str, ...], evaluation: dict[str, int] | None
) -> None:
    recipe = replace(SMOKE, evaluation=evaluation)
    settings = steps.evaluation_settings(recipe, ABLATIONS[name])
    assert (settings.ablation, settings.modes) == (ABLATIONS[name], modes)
    assert settings.draws == (200 if evaluation else 1000)
    assert not settings.calibrates


def test_a_recipe_that_says_nothing_of_rows_has_no_settings() -> None:
    assert steps.evaluation_settings(SMOKE) is None


GATE: dict[str, Any] = {"floors": [{"suite": "real/*", "figure": "parse", "least": 0.9}]}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits of the rows that a data set is made of."""
    splits = ["train"]

    def build(settings: object, renderer: object, folder: Path) -> None:
        folder.mkdir(parents=True)

    rows = twins(2)
    monkeypatch.setattr("guard.training.data.build.build_dataset", build)
    monkeypatch.setattr(
        "guard.training.data.rows.read_rows",
        lambda folder: [replace(row, split=split) for split in splits for row in rows],
    )
    return splits


def over_tiny(**more: Any) -> Recipe:
    return replace(SMOKE, data={"sources": [{"kind": "generator"}]}, **more)


@pytest.mark.parametrize(
    ("splits", "more", "missing"),
    [
        (["train"], {"gate": GATE}, "dev"),
        (["train"], {}, ""),
        (["train", "dev"], {"gate": GATE, "grpo": {}}, ""),
        (["dev"], {"grpo": {}}, "train"),
        (["dev"], {"gate": GATE}, ""),
    ],
)
def test_rows_that_a_later_stage_needs_are_missed_in_the_data_set(
    tmp_path: Path, built: list[str], splits: list[str], more: dict[str, Any], missing: str
) -> None:
    built[:] = splits
    recipe, tiny = over_tiny(**more), SHIPPED / "tiny"
    if not missing:
        steps.make_dataset(recipe, tiny, tmp_path)
        return
    with pytest.raises(TrainingError, match=f"found no row of the split {missing}; expected one or more"):
        steps.make_dataset(recipe, tiny, tmp_path)


def test_a_recipe_without_dev_rows_is_measured_on_the_generators_alone(
    tmp_path: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def evaluate(*arguments: object, **more: object) -> dict[str, Any]:
        asked.update(more)
        return report(rows_with(5, 0, 0, 5)) | {"engine": "none"}

    monkeypatch.setattr("guard.training.evaluation.evaluate", evaluate)
    steps.measure(over_tiny(), SHIPPED / "tiny", tmp_path, tmp_path, None, {}, print, floor=True)
    assert asked == {"rows": [], "log": print, "settings": None}
    assert (tmp_path / "report.html").is_file()
