"""What every repeat showed, one JSON line each, so that a full run can be interrupted and resumed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

_GIT_S: Final = 30.0


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """One repeat of a row; number 0 is what the closing check of a run of the row found."""

    row: str
    number: int
    seed: str
    began: str
    """RFC 3339."""
    lasted_s: float
    events: int = 0
    """Events of this repeat: published since the one before, and answered."""
    decisions: int = 0
    """Decision records that came in, duplicates included."""
    dead_letters: int = 0
    unjudged: int = 0
    duplicates: int = 0
    most_duplicates: int = 0
    """The bound that was in force."""
    resumed_s: float | None = None
    """From the end of the fault to the answer to the first event published after it."""
    pause_s: float = 0.0
    """The longest time without any answer."""
    violations: tuple[str, ...] = ()
    """The first of them, in words."""
    violation_count: int = 0
    commit: str = ""
    """Of the code, abbreviated, with `+` when tracked files differ from it; empty: not known."""

    @property
    def passed(self) -> bool:
        return not self.violation_count


def commit_of(folder: Path, but_for: Sequence[str] = ()) -> str:
    """The commit of the checkout; `+` behind it when tracked files differ; empty when there is none.

    `but_for`: files that may differ, relative to the root, such as those that the run itself writes.
    """

    def git(*words: str) -> str:
        told = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=True, timeout=_GIT_S)
        return told.stdout.decode().strip()

    try:
        commit = git("rev-parse", "--short", "HEAD")
        passed_over = [f":(top,exclude){path}" for path in but_for]
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", *passed_over)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}+" if changed else commit


class Ledger:
    """A folder with a file for every row."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, row: str) -> Path:
        return self._folder / f"{row}.jsonl"

    def append(self, repeat: Repeat) -> None:
        """On the disk when this returns. A line that an interruption cut off is removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self.path(repeat.row)
        path.touch()
        with path.open("r+b") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            file.seek(whole)
            file.write(msgspec.json.encode(repeat) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self, row: str) -> list[Repeat]:
        """What was noted for the row, oldest first, without a line that an interruption cut off."""
        try:
            lines = self.path(row).read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        return [msgspec.json.decode(line, type=Repeat) for line in lines[:-1] if line]

    def forget(self, row: str) -> None:
        """Begin the row anew."""
        self.path(row).unlink(missing_ok=True)
