"""States from which a training run that was cut off goes on, and the record of its steps.

A state counts when its marker is written, after all its files are on the disk; what was begun and has no
marker is removed. `run.json` says what the folder was made from: another run does not go on in it. Of
`progress.jsonl` the lines behind the state are taken back, so every step stands there once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from guard.errors import TrainingError
from guard.training.data.rows import LabelledRow, PolicyHashes
from guard.training.durable import write_durably
from guard.training.weights import TRAINED, settle

PROGRESS: Final = "progress.jsonl"
SUMMARY: Final = "summary.json"
_RUN: Final = "run.json"
_STATES: Final = "states"
_COMPLETE: Final = "complete"
# What decides the weights of a model folder; a few hundred bytes of a configuration or gigabytes of tensors.
_MODEL_FILES: Final = (".safetensors", ".json", ".jinja", ".model", ".txt")


def run_identity(stage: str, settings: msgspec.Struct, model: Path, rows: Sequence[LabelledRow]) -> str:
    """SHA-256 (hex) of everything that decides what comes out: settings, model folder and rows in order."""
    digest = hashlib.sha256(stage.encode() + b"\0" + msgspec.json.encode(settings, order="sorted"))
    for path in sorted(p for p in model.iterdir() if p.suffix in _MODEL_FILES):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    hashes = PolicyHashes()
    for row in rows:
        told = (row.id, hashes.of(row.policy), row.turns, row.label, row.codes, row.twin, row.rationale)
        digest.update(msgspec.json.encode(told))
    return digest.hexdigest()


def open_run(folder: Path, identity: str) -> None:
    """Make the folder, or find the same run in it. Raises `TrainingError` where it holds another one."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / _RUN
    if record.is_file():
        found = json.loads(record.read_text(encoding="utf-8")).get("identity")
        if found != identity:
            raise TrainingError(
                f"{folder}: holds a run from other settings, weights or rows ({str(found)[:12]}); expected"
                f" an empty folder or one of this run ({identity[:12]})"
            )
        return
    write_durably(record, (json.dumps({"identity": identity}) + "\n").encode())


def states_folder(folder: Path) -> Path:
    """Where the trainer writes its states."""
    return folder / _STATES


def last_state(folder: Path) -> tuple[Path | None, int]:
    """The newest whole state and its step, or None and 0; states that are not whole are removed."""
    whole: dict[int, Path] = {}
    for path in states_folder(folder).glob("checkpoint-*"):
        if (path / _COMPLETE).is_file():
            whole[int(path.name.removeprefix("checkpoint-"))] = path
        else:
            shutil.rmtree(path)
    if not whole:
        return None, 0
    step = max(whole)
    return whole[step], step


def complete_state(folder: Path, step: int) -> None:
    """Mark the state of this step as whole, once its files are on the disk."""
    state = states_folder(folder) / f"checkpoint-{step}"
    settle(state)
    write_durably(state / _COMPLETE, b"")


def clear_states(folder: Path) -> None:
    """Remove all states: a finished run needs none, and each is several times as large as its weights."""
    shutil.rmtree(states_folder(folder), ignore_errors=True)
    shutil.rmtree(folder / TRAINED, ignore_errors=True)


def take_back(folder: Path, step: int) -> None:
    """Leave the lines of `progress.jsonl` up to this step; a half-written one goes as well."""
    lines = [json.dumps(record) + "\n" for record in records(folder) if record["step"] <= step]
    if lines or (folder / PROGRESS).is_file():
        write_durably(folder / PROGRESS, "".join(lines).encode())


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """The steps in `progress.jsonl`, in order; stops at a line that was not written to its end."""
    path = folder / PROGRESS
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            return
        yield record


def add_record(folder: Path, record: Mapping[str, Any]) -> None:
    """One more line."""
    with (folder / PROGRESS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """What the run was, in figures: rows, what was left out and why, steps, versions."""
    write_durably(folder / SUMMARY, (json.dumps(summary, indent=2, sort_keys=True) + "\n").encode())
