"""Makes a checkpoint folder out of trained weights: model files, tokenizer, template, card, manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import torch

from guard.checkpoint import Checkpoint, Manifest, write_manifest
from guard.errors import CheckpointError
from guard.prompt import load_template, template_of
from guard.training.card import model_card
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.model import TinyGuard
from guard.training.settings import Recipe
from guard.training.weights import TEMPLATE_FILE, write_template

COMMAND = "rsafe train run --recipe {recipe} --output training"


def package(
    recipe: Recipe,
    folder: Path,
    report: dict[str, Any],
    *,
    command: str,
    training: dict[str, Any],
    data: str | None = None,
    gate: dict[str, Any] | None = None,
) -> Manifest:
    """Write the card and the manifest over a model folder.

    `training` tells how it was made (`training_account`); `data` is the digest of the labelled rows, and
    `gate` what the gate said (`passed` and its rows), where the recipe has them.
    Raises `CheckpointError` for files that are refused.
    """
    template = folder / TEMPLATE_FILE
    if not template.is_file():
        write_template(load_template(recipe.template), folder)
    (folder / "README.md").write_text(model_card(recipe, report, command, training), encoding="utf-8")
    return write_manifest(
        folder,
        name=f"rsafe-{recipe.name}",
        # Of a folder its name: where it lay on this machine says nothing elsewhere.
        base=recipe.base if recipe.from_scratch else training["parent"]["name"],
        data_hash=data_hash(recipe, data),
        template_version=template_of(folder).version,
        command=command,
        metrics=report["modes"],
        gate=_gate(report, gate),
        training=training,
    )


def package_anew(
    recipe: Recipe,
    folder: Path,
    report: dict[str, Any],
    old: Checkpoint,
    gate: dict[str, Any] | None = None,
) -> Manifest:
    """Write card and manifest over a copy of a packaged checkpoint, whose training is told as it was.

    `gate` is what the gate said of the new figures, where the recipe has one. Raises `CheckpointError` for a
    checkpoint without a manifest, or of another recipe.
    """
    before = old.manifest
    if before is None or before.name != f"rsafe-{recipe.name}":
        raise CheckpointError(f"{old.path}: expected a manifest with the name rsafe-{recipe.name}")
    card = model_card(recipe, report, before.command, before.training)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return write_manifest(
        folder,
        name=before.name,
        base=before.base,
        data_hash=before.data_hash,
        template_version=before.template_version,
        command=before.command,
        metrics=report["modes"],
        gate=_gate(report, gate),
        training=before.training,
    )


def _gate(report: dict[str, Any], gate: dict[str, Any] | None) -> dict[str, Any]:
    """The manifest's `gate`: the project's bars, and under `recipe` what the recipe's gate said.

    `passed` is the recipe's word where it has a gate, else that of the bars, which are of the generator's
    sets: a guard for other texts need not reach them. Whoever announces a checkpoint reads nothing else.
    """
    found = {name: report[name] for name in ("bars", "passed", "rows", "seed")}
    found["calibration"] = report["calibration"]["chosen"]
    if gate is None:
        return found
    return found | {"passed": gate["passed"], "recipe": gate}


def data_hash(recipe: Recipe, data: str | None = None) -> str:
    """SHA-256 over the recipe, the labelled rows' digest if there are any, and the generator's sources.

    They and the seeds are the data set.
    """
    digest = hashlib.sha256(msgspec.json.encode(recipe, order="sorted") + (data or "").encode())
    root = Path(__file__).parent
    for path in sorted([*(root / "generator").glob("*.py"), root / "drills.py", root / "encoding.py"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def write_dataset_sample(folder: Path, count: int, seed: int) -> None:
    """Write the evaluation sets as JSON lines, one file a set, for people to read."""
    for name, rows in evaluation_sets(count, seed).items():
        path = folder / f"{name.replace('/', '-')}.jsonl"
        with path.open("w", encoding="utf-8") as lines:
            for row in rows:
                lines.write(json.dumps(msgspec.to_builtins(row), ensure_ascii=False) + "\n")


def parameter_count(recipe: Recipe) -> int:
    """Weights of the recipe's model."""
    with torch.device("meta"):
        model = TinyGuard(recipe.model)
    return sum(weight.numel() for weight in model.parameters())
