"""Exit codes: what the page promises is what the command line does."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from guard.errors import GuardError
from workers import cli, errors
from workers.commands.judge_start import EXIT_UNJUDGED
from workers.errors import WorkerError

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "exit-codes.md"
ROWS = {
    int(row[1]): row[2] for row in re.finditer(r"^\| (\d+) \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
}
CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, WorkerError) and value is not WorkerError
]


def code_of(raised: BaseException | None, monkeypatch: pytest.MonkeyPatch) -> object:
    """What the command line ends with when a command raises this."""

    def command(**_: object) -> None:
        if raised is not None:
            raise raised

    monkeypatch.setattr(cli.rsafe, "main", command)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_ends_with_its_code_which_the_page_has(
    error: type[WorkerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert code_of(error("x"), monkeypatch) == error.exit_code
    assert [code for code, text in ROWS.items() if f"`{error.__name__}`" in text] == [error.exit_code]


def test_every_code_of_the_page_is_given_by_something(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {code_of(None, monkeypatch), code_of(click.Abort(), monkeypatch), EXIT_UNJUDGED}
    given |= {WorkerError.exit_code, *(error.exit_code for error in CLASSES)}
    assert given == ROWS.keys()


def test_the_page_names_no_error_that_is_not_there() -> None:
    named = {name for text in ROWS.values() for name in re.findall(r"`(\w+)`", text)}
    assert named == {error.__name__ for error in CLASSES}


def test_an_error_of_the_guard_has_the_code_that_the_page_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [code for code, text in ROWS.items() if "error of the guard" in text]
    assert code_of(GuardError("x"), monkeypatch) == code


def test_a_mistake_on_the_command_line_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_of(click.UsageError("x"), monkeypatch) == errors.UsageError.exit_code
