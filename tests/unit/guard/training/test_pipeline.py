from __future__ import annotations

import json
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
from guard.training.settings import BatchSettings, ModelSettings, Phase, Recipe, Stage
from guard.training.stages import digest_of, record_of


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


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Names of the ablations that each gate's page was given; training and measuring write a file alone."""
    given: list[set[str]] = []

    def dataset(recipe: Recipe, base: object, folder: Path) -> None:
        (folder / steps.ROWS).mkdir()
        counts = {"safe": 1, "unsafe": 2}
        card = {"train": counts, "dev": counts, "dropped": {"balanced_out": 3}}
        (folder / steps.ROWS / "data_card.json").write_text(json.dumps(card))

    def reinforced(recipe: Recipe, model: Path, dataset: Path, folder: Path, log: object) -> None:
        (folder / steps.MODEL).mkdir()
        (folder / steps.MODEL / "config.json").write_text(json.dumps(recipe.grpo))

    def measure(recipe: Recipe, model: Path, *more: Any, floor: bool) -> None:
        (more[1] / steps.REPORT).write_text("{}")

    def judge(recipe: Recipe, challenger: Path, champion: object, others: Any, *more: Any) -> None:
        given.append(set(others))

    for name, stub in {
        "make_dataset": dataset,
        "train_reinforced": reinforced,
        "measure": measure,
        "judge_gate": judge,
    }.items():
        monkeypatch.setattr(steps, name, stub)
    return given


def test_a_gates_page_shows_ablations_of_this_runs_weights_alone(
    tmp_path: Path, base: Path, shown: list[set[str]]
) -> None:
    data = {"sources": [{"kind": "jsonl", "path": "rows"}]}
    first = over(base, data=data, grpo={"learning_rate": 1e-6}, gate={"drops": []})
    run = pipeline(first, tmp_path / "out")
    run.ablation("reasoning")
    run.ablation("reinforcement")
    run.gate()
    assert shown.pop() == {"without reasoning", "without reinforcement"}
    other = replace(first, grpo={"learning_rate": 1e-5})
    pipeline(other, tmp_path / "out").gate()
    # The warm start's weights are those of both recipes.
    assert shown.pop() == {"without reinforcement"}
    pipeline(replace(other, evaluation_seed=1), tmp_path / "out").gate()
    assert shown.pop() == set()


def test_a_run_says_once_what_became_of_the_rows(tmp_path: Path, base: Path, shown: list[set[str]]) -> None:
    said: list[str] = []
    recipe = over(base, data={"sources": [{"kind": "jsonl", "path": "rows"}]})
    run = Pipeline(recipe, tmp_path / "out", said.append, lambda line: None)
    run.dataset()
    run.dataset()
    assert said == [
        "dataset: started",
        "dataset: done",
        "dataset: train 1 safe and 2 unsafe, dev 1 safe and 2 unsafe; dropped: balanced_out 3; "
        "dataset/rows/data_card.md",
    ]


def test_a_warm_start_from_scratch_reads_the_rows_that_its_stages_draw(tmp_path: Path) -> None:
    batch = BatchSettings(task="rows", policies=2, exchanges=2)
    recipe = replace(
        read_recipe("smoke"),
        model=ModelSettings(vocabulary=900, width=32, layers=1, head_width=16, hidden=32, tokenizer="rows"),
        stages=(Stage(name="rows", seed=0, phases=(Phase(steps=2, batch=batch),)),),
        data={"sources": [{"kind": "generator", "train_rows": 12, "dev_rows": 2}], "max_prompt_tokens": 1500},
        threads=1,
    )
    lines: list[str] = []
    run = Pipeline(recipe, tmp_path, lines.append, lines.append)
    trained = run.warm_start()
    record = record_of(tmp_path / "warm-start")
    assert record is not None
    assert record.inputs["rows"] == digest_of(tmp_path / "dataset", steps.ROWS)
    assert any(line.startswith("rows: ") for line in lines)
    opened = open_checkpoint(str(trained.folder))
    vocabulary = (opened.path / "tokenizer.json").read_bytes()
    assert vocabulary == (tmp_path / "dataset" / steps.TOKENIZER / "tokenizer.json").read_bytes()
    drawn_by_the_generator = replace(recipe, stages=read_recipe("smoke").stages)
    assert not drawn_by_the_generator.draws_rows
