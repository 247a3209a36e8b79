"""`rsafe train`: the trainer's own commands, and those that need Kafka, which the guard does not know.

The trainer is loaded by its name, so that nothing of the worker depends on it.
"""

from __future__ import annotations

import copy
import importlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from workers.commands.train_export import export
from workers.settings import load_settings

TRAINER: Final = "guard.training.cli:train"
# Key of the context object under which the trainer's commands find `announce_checkpoint`.
ANNOUNCE: Final = "announce"


def announce_checkpoint(folder: Path) -> str:
    """Publish the release of a packaged checkpoint; a sentence about it.

    What `rsafe checkpoint announce` does. Raises `WorkerError` and `GuardError`; the checkpoint is as it was
    then, and can be announced again.
    """
    from workers.announcement import announce

    settings = load_settings()
    release = announce(str(folder), settings, now=datetime.now(UTC))
    return f"{settings.kafka.checkpoints_topic}: {release.name} {release.checkpoint_digest}"


def _extended(trainer: click.Group) -> click.Group:
    """The trainer's group with the worker's commands and functions; the original stays as it is."""
    group = copy.copy(trainer)
    group.commands = {**trainer.commands, "export": export}
    group.context_settings = {**trainer.context_settings, "obj": {ANNOUNCE: announce_checkpoint}}
    return group


_module, _name = TRAINER.split(":")
train: Final[click.Group] = _extended(getattr(importlib.import_module(_module), _name))
