"""`rsafe demo`: what it refuses before anything is started."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from workers.commands.demo import demo
from workers.errors import UsageError


@pytest.mark.parametrize(
    ("words", "named"),
    [(["--events", "5"], "--events"), (["--rate", "2"], "--rate"), (["--keep-running"], "--keep-running")],
)
def test_a_story_has_its_own_events_and_pace(words: list[str], named: str) -> None:
    run = CliRunner().invoke(demo, ["--story", "raid", *words])
    assert isinstance(run.exception, UsageError)
    assert str(run.exception).startswith(named)


def test_a_story_that_is_not_there_is_refused_with_those_that_are() -> None:
    run = CliRunner().invoke(demo, ["--story", "fire"])
    assert run.exit_code == 2
    assert "'raid'" in run.output
