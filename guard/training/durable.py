"""Files that are on the disk when they have their name, also when the power fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

WRITING: Final = "writing"
"""Suffix of a file that is being written; one that is found was left by a run that was killed."""


def write_durably(path: Path, content: bytes) -> None:
    """Write a file that is whole or, as before, absent or old, also when the power fails."""
    partial = path.with_name(f"{path.name}.{WRITING}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """The names in a folder are on the disk afterwards."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
