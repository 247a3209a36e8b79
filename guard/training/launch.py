"""Several processes that train together, one a GPU, started through accelerate with FSDP2 (CPUs: torchrun).

The process that is asked to train writes the rows and settings down, starts the others and waits; they read
them and train, and the first of them writes the files. So a stage is called the same way for one device and
for eight. They end with the process that was asked, even where that one is killed (`job_lock`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from guard.errors import TrainingError
from guard.training.data.rows import LabelledRow, read_rows, write_rows
from guard.training.grpo_settings import GrpoSettings, SupervisedSettings
from guard.training.job_lock import join_start, one_start
from guard.training.run_log import Log

Stage = Literal["supervised", "grpo"]
_JOB: Final = "job.json"
# Set by accelerate's launcher in every process that it starts.
_RANK: Final = "RANK"


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the started processes are told; the rows lie beside it."""

    stage: Stage
    model: str
    folder: str
    supervised: SupervisedSettings | None = None
    grpo: GrpoSettings | None = None


def alone(processes: int) -> bool:
    """Whether this process is the one that was asked, and not one of those that it started."""
    return processes == 1 or _RANK not in os.environ


def launch(
    stage: Stage,
    settings: SupervisedSettings | GrpoSettings,
    model: Path,
    rows: Sequence[LabelledRow],
    folder: Path,
    log: Log,
) -> None:
    """Train in `settings.processes` processes and wait for them.

    Raises `TrainingError` where one fails, and where processes of another start still train in the folder.
    """
    job = folder / "job"
    told = Job(
        stage=stage,
        model=str(model.resolve()),
        folder=str(folder.resolve()),
        supervised=settings if isinstance(settings, SupervisedSettings) else None,
        grpo=settings if isinstance(settings, GrpoSettings) else None,
    )
    with one_start(folder) as held:
        write_job(job, told, rows)
        log(f"{stage}: {settings.processes} processes")
        code = subprocess.run(command(settings, job), check=False, pass_fds=(held,)).returncode
        if code:
            raise TrainingError(f"{stage}: a training process ended with code {code}; its output says why")
        shutil.rmtree(job)


def write_job(job: Path, told: Job, rows: Sequence[LabelledRow]) -> None:
    """Write what the started processes read; an older one in the folder is replaced."""
    shutil.rmtree(job, ignore_errors=True)
    write_rows(job, rows)
    (job / _JOB).write_bytes(msgspec.json.encode(told))


def command(settings: SupervisedSettings | GrpoSettings, job: Path) -> list[str]:
    """The command line that starts the processes."""
    import torch

    work = ("-m", "guard.training.launch", str(job))
    count = str(settings.processes)
    if not torch.cuda.is_available():
        # Accelerate's launcher starts one process on CPUs, whatever is asked for.
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count)
        return [sys.executable, *torchrun, *work]
    return [
        sys.executable,
        *("-m", "accelerate.commands.launch"),
        *("--num_processes", count, "--num_machines", "1", "--main_process_port", "0"),
        *("--mixed_precision", "bf16" if settings.precision == "bfloat16" else "no"),
        *("--dynamo_backend", "no"),
        # Adapters leave most weights as they are, and whole copies of those are cheaper than gathering them.
        *(("--multi_gpu",) if settings.lora is not None else _fsdp()),
        *work,
    ]


def _fsdp() -> tuple[str, ...]:
    return (
        *("--use_fsdp", "--fsdp_version", "2"),
        *("--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"),
        *("--fsdp_reshard_after_forward", "true"),
        # Whole safetensors when weights are saved, which any process can read again.
        *("--fsdp_state_dict_type", "FULL_STATE_DICT"),
        *("--fsdp_cpu_ram_efficient_loading", "true"),
    )


def _work(job: Path) -> None:
    """One of the started processes, or the only one."""
    told = msgspec.json.decode((job / _JOB).read_bytes(), type=Job)
    model, folder = Path(told.model), Path(told.folder)
    if _RANK in os.environ:
        join_start(folder)
    rows = read_rows(job)
    first = os.environ.get(_RANK, "0") == "0"

    def log(line: str) -> None:
        if first:
            sys.stderr.write(line + "\n")

    if told.supervised is not None:
        from guard.training.supervised import run_supervised

        run_supervised(told.supervised, model, rows, folder, log)
    elif told.grpo is not None:
        from guard.training.grpo import run_grpo

        run_grpo(told.grpo, model, rows, folder, log)


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
