"""`rsafe train` in a process of its own, with the scripted engine in the place of vLLM."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guard.serving.assembly import build_judge

# Imported once, so that a process that is killed soon does not cost ten seconds.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["guard.training.pipeline", "guard.training.warm_start", "guard.training.evaluation", "transformers"]
)


def start(arguments: Sequence[str], log: Path) -> Any:
    """The process; what it prints goes to `log`."""
    process = _FORKS.Process(target=_run, args=(list(arguments), str(log)))
    process.start()
    return process


def _run(arguments: list[str], log: str) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    from guard.training import evaluation
    from guard.training.cli import train

    def scripted(_: str, *positional: Any, **named: Any) -> Any:
        return build_judge("scripted", *positional, **named)

    vars(evaluation)["build_judge"] = scripted
    train.main(arguments, standalone_mode=False)
