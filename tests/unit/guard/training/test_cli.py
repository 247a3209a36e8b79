import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from guard.checkpoint import open_checkpoint
from guard.errors import CheckpointError, TrainingError
from guard.training.cli import train
from guard.training.evaluation import Outcome
from guard.training.evaluation_settings import MODES
from guard.training.export import export
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.package import data_hash, package, parameter_count
from guard.training.recipe import SHIPPED_RECIPES, read_recipe
from guard.training.run_log import Log
from guard.training.settings import Recipe
from guard.training.stages import sole_run
from guard.training.suite_report import suite_report
from guard.training.synthetic_figures import report_of
from guard.training.tokenizer import generator_texts, save_tokenizer, train_tokenizer
from tests.unit.guard.training.measured import rows_with

SMOKE, TINY = read_recipe("smoke"), read_recipe("tiny")
UNCALIBRATED: dict[str, Any] = {"calibration": {"data": {}, "chosen": {"fast": {"none": "why"}}, "modes": {}}}


def test_commands_are_there() -> None:
    result = CliRunner().invoke(train, ["--help"])
    assert result.exit_code == 0
    for command in ("dataset", "warm-start", "grpo", "evaluate", "gate", "package", "run"):
        assert command in result.output


def test_a_package_is_a_verified_checkpoint_with_a_card(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from guard.prompt import load_template
    from guard.training.model import TinyGuard

    template = load_template(SMOKE.template)
    texts = generator_texts(template, SMOKE.seed, groups=60)
    tokenizer = train_tokenizer(template, SMOKE.model.vocabulary, texts)
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    torch.manual_seed(0)
    weights = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in TinyGuard(SMOKE.model).state_dict().items()}, weights)
    folder = tmp_path / "checkpoint"
    export(SMOKE, tmp_path / "tokenizer", weights, folder)
    sets = evaluation_sets(4, 1)
    by_set = {name: [Outcome("safe")] * len(rows) for name, rows in sets.items()}
    outcomes: dict[str, dict[str, list[Outcome]]] = dict.fromkeys(MODES, by_set)
    report = report_of(sets, outcomes, 1) | {"rows": 4, "seed": 1, "engine": "none"} | UNCALIBRATED
    training = {"parameters": parameter_count(SMOKE), "concepts": 14, "made_in": "no time"}
    package(SMOKE, folder, report, command="rsafe train run", training=training)
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.verified
    assert checkpoint.template.version == "rsafe-compact-2"
    assert checkpoint.manifest is not None
    assert checkpoint.manifest.data_hash == data_hash(SMOKE)
    assert checkpoint.manifest.gate["passed"] is False
    assert checkpoint.manifest.gate["calibration"] == UNCALIBRATED["calibration"]["chosen"]
    card = (folder / "README.md").read_text()
    assert "It misses these bars" in card
    assert "could not be calibrated" in card
    assert "{" not in card.replace("\\boxed{safe}", "")
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 2
    assert generation["pad_token_id"] == 0


