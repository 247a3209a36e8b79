"""The model that a recipe begins with: a folder, or a snapshot from the Hugging Face hub."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from guard.checkpoint import CALIBRATION, MANIFEST, SIGNATURE, checkpoint_digest
from guard.errors import TrainingError
from guard.training.settings import Recipe

# Weights, tokenizer, configuration; never pickles, and no code.
_WANTED: Final = ("*.safetensors", "*.json", "*.jinja", "merges.txt", "vocab.txt", "*.model", "LICENSE*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_OF_A_PACKAGE: Final = (MANIFEST, SIGNATURE, CALIBRATION)


@dataclass(frozen=True, slots=True)
class Base:
    """Files of a base, and what they are known by."""

    folder: Path
    identity: dict[str, str]
    """JSON-ready: the name and a digest of the files, or the name and the commit on the hub."""
    warning: str = ""
    """That a repetition may begin with other files, and how to name these; empty: it cannot."""


def open_base(recipe: Recipe) -> Base:
    """The base of a recipe that is not from scratch; fetched where it is on the hub and not here yet.

    Raises `TrainingError` when it is nowhere, `CheckpointError` for a folder with files that are refused.
    """
    folder = Path(recipe.base)
    if folder.is_dir():
        return Base(folder, {"name": folder.resolve().name, "sha256": checkpoint_digest(folder)})
    if not _is_hub_name(recipe.base):
        raise TrainingError(
            f"no base {recipe.base!r}: expected a folder, or a name on the hub such as owner/name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(recipe.base, revision=recipe.revision, allow_patterns=list(_WANTED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        place = f"{recipe.base} at {recipe.revision}"
        raise TrainingError(f"base {place}: neither a folder nor to be had from the hub: {error}") from error
    # A snapshot's folder has the commit as its name.
    commit = Path(found).name
    warning = ""
    if not _COMMIT.fullmatch(recipe.revision):
        warning = (
            f"base {recipe.base}: revision: found {recipe.revision}, a branch or a tag, which may move;"
            f" only a commit stays what it is: revision: {commit}"
        )
    return Base(Path(found), {"name": recipe.base, "commit": commit}, warning)


def copy_base(base: Base, folder: Path) -> None:
    """Write the base's files to `folder`, links of the hub's cache as the files that they lead to.

    Left out is what is not of the model: hidden files, what a package says of itself, and of a snapshot
    whatever else somebody fetched into it.
    """
    on_hub = "commit" in base.identity

    def passed_over(place: str, names: list[str]) -> set[str]:
        return {
            name
            for name in names
            if name.startswith(".")
            or name in _OF_A_PACKAGE
            or (on_hub and (Path(place) / name).is_file() and not _is_wanted(name))
        }

    shutil.copytree(base.folder, folder, ignore=passed_over, dirs_exist_ok=True)


def _is_wanted(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in _WANTED)


def _is_hub_name(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(part and not part.startswith(".") for part in parts)
