"""How a checkpoint was made, for its manifest: what a repetition needs, and how long it took."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import msgspec

from guard.training.settings import Recipe
from guard.training.stages import record_of

_STAGES: Final = ("dataset", "warm-start", "grpo", "evaluation", "gate")
_SUMMARY: Final = "summary.json"


def training_account(
    recipe: Recipe, output: Path, base: dict[str, str] | None, made: Collection[str]
) -> dict[str, Any]:
    """The manifest's `training` (JSON-ready), from the stages in `output` that are `made`.

    `made`: names of the stages that this run made or found to be made from its inputs; others that lie there
    are of another recipe. `base`: what the model was trained from; None from scratch.
    """
    account: dict[str, Any] = {
        "recipe": msgspec.to_builtins(recipe),
        "stages": _stages(output, made),
        "parent": base,
    }
    if recipe.from_scratch:
        from guard.training.generator.lexicon import CONCEPTS
        from guard.training.package import parameter_count

        seconds = training_seconds(output / "warm-start" / "stages")
        account["parameters"] = parameter_count(recipe)
        account["concepts"] = len(CONCEPTS)
        account["made_in"] = f"{seconds / 60:.0f} minutes on {recipe.threads} CPU cores"
    return account


def training_seconds(stages: Path) -> float:
    """Time of a warm start from scratch: the last record of each stage says how long it took."""
    from guard.training.warm_start import PROGRESS, read_progress

    last = {record["stage"]: float(record["seconds"]) for record in read_progress(stages / PROGRESS)}
    return sum(last.values())


def _stages(output: Path, made: Collection[str]) -> dict[str, Any]:
    """Stage → its code, versions of libraries, the digest of what came out, and what it says of itself."""
    found: dict[str, Any] = {}
    for name in (name for name in _STAGES if name in made):
        record = record_of(output / name)
        if record is None:
            continue
        found[name] = {
            "code": record.inputs["code"],
            "versions": record.versions,
            "files": record.digest(),
        }
        summary = output / name / _SUMMARY
        if summary.is_file():
            found[name]["summary"] = json.loads(summary.read_text(encoding="utf-8"))
    return found
