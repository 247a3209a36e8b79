"""The state of a stage of the warm start between two steps: from it a run goes on as if it had never stopped.

One safetensors file: weights, the optimisers' tensors, and in its header the step, counts and time. Batches
follow from stage seed and step alone, so there is no random state to keep.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from guard.errors import TrainingError
from guard.training.durable import WRITING, sync_folder

_MODEL: Final = "model/"
_OPTIMISER: Final = "optimiser/"
_POSITION: Final = "position"


class Position(msgspec.Struct, kw_only=True):
    """Where a stage is; changed in place."""

    step: int = 0
    """Steps that are done."""
    tokens: int = 0
    seconds: float = 0.0
    """Time that the steps took."""
    sums: dict[str, tuple[float, float]] = {}
    """Of `Progress`: figures since the last line of the log, which the next one will hold."""


def save_state(
    path: Path, model: nn.Module, optimisers: list[torch.optim.Optimizer], position: Position
) -> None:
    """Write the state; the file is whole or, as before, absent or old."""
    tensors = {f"{_MODEL}{name}": weight for name, weight in model.state_dict().items()}
    for number, optimiser in enumerate(optimisers):
        for parameter, values in optimiser.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"{_OPTIMISER}{number}/{parameter}/{name}"] = value
    save_tensors(path, tensors, {_POSITION: msgspec.json.encode(position).decode()})


def load_state(path: Path, model: nn.Module, optimisers: list[torch.optim.Optimizer]) -> Position:
    """Put the state of `save_state` into model and optimisers, made from the same settings.

    Raises `TrainingError` for a file that holds something else.
    """
    states: list[dict[int, dict[str, Any]]] = [{} for _ in optimisers]
    weights: dict[str, Any] = {}
    try:
        with safe_open(path, framework="pt") as file:
            position = msgspec.json.decode((file.metadata() or {})[_POSITION], type=Position)
            for name in file.keys():  # noqa: SIM118 - no mapping
                if name.startswith(_MODEL):
                    weights[name.removeprefix(_MODEL)] = file.get_tensor(name)
                    continue
                number, parameter, field = name.removeprefix(_OPTIMISER).split("/")
                states[int(number)].setdefault(int(parameter), {})[field] = file.get_tensor(name)
        model.load_state_dict(weights)
        for optimiser, state in zip(optimisers, states, strict=True):
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state, "param_groups": groups})
    except (OSError, SafetensorError, KeyError, IndexError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{path}: no saved state of this stage; remove it to begin the stage anew"
        ) from error
    return position


def save_tensors(path: Path, tensors: dict[str, Any], about: dict[str, str] | None = None) -> None:
    """Write a safetensors file that is whole or, as before, absent or old, also when the power fails."""
    partial = path.with_name(f"{path.name}.{WRITING}")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, about)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)
