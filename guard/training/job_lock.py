"""Processes that train together: one start at a time in a folder, and none outlives the one that was asked.

Two locks (flock), which the kernel lets go however a process ends:

- `job.lock` is shared by everything that was started, the launcher included. A new start takes it whole for a
  moment, so it is refused while one of an earlier start is still there.
- `asked.lock` is held by the process that was asked. The started ones wait for it: who gets it knows that the
  other is gone, and ends. A process number would not do, since numbers are given out again.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from guard.errors import TrainingError

_JOB: Final = "job.lock"
_ASKED: Final = "asked.lock"


@contextmanager
def one_start(folder: Path) -> Iterator[int]:
    """Hold the folder for the processes that are started meanwhile; the descriptor that a launcher inherits.

    The folder is made where it is absent. Raises `TrainingError`, without waiting, where processes of another
    start are still running.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job, asked = _open(folder / _JOB), _open(folder / _ASKED)
    try:
        try:
            fcntl.flock(job, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(asked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(job, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"{folder}: processes of another start still train here; expected none, so wait for their end"
            ) from None
        yield job
    finally:
        os.close(asked)
        os.close(job)


def join_start(folder: Path) -> None:
    """In a started process: hold `job.lock` until this process ends, and end with the one that was asked.

    Raises `TrainingError` where somebody starts anew just now.
    """
    job = _open(folder / _JOB)  # never closed: it is held as long as the process lives
    try:
        fcntl.flock(job, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(job)
        raise TrainingError(
            f"{folder}: is taken by another start; expected the one of this process"
        ) from None
    threading.Thread(target=_end_after, args=(_open(folder / _ASKED),), daemon=True).start()


def _end_after(asked: int) -> None:
    fcntl.flock(asked, fcntl.LOCK_SH)
    sys.stderr.write("the process that asked for this training is gone; this one ends as well\n")
    # The main thread may wait for a GPU or for another process, and would not hear of an exception.
    os._exit(1)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
