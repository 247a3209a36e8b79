"""All six stages over a base, from rows to a package. The scripted engine has the place of vLLM."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from guard.checkpoint import SHIPPED, open_checkpoint
from tests.integration.guard.training.test_killed_training import run
from tests.integration.guard.training.training_program import start

STEPS = ("data", "supervised", "grpo", "gate")
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        any(importlib.util.find_spec(f"guard.training.{step}") is None for step in STEPS),
        reason="this version lacks a stage",
    ),
]
RECIPE = """\
name: whole
template: rsafe-compact-1
seed: 3
threads: 1
base: BASE
evaluation_rows: 10
champion: tiny
data:
  sources:
    - {kind: generator, train_rows: 60, dev_rows: 30}
  max_prompt_tokens: 1000
warm_start:
  {max_steps: 3, batch_rows: 8, device_rows: 4, save_every: 1, threads: 1, max_prompt_tokens: 1000,
   max_completion_tokens: 200}
grpo:
  {max_steps: 2, rows_per_step: 4, group: 2, device_rows: 4, save_every: 1, threads: 1, learning_rate: 1.0e-5,
   max_prompt_tokens: 1000, max_completion_tokens: 120, rollouts: transformers}
gate:
  floors:
    - {suite: synthetic/held_out, figure: parse, least: 0.9}
    - {suite: custom/all, figure: balanced_accuracy, least: LEAST}
  drops: []
"""


def write(folder: Path, least: str) -> Path:
    base = folder / "base"
    if not base.exists():
        shutil.copytree(SHIPPED / "tiny", base)
    file = folder / "whole.yaml"
    file.write_text(RECIPE.replace("BASE", str(base)).replace("LEAST", least), encoding="utf-8")
    return file


@pytest.mark.timeout(600)
def test_a_run_over_a_base_is_gated_and_packaged(tmp_path: Path) -> None:
    output, log = tmp_path / "out", tmp_path / "log"
    recipe = write(tmp_path, "0.9")
    assert not run(recipe, output, log, kill_at="grpo: started")
    process = start(["run", "--recipe", str(recipe), "--output", str(output)], log)
    process.join()
    text = log.read_text(encoding="utf-8")
    assert process.exitcode == 1, text
    assert "warm-start: already there" in text
    assert "grpo: goes on" in text
    assert "FAILED  fast   custom/all: balanced_accuracy" in text  # a script that does not read its prompts
    assert "the gate failed, and nothing is packaged" in text
    assert not (output / "checkpoint").exists()
    assert (output / "gate" / "report.html").is_file()

    assert run(write(tmp_path, "0.1"), output, log)
    text = log.read_text(encoding="utf-8")
    assert "evaluation: already there" in text
    assert "gate: started" in text
    checkpoint = open_checkpoint(str(output / "checkpoint"))
    assert checkpoint.verified
    assert checkpoint.manifest is not None
    assert checkpoint.manifest.base == "base"
    assert checkpoint.manifest.gate["recipe"]["passed"] is True
    assert checkpoint.manifest.gate["passed"] is True
    assert not all(bar["met"] for bar in checkpoint.manifest.gate["bars"])  # they are not the recipe's
    stages = {"dataset", "warm-start", "grpo", "evaluation", "gate"}
    assert set(checkpoint.manifest.training["stages"]) == stages
