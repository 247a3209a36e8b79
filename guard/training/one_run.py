"""What the stages on TRL have in common: one run in one folder, in one process or several, to a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from guard.training.data.rows import LabelledRow
from guard.training.grpo_settings import GrpoSettings, SupervisedSettings
from guard.training.launch import Stage, alone, launch
from guard.training.resume import clear_states, open_run, run_identity
from guard.training.run_log import Log
from guard.training.weights import MODEL, TRAINED, template_for, write_model

Settings = TypeVar("Settings", SupervisedSettings, GrpoSettings)
Train = Callable[[Settings, Path, Sequence[LabelledRow], Path, Log], None]
"""Settings, model, rows, folder, log: leaves weights or an adapter in `<folder>/trained`."""


def run_once(
    stage: Stage,
    train: Train[Settings],
    settings: Settings,
    model: Path,
    rows: Sequence[LabelledRow],
    folder: Path,
    log: Log,
) -> Path:
    """Train `model`, or go on; the folder of the new weights, `<folder>/model`.

    A finished run is left as it is. A process that `launch` started trains, and the one that was asked does
    the rest. Raises `TrainingError` for a folder of another run, and what `train` raises.
    """
    if alone(settings.processes):
        open_run(folder, run_identity(stage, settings, model, rows))
        if (folder / MODEL).is_dir():
            log(f"{stage}: already there")
            clear_states(folder)
            return folder / MODEL
    if settings.processes > 1 and alone(settings.processes):
        launch(stage, settings, model, rows, folder, log)
    else:
        train(settings, model, rows, folder, log)
    if alone(settings.processes):
        template = template_for(model, settings.template)
        write_model(model, folder / TRAINED, folder / MODEL, template=template, saved_as=settings.saved_as)
        clear_states(folder)
    return folder / MODEL
