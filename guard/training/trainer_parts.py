"""What both trainers on TRL share: their arguments, whole states, and the record of every step.

Nothing here or in TRL writes a text: `log_completions` is off, no service is reported to, no model card is
made and no telemetry sent.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch
from transformers import PrinterCallback, TrainerCallback
from transformers.utils.logging import disable_progress_bar

from guard.training.grpo_settings import GrpoSettings, SupervisedSettings
from guard.training.resume import add_record, complete_state, last_state, states_folder, take_back
from guard.training.run_log import Log
from guard.training.weights import TRAINED

# The newest state is written while the one before it is still there.
_KEPT_STATES: Final = 2
_LIBRARIES: Final = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "vllm")


def common_arguments(
    settings: SupervisedSettings | GrpoSettings, folder: Path, *, sequences: int, steps: int
) -> dict[str, Any]:
    """Arguments of a Hugging Face trainer; `sequences` stand in one optimiser step over all devices.

    Each one that changes a result is given, since TRL's defaults are made for GPUs (bf16, gradient
    checkpointing).
    """
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(states_folder(folder)),
        "seed": settings.seed,
        "max_steps": steps,
        "num_train_epochs": 1,
        "per_device_train_batch_size": settings.device_rows,
        "gradient_accumulation_steps": sequences // (settings.device_rows * settings.processes),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": _scheduler(settings),
        "warmup_steps": int(settings.warm_up * steps),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "optim": "adamw_torch",
        "bf16": settings.precision == "bfloat16",
        "use_cpu": not on_gpu,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": settings.save_every,
        "save_total_limit": _KEPT_STATES,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "remove_unused_columns": False,
    }


def _scheduler(settings: SupervisedSettings | GrpoSettings) -> str:
    """Hugging Face's name: its `constant` takes no notice of warm-up steps."""
    if settings.schedule == "constant" and settings.warm_up > 0.0:
        return "constant_with_warmup"
    return settings.schedule


def prepare_torch(settings: SupervisedSettings | GrpoSettings) -> None:
    """Threads as the settings say, and no bars: a stage says itself how far it is."""
    disable_progress_bar()
    if settings.threads:
        torch.set_num_threads(settings.threads)


def versions() -> dict[str, str]:
    """Versions of everything that a repetition needs to be the same."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        for distribution in (name, f"{name}-cpu"):
            try:
                found[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found


class KeptStates:
    """Mixed into a trainer of TRL: states are marked when they are whole, and nothing leaves the machine."""

    run_folder: Path

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        self.accelerator.wait_for_everyone()  # type: ignore[attr-defined]
        if self.args.should_save:  # type: ignore[attr-defined]
            complete_state(self.run_folder, self.state.global_step)  # type: ignore[attr-defined]

    def _send_telemetry(self) -> None:
        return

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        return


class StepRecorder(TrainerCallback):
    """Writes a line of `progress.jsonl` for every step, and now and then one for people.

    `figures` maps the trainer's names to those of the file; others are not written. A figure that a step does
    not have is left out, and so is a fault that no answer has.
    """

    def __init__(self, stage: str, folder: Path, figures: Mapping[str, str], log: Log, *, every: int) -> None:
        self._stage, self._folder, self._figures = stage, folder, dict(figures)
        self._log, self._every = log, every
        self._last_s = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._last_s = time.monotonic()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or logs is None or "train_runtime" in logs:
            return
        now_s = time.monotonic()
        record: dict[str, Any] = {"stage": self._stage, "step": state.global_step}
        for theirs, ours in self._figures.items():
            value = logs.get(theirs)
            if isinstance(value, int | float) and (value or not ours.startswith("fault_")):
                record[ours] = round(float(value), 10)
        record["seconds"] = round(now_s - self._last_s, 3)
        self._last_s = now_s
        add_record(self._folder, record)
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            told = " ".join(
                f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
                for name, value in record.items()
                if name not in ("stage", "step")
            )
            self._log(f"{self._stage}: step {state.global_step} of {state.max_steps}: {told}")


def go_on(trainer: Any, stage: str, folder: Path, log: Log) -> None:
    """Train from the last whole state, or from the beginning, and keep the weights in `<folder>/trained`."""
    # Only the first process removes states that are not whole, and the others look when it is done.
    with trainer.accelerator.main_process_first():
        state, step = last_state(folder)
    if trainer.args.should_save:
        take_back(folder, step)
    if state is not None:
        log(f"{stage}: goes on after step {step}")
    trainer.train(resume_from_checkpoint=str(state) if state is not None else None)
    trainer.save_model(str(folder / TRAINED))


def without_printing(trainer: Any) -> Any:
    """The trainer without the callback that prints every log to the terminal."""
    trainer.remove_callback(PrinterCallback)
    return trainer
