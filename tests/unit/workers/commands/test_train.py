"""`rsafe train`: the trainer's commands, with those of the worker beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from guard.training.cli import train as trainer
from workers.commands import train as module
from workers.commands.train import ANNOUNCE, announce_checkpoint, train


def test_the_trainer_gets_the_workers_commands_and_stays_as_it_is() -> None:
    assert {*trainer.commands} | {"export"} == {*train.commands}
    assert "export" not in trainer.commands
    assert train.help == trainer.help


def test_the_trainers_commands_find_the_announcement() -> None:
    seen: dict[str, Any] = {}

    @click.command()
    @click.pass_context
    def look(ctx: click.Context) -> None:
        seen.update(ctx.obj)

    group = module._extended(click.Group("train", commands={"look": look}))
    assert CliRunner().invoke(group, ["look"], catch_exceptions=False).exit_code == 0
    assert seen == {ANNOUNCE: announce_checkpoint}


def test_an_announcement_says_what_was_published(monkeypatch: Any) -> None:
    sent = []
    monkeypatch.setattr("workers.announcement.publish", lambda release, settings: sent.append(release))
    sentence = announce_checkpoint(Path("tiny"))
    assert sentence == f"moderation.checkpoints: rsafe-tiny {sent[0].checkpoint_digest}"
