"""Which ablations in a run's folder are of this run: of its weights, and measured on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from guard.training.settings import ABLATIONS
from guard.training.stages import record_of

# Inputs of an evaluation that say which rows were asked, and by what.
_ASKED: Final = ("rows", "seed", "engine", "data", "code")
FOLDER: Final = "evaluation-without-{}"
"""Folder of an ablation's evaluation, by its key in `ABLATIONS`."""


def ablations_of(output: Path, challenger: Path, warm_start: str | None) -> dict[str, Path]:
    """What a report calls an ablation → its folder; those of other recipes, weights or rows are left out.

    `challenger`: the evaluation of the whole guard. `warm_start`: the digest of the weights before
    reinforcement; None where this run has none.
    """
    whole, found = record_of(challenger), dict[str, Path]()
    if whole is None:
        return found
    weights = {"reasoning": whole.inputs["weights"], "reinforcement": warm_start}
    for key, name in ABLATIONS.items():
        folder = output / FOLDER.format(key)
        record = record_of(folder)
        if record is None or record.inputs.get("weights") != weights[key]:
            continue
        if all(record.inputs.get(field) == whole.inputs[field] for field in _ASKED):
            found[name] = folder
    return found