def test_the_shipped_recipe_has_its_size() -> None:
    assert 1_000_000 < parameter_count(TINY) < 1_200_000


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an evaluation would write, without vLLM; the answer tells what was asked."""
    asked: dict[str, Any] = {"times": 0, "hits": 20}

    def evaluate(checkpoint: Path, count: int, seed: int, folder: Path, **more: Any) -> dict[str, Any]:
        asked.update(path=checkpoint, count=count, seed=seed, times=asked["times"] + 1)
        (folder / "calibration.json").write_text("a calibration")
        (folder / "reliability.svg").write_text("a picture")
        sets = evaluation_sets(4, 1)
        perfect = {name: [Outcome(row.exchange.label) for row in rows] for name, rows in sets.items()}
        report = report_of(sets, dict.fromkeys(MODES, perfect), 1)
        bar = {"mode": "fast", "figure": "ece", "value": 0.07, "most": 0.05, "met": False}
        report["bars"].append(bar)
        known = {"rows": count, "seed": seed, "engine": "vllm 1", "passed": False}
        rows = rows_with(hits=asked["hits"], misses=20 - asked["hits"], alarms=0, passes=20)
        digest = {"weights_digest": open_checkpoint(str(checkpoint)).weights_digest}
        return report | known | digest | UNCALIBRATED | suite_report(rows, 200, 1)

    monkeypatch.setattr("guard.training.evaluation.evaluate", evaluate)
    return asked


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, evaluated: dict[str, Any]) -> list[str]:
    """The stages before an evaluation write a copy of the shipped model; the answer tells which ran."""
    ran: list[str] = []

    def make_dataset(recipe: Recipe, base: Path | None, folder: Path) -> None:
        ran.append("dataset")
        (folder / "tokenizer").mkdir()

    def train_from_scratch(recipe: Recipe, dataset: Path, folder: Path, log: Log) -> None:
        ran.append("warm-start")
        wanted = ("*.json", "*.jinja", "*.safetensors")
        (folder / "model").mkdir()
        (folder / "stages").mkdir()
        for file in (file for form in wanted for file in open_checkpoint("tiny").path.glob(form)):
            if file.name not in ("manifest.json", "calibration.json"):
                shutil.copy(file, folder / "model")
        lines = [{"stage": "a", "seconds": 60.0, "loss": 1 / step} for step in (1, 2, 3)]
        (folder / "stages" / "progress.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))

    monkeypatch.setattr("guard.training.steps.make_dataset", make_dataset)
    monkeypatch.setattr("guard.training.steps.train_from_scratch", train_from_scratch)
    return ran


def test_a_run_makes_every_stage_once_and_a_checkpoint(
    tmp_path: Path, trained: list[str], evaluated: dict[str, Any]
) -> None:
    arguments = ["run", "--recipe", "smoke", "--output", str(tmp_path)]
    first = CliRunner().invoke(train, arguments, catch_exceptions=False)
    again = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert trained == ["dataset", "warm-start"]
    assert evaluated["times"] == 1
    assert "checkpoint: done" in first.output
    assert "checkpoint: already there" in again.output
    checkpoint = open_checkpoint(str(tmp_path / "checkpoint"))
    assert checkpoint.verified
    assert checkpoint.name == "rsafe-smoke"
    assert checkpoint.manifest is not None
    assert checkpoint.manifest.command == "rsafe train run --recipe smoke --output training"
    assert checkpoint.manifest.training["made_in"] == "1 minutes on 2 CPU cores"
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "<h2>Learning curves</h2>" in page
    assert set(checkpoint.manifest.training["stages"]) == {"dataset", "warm-start", "evaluation"}
    assert checkpoint.manifest.data_hash == data_hash(SMOKE)


def test_only_what_a_changed_recipe_reaches_is_made_anew(
    tmp_path: Path, trained: list[str], evaluated: dict[str, Any]
) -> None:
    file, text = tmp_path / "mine.yaml", (SHIPPED_RECIPES / "smoke.yaml").read_text()
    arguments = ["run", "--recipe", str(file), "--output", str(tmp_path / "out")]
    for change, ran, times in (
        ("", 2, 1),
        ("evaluation_rows: 21", 2, 2),  # measured anew, not trained
        ("save_every: 6", 2, 2),  # the weights are the same
        ("threads: 1", 3, 2),  # trained anew on the same data, here to the same weights
        ("name: other", 3, 2),  # packaged anew alone
    ):
        field = change.partition(":")[0]
        file.write_text(re.sub(rf"(?m)^{field}: .*$", change, text, count=1) if change else text)
        CliRunner().invoke(train, arguments, catch_exceptions=False)
        assert (len(trained), evaluated["times"]) == (ran, times), change
        text = file.read_text()
    assert open_checkpoint(str(tmp_path / "out" / "checkpoint")).name == "rsafe-other"


def test_a_checkpoint_is_measured_without_training_it(evaluated: dict[str, Any], tmp_path: Path) -> None:
    arguments = ["evaluate", "--checkpoint", "tiny", "--output", str(tmp_path)]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert (evaluated["path"].name, evaluated["count"], evaluated["seed"]) == ("tiny", 500, 4242)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "dataset", "evaluation"]
    assert "fast   ece                    0.0700  wanted at most 0.05  MISSED" in result.output
    CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert evaluated["times"] == 1  # the same weights: measured once


def ungated(folder: Path, gate: str = "") -> str:
    """The recipe of the shipped checkpoint with another gate, or with none."""
    text = (SHIPPED_RECIPES / "tiny.yaml").read_text()
    (folder / "mine.yaml").write_text(re.sub(r"(?ms)^gate:\n.*", gate, text))
    return str(folder / "mine.yaml")


def test_a_checkpoint_is_packaged_anew_with_its_calibration(
    evaluated: dict[str, Any], tmp_path: Path
) -> None:
    arguments = ["package", "--checkpoint", "tiny", "--recipe", ungated(tmp_path), "--output", str(tmp_path)]
    assert CliRunner().invoke(train, arguments, catch_exceptions=False).exit_code == 0
    new, old = open_checkpoint(str(tmp_path / "checkpoint")), open_checkpoint("tiny")
    assert new.verified
    assert new.weights_digest == old.weights_digest
    assert new.checkpoint_digest != old.checkpoint_digest
    assert new.manifest is not None
    assert old.manifest is not None
    # What is known of its training stays; what was measured is new.
    assert (new.manifest.data_hash, new.manifest.training) == (old.manifest.data_hash, old.manifest.training)
    assert new.manifest.gate["passed"] is False
    assert (new.path / "calibration.json").read_text() == "a calibration"
    assert (new.path / "reliability.svg").read_text() == "a picture"
    assert "fast, ece: 0.070, wanted at most 0.05" in (new.path / "README.md").read_text()


def test_a_checkpoint_is_not_packaged_anew_past_its_gate(evaluated: dict[str, Any], tmp_path: Path) -> None:
    floor = "{suite: synthetic/both, figure: recall, least: 0.9, modes: [think]}"
    file = Path(ungated(tmp_path, f"gate:\n  drops: []\n  floors:\n    - {floor}\n"))
    arguments = ["package", "--checkpoint", "tiny", "--recipe", str(file), "--output", str(tmp_path / "out")]
    evaluated["hits"] = 15
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == 1
    assert "FAILED  think  synthetic/both: recall 0.7500" in result.output
    assert not (tmp_path / "out" / "checkpoint").exists()

    evaluated["hits"] = 20
    file.write_text(file.read_text().replace("evaluation_seed: 4242", "evaluation_seed: 4243"))
    assert CliRunner().invoke(train, arguments, catch_exceptions=False).exit_code == 0
    manifest = open_checkpoint(str(tmp_path / "out" / "checkpoint")).manifest
    assert manifest is not None
    # A bar is missed, and is told; the recipe's own gate decides.
    assert manifest.gate["passed"] is True
    assert not all(bar["met"] for bar in manifest.gate["bars"])
    assert manifest.gate["rows"] == 500
    assert manifest.gate["recipe"]["passed"] is True
    assert [row["figure"] for row in manifest.gate["recipe"]["rows"]] == ["recall"]


def test_a_checkpoint_of_another_recipe_is_not_packaged_as_this_one(
    evaluated: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(open_checkpoint("tiny").path, folder)
    (folder / "manifest.json").unlink()
    arguments = ["package", "--checkpoint", str(folder), "--recipe", ungated(tmp_path)]
    arguments += ["--output", str(tmp_path / "out")]
    error = CliRunner().invoke(train, arguments).exception
    assert isinstance(error, CheckpointError)
    assert "expected a manifest with the name rsafe-tiny" in str(error)


def test_without_its_extra_an_evaluation_is_refused_before_it_begins(
    evaluated: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(train, ["evaluate", "--checkpoint", "tiny", "--output", str(tmp_path)])
    assert isinstance(result.exception, TrainingError)
    assert "the extra `train` brings" in str(result.exception)
    assert evaluated["times"] == 0


def test_a_wrong_recipe_ends_with_2_and_names_the_field(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ntemplate: rsafe-compact-1\nseed: many\n")
    result = CliRunner().invoke(train, ["run", "--recipe", str(file), "--output", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "mine.yaml:3: seed: found 'many'; expected a whole number" in result.output
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_refused(evaluated: dict[str, Any], tmp_path: Path) -> None:
    with sole_run(tmp_path):
        result = CliRunner().invoke(train, ["evaluate", "--checkpoint", "tiny", "--output", str(tmp_path)])
    assert isinstance(result.exception, TrainingError)
    assert "another training run" in str(result.exception)


def test_a_gate_that_the_recipe_does_not_have_is_refused(tmp_path: Path, trained: list[str]) -> None:
    result = CliRunner().invoke(train, ["gate", "--recipe", "smoke", "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "found no `gate`" in result.output


def test_an_announcement_needs_the_worker_and_gets_the_folder(
    tmp_path: Path, evaluated: dict[str, Any]
) -> None:
    arguments = ["package", "--checkpoint", "tiny", "--recipe", ungated(tmp_path), "--announce"]
    arguments += ["--output", str(tmp_path)]
    alone = CliRunner().invoke(train, arguments)
    assert alone.exit_code == 2
    assert evaluated["times"] == 0  # refused before anything takes long
    publish = {"announce": lambda folder: f"a topic: {folder.name}"}
    result = CliRunner().invoke(train, arguments, obj=publish, catch_exceptions=False)
    assert "announced: a topic: checkpoint" in result.output


def test_an_ablation_is_measured_in_a_folder_of_its_own(
    tmp_path: Path, trained: list[str], evaluated: dict[str, Any]
) -> None:
    arguments = ["evaluate", "--recipe", "smoke", "--output", str(tmp_path), "--without", "reinforcement"]
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == 2
    assert "grpo: found nothing; expected reinforced alignment to go without" in result.output
    both = CliRunner().invoke(train, [*arguments, "--checkpoint", "tiny"])
    assert "expected either --checkpoint or --without" in both.output
