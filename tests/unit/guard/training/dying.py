"""Processes that die by SIGKILL before their n-th change of a file system, whatever it is."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

_CHANGES = ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir", "truncate")
_FORKS = multiprocessing.get_context("forkserver")
# Imported once instead of once a process: with them a process takes milliseconds, without them a second.
_FORKS.set_forkserver_preload(["pytest", "guard.training.stages", "tests.unit.guard.training.test_stages"])


def dies_before(change: int, work: Callable[..., object], *arguments: object) -> bool:
    """Run `work` in a process of its own; False when it came to its end before that change (from 1)."""
    process = _FORKS.Process(target=_run, args=(change, work, arguments))
    process.start()
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return True
    assert process.exitcode == 0
    return False


def _run(change: int, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    left = change

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def counts(*args: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **more)

        return counts

    for name in _CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    work(*arguments)
