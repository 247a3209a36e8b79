from pathlib import Path

import msgspec
import pytest
import torch

from guard.errors import TrainingError
from guard.training.data.rows import read_rows
from guard.training.grpo_settings import GrpoSettings, LoraSettings, SupervisedSettings
from guard.training.launch import Job, alone, command, launch, write_job
from tests.unit.guard.training.labelled_rows import row

ROWS = [row(0), row(1, label="safe")]


def test_a_job_says_everything_that_a_process_needs(tmp_path: Path) -> None:
    told = Job(stage="grpo", model="m", folder="f", grpo=GrpoSettings(group=8, lora=LoraSettings(rank=4)))
    write_job(tmp_path / "job", told, ROWS)
    assert msgspec.json.decode((tmp_path / "job" / "job.json").read_bytes(), type=Job) == told
    assert read_rows(tmp_path / "job") == ROWS


def test_started_processes_do_not_start_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert alone(1) and alone(4)
    monkeypatch.setenv("RANK", "0")
    assert alone(1) and not alone(4)


def test_on_gpus_all_weights_are_spread_and_adapters_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    whole = command(GrpoSettings(processes=4, precision="bfloat16"), Path("job"))
    assert {"--use_fsdp", "FULL_STATE_DICT", "bf16"} <= set(whole)
    assert whole[whole.index("--fsdp_version") + 1] == "2"
    assert whole[whole.index("--num_processes") + 1] == "4"
    adapters = command(SupervisedSettings(processes=2, lora=LoraSettings()), Path("job"))
    assert "--multi_gpu" in adapters and "--use_fsdp" not in adapters


def test_a_process_that_fails_ends_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guard.training.launch.command", lambda settings, job: ["false"])
    lines: list[str] = []
    with pytest.raises(TrainingError, match="grpo: a training process ended with code 1"):
        launch("grpo", GrpoSettings(processes=2), tmp_path, ROWS, tmp_path / "run", lines.append)
    assert lines == ["grpo: 2 processes"]
