"""A stage's folder: whole or not there, made once for the same inputs, whatever kills the process meanwhile.

A stage works in `<folder>.partial`. When it is done, every file and folder of it is on the disk (fsync),
then its record `.stage.json` is, and only then it is renamed into place. So a folder without `.partial` is
complete, and a `.partial` with a record needs the renaming alone. What a killed run left is gone on with
where the stage can, else thrown away; always when the inputs are others.

A record names the inputs and the SHA-256 of every file that came out: the inputs of the next stage.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import rfc8785

from guard.errors import TrainingError
from guard.training.durable import WRITING, sync_folder, write_durably

RECORD: Final = ".stage.json"
"""Begins with a dot: a checkpoint's folder may hold it, and it is no part of the checkpoint."""
_BEGUN: Final = ".inputs.json"
_LOCK: Final = ".lock"

Inputs = Mapping[str, Any]
"""JSON-ready: recipe part, code version, digests of what came out of earlier stages."""
Make = Callable[[Path], None]
"""Writes a stage's files into a folder, which may hold those of a run that was cut off."""


class FileRecord(msgspec.Struct, frozen=True):
    """A file of a stage."""

    sha256: str
    size: int
    """Bytes."""


class StageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage was made from and what came out; `files` by path below the folder, with `/`."""

    inputs_sha256: str
    inputs: dict[str, Any]
    files: dict[str, FileRecord]
    versions: dict[str, str] = {}
    """Of the libraries that it was made with; no input, since a patch of one does not cost a training run."""

    def digest(self, below: str = "") -> str:
        """SHA-256 over the files, or those in a folder of it: an input of the stage that reads them."""
        chosen = {name: file.sha256 for name, file in self.files.items() if name.startswith(below)}
        return _sha256(chosen)


def make_stage(
    folder: Path,
    inputs: Inputs,
    make: Make,
    log: Callable[[str], None],
    *,
    resumes: bool,
    versions: Mapping[str, str] | None = None,
) -> bool:
    """Make `folder` with `make` unless it was made from the same inputs; True when it was made now.

    `resumes`: `make` goes on with the files of a run that was cut off, made from the same inputs; else they
    are removed before it. `versions` are recorded with what was made. When `make` fails, its files are kept
    for that. What `make` raises is raised; `TrainingError` for a folder that no stage made, which is left
    alone.
    """
    wanted, partial = _sha256(inputs), _beside(folder, "partial")
    _clear(_beside(folder, "old"))
    done = record_of(folder)
    if done is not None and done.inputs_sha256 == wanted and _is_whole(folder, done):
        _clear(partial)
        log(f"{folder.name}: already there")
        return False
    if done is None and folder.exists():
        raise TrainingError(
            f"{folder}: found a folder without {RECORD}; expected none, or one that a stage made"
        )
    finished = record_of(partial)
    if finished is None or finished.inputs_sha256 != wanted:
        again = _begin(partial, wanted, resumes=resumes)
        log(f"{folder.name}: {'goes on' if again else 'started'}")
        make(partial)
        _finish(partial, inputs, wanted, versions or {})
    _put_in_place(partial, folder)
    log(f"{folder.name}: done")
    return True


def record_of(folder: Path) -> StageRecord | None:
    """The record of a stage that is done; None for a folder that is none. Raises `TrainingError`."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=StageRecord)
    except (OSError, msgspec.DecodeError) as error:
        raise TrainingError(
            f"{path}: no record of a stage ({error}); remove {folder} to make it anew"
        ) from error


def digest_of(folder: Path, below: str = "") -> str:
    """Of the files of a stage that is done, or of those in a folder of it. Raises `TrainingError`."""
    record = record_of(folder)
    if record is None:
        raise TrainingError(f"{folder}: found no record of a stage; expected one that is done")
    return record.digest(f"{below}/" if below else "")


@contextmanager
def sole_run(output: Path) -> Iterator[None]:
    """For as long as the block lasts no other run works in `output`; the lock ends with the process.

    Raises `TrainingError` when another run has it.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(f"{output}: another training run works in this folder") from error
        yield


def _begin(partial: Path, wanted: str, *, resumes: bool) -> bool:
    """The folder to work in; True when it holds what a run from the same inputs left."""
    begun = partial / _BEGUN
    if resumes and begun.is_file() and begun.read_text(encoding="utf-8") == wanted:
        return True
    _clear(partial)
    partial.mkdir(parents=True)
    write_durably(begun, wanted.encode())
    return False


def _finish(partial: Path, inputs: Inputs, wanted: str, versions: Mapping[str, str]) -> None:
    files: dict[str, FileRecord] = {}
    folders = [partial]
    for path in sorted(partial.rglob("*")):
        if path.is_dir():
            folders.append(path)
            continue
        if path.name == _BEGUN:  # stays until the record is there: a run that is killed here goes on
            continue
        if path.suffix == f".{WRITING}":  # left by a run that was killed while it wrote
            path.unlink()
            continue
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
            files[path.relative_to(partial).as_posix()] = FileRecord(digest, os.fstat(file.fileno()).st_size)
    for folder in folders:
        sync_folder(folder)
    record = StageRecord(inputs_sha256=wanted, inputs=dict(inputs), files=files, versions=dict(versions))
    text = msgspec.json.format(msgspec.json.encode(record, order="sorted"), indent=1)
    write_durably(partial / RECORD, text + b"\n")


def _put_in_place(partial: Path, folder: Path) -> None:
    # A folder cannot be renamed over one that is not empty. Killed between the two renamings, the next run
    # finds a `.partial` with its record.
    (partial / _BEGUN).unlink(missing_ok=True)
    old = _beside(folder, "old")
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    sync_folder(folder.parent)
    _clear(old)


def _is_whole(folder: Path, record: StageRecord) -> bool:
    """Whether nothing was removed or grew since; contents are not read again."""
    for name, file in record.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != file.size:
            return False
    return True


def _clear(folder: Path) -> None:
    """Remove a folder; first what names its inputs, so that half of it is never taken for the whole.

    Without its record it is not complete, and then without its beginning no run goes on with it.
    """
    (folder / RECORD).unlink(missing_ok=True)
    (folder / _BEGUN).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def _beside(path: Path, word: str) -> Path:
    return path.with_name(f"{path.name}.{word}")


def _sha256(value: Any) -> str:
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()
