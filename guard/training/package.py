"""Makes a checkpoint folder out of trained weights: model files, tokenizer, template, card, manifest."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from guard.checkpoint import Checkpoint, Manifest, write_manifest
from guard.errors import CheckpointError
from guard.prompt import load_template
from guard.training.card import model_card
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.model import TinyGuard, export_hugging_face
from guard.training.settings import Recipe
from guard.training.tokenizer import END_OF_TEXT, TURN_END, save_tokenizer, token_id

COMMAND = "rsafe train run --recipe {recipe} --output training"
_VERSIONS = ("torch", "tokenizers", "transformers", "safetensors")


def export(recipe: Recipe, tokenizer_folder: Path, weights: Path, folder: Path) -> None:
    """Write the model folder without card and manifest: enough to be served and measured."""
    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    folder.mkdir(parents=True, exist_ok=True)
    model = TinyGuard(recipe.model)
    model.load_state_dict(load_file(weights))
    export_hugging_face(
        model,
        folder,
        eos_token_id=token_id(tokenizer, TURN_END),
        pad_token_id=token_id(tokenizer, END_OF_TEXT),
    )
    # safetensors writes for the owner alone; an installed checkpoint is for everybody.
    (folder / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, folder)
    template = load_template(recipe.template)
    (folder / "prompt_template.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(template), indent=2) + b"\n"
    )


def package(
    recipe: Recipe, folder: Path, report: dict[str, Any], *, command: str, training: dict[str, Any]
) -> Manifest:
    """Write the card and the manifest over an exported folder."""
    details = {
        "recipe": msgspec.to_builtins(recipe),
        "versions": {name: metadata.version(name) for name in _VERSIONS},
        "python": platform.python_version(),
        **training,
    }
    (folder / "README.md").write_text(model_card(recipe, report, command, training), encoding="utf-8")
    return write_manifest(
        folder,
        name=f"rsafe-{recipe.name}",
        base="scratch",
        data_hash=data_hash(recipe),
        template_version=recipe.template,
        command=command,
        metrics=report["modes"],
        gate=_gate(report),
        training=details,
    )


def package_anew(recipe: Recipe, folder: Path, report: dict[str, Any], old: Checkpoint) -> Manifest:
    """Write card and manifest over a copy of a packaged checkpoint, whose training is told as it was.

    Raises `CheckpointError` for a checkpoint without a manifest, or of another recipe.
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
        gate=_gate(report),
        training=before.training,
    )


def _gate(report: dict[str, Any]) -> dict[str, Any]:
    gate = {name: report[name] for name in ("bars", "passed", "rows", "seed")}
    return gate | {"calibration": report["calibration"]["chosen"]}


def data_hash(recipe: Recipe) -> str:
    """SHA-256 over the recipe and the generator's sources: they and the seeds are the data set."""
    digest = hashlib.sha256(msgspec.json.encode(recipe, order="sorted"))
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
