"""Training that is killed with signal 9: it goes on and ends with the weights of an unbroken run."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from guard.checkpoint import SHIPPED
from guard.training.grpo_settings import GrpoSettings, SupervisedSettings
from guard.training.launch import Job, Stage, write_job
from guard.training.resume import PROGRESS, records
from tests.unit.guard.training.labelled_rows import twins

MODEL = SHIPPED / "tiny"
ROWS = twins(16)
SUPERVISED = SupervisedSettings(
    batch_rows=2, device_rows=2, learning_rate=1e-3, save_every=3, max_steps=24, threads=1
)
GRPO = GrpoSettings(
    rows_per_step=2,
    device_rows=4,
    group=2,
    temperature=1.8,
    top_p=1.0,
    learning_rate=1e-4,
    max_completion_tokens=16,
    updates_per_generation=2,
    save_every=4,
    max_steps=16,
    threads=1,
    rollouts="transformers",
)
# An unbroken run takes about half a minute, most of it imports.
LONGEST_S = 240
KILLED_AFTER: dict[Stage, tuple[int, ...]] = {"supervised": (8,), "grpo": (5, 11)}
"""Lines of `progress.jsonl` at which a run is killed, one run after the other."""


def start(stage: Stage, folder: Path, job: Path) -> subprocess.Popen[bytes]:
    supervised, grpo = (SUPERVISED, None) if stage == "supervised" else (None, GRPO)
    told = Job(stage=stage, model=str(MODEL), folder=str(folder), supervised=supervised, grpo=grpo)
    write_job(job, told, ROWS)
    return subprocess.Popen([sys.executable, "-m", "guard.training.launch", str(job)])


def finished(process: subprocess.Popen[bytes], folder: Path) -> dict[str, torch.Tensor]:
    assert process.wait(LONGEST_S) == 0
    weights: dict[str, torch.Tensor] = load_file(folder / "model" / "model.safetensors")
    return weights


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", ["supervised", "grpo"])
def test_a_killed_run_goes_on_to_the_same_weights(stage: Stage, tmp_path: Path) -> None:
    # The unbroken run meanwhile, on the other core.
    with start(stage, tmp_path / "whole", tmp_path / "job-whole") as unbroken:
        rng = random.Random(stage)
        folder = tmp_path / "killed"
        for lines in KILLED_AFTER[stage]:
            process = start(stage, folder, tmp_path / "job")
            ends = time.monotonic() + LONGEST_S
            while sum(1 for _ in records(folder)) < lines:
                assert process.poll() is None and time.monotonic() < ends
                time.sleep(0.02)
            time.sleep(rng.random() * 0.5)  # in a step, between two, or while a state is written
            process.send_signal(signal.SIGKILL)
            assert process.wait(10) == -signal.SIGKILL
        again = finished(start(stage, folder, tmp_path / "job"), folder)
        whole = finished(unbroken, tmp_path / "whole")
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    steps = [record["step"] for record in records(folder)]
    assert steps == list(range(1, len(steps) + 1))
    assert (folder / PROGRESS).read_text().count("\n") == len(steps)


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    from guard.training.grpo import run_grpo
    from guard.training.supervised import run_supervised

    lines: list[str] = []
    supervised = msgspec.structs.replace(SUPERVISED, processes=2, device_rows=1, max_steps=2)
    grpo = msgspec.structs.replace(GRPO, processes=2, device_rows=1, max_steps=2, updates_per_generation=1)
    first = run_supervised(supervised, MODEL, ROWS, tmp_path / "one", lines.append)
    second = run_grpo(grpo, first, ROWS, tmp_path / "two", lines.append)
    assert lines == ["supervised: 2 processes", "grpo: 2 processes"]
    assert [record["step"] for record in records(tmp_path / "two")] == [1, 2]
    assert [record["groups"] for record in records(tmp_path / "two")] == [2, 2]
    before, after = (load_file(path / "model.safetensors") for path in (MODEL, second))
    assert any(not torch.equal(before[name], after[name]) for name in before)
