"""How a checkpoint was made, for its manifest: what a repetition needs, and how long it took."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from guard.training.settings import Recipe
from guard.training.stages import record_of

_VERSIONS: Final = ("torch", "tokenizers", "transformers", "safetensors")
# Only where the recipe goes through them.
_MORE_VERSIONS: Final = ("trl", "peft", "accelerate", "datasets")
_STAGES: Final = ("dataset", "warm-start", "grpo", "evaluation", "gate")
_SUMMARY: Final = "summary.json"


def training_account(recipe: Recipe, output: Path, base: dict[str, str] | None) -> dict[str, Any]:
    """The manifest's `training` (JSON-ready), from the stages in `output` that are done.

    `base`: what the model was trained from; None from scratch.
    """
    account: dict[str, Any] = {
        "recipe": msgspec.to_builtins(recipe),
        "python": platform.python_version(),
        "versions": _versions(recipe),
        "stages": _stages(output),
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


def _stages(output: Path) -> dict[str, Any]:
    """Stage → its code, the digest of what came out, and what it says of itself."""
    found: dict[str, Any] = {}
    for name in _STAGES:
        record = record_of(output / name)
        if record is None:
            continue
        found[name] = {"code": record.inputs["code"], "files": record.digest()}
        summary = output / name / _SUMMARY
        if summary.is_file():
            found[name]["summary"] = json.loads(summary.read_text(encoding="utf-8"))
    return found


def _versions(recipe: Recipe) -> dict[str, str]:
    through_trl = recipe.warm_start is not None or recipe.grpo is not None
    names = _VERSIONS + (_MORE_VERSIONS if through_trl else ())
    return {name: metadata.version(name) for name in names} | {
        "rsafe-stream": metadata.version("rsafe-stream")
    }
