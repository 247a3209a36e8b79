"""The command line: lazy, and errors are one sentence and an exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workers.cli import COMMANDS, LazyGroup, rsafe


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from workers.cli import main; main()", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={"PATH": "/bin", **environment}, check=False
    )


def test_every_subcommand_can_be_imported_and_has_the_help_that_is_listed() -> None:
    assert isinstance(rsafe, LazyGroup)
    for name in COMMANDS:
        command = rsafe.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None, name
        assert command.help, name


@pytest.mark.parametrize("module", ["torch", "vllm", "transformers", "confluent_kafka", "redis"])
def test_help_imports_no_heavy_library(module: str) -> None:
    code = f"import sys, workers.cli; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_are_printed_without_secrets() -> None:
    result = run("settings", RSAFE_REDIS__URL="redis://:hunter2@cache/0", RSAFE_KAFKA__GROUP_ID="blue")
    assert result.returncode == 0
    assert "RSAFE_KAFKA__GROUP_ID=blue" in result.stdout
    assert "hunter2" not in result.stdout + result.stderr


def test_a_mistyped_setting_ends_with_exit_code_2_and_one_sentence() -> None:
    result = run("settings", RSAFE_KAFKA__GROPU_ID="blue")
    assert result.returncode == 2
    assert result.stderr.startswith("rsafe: unknown setting RSAFE_KAFKA__GROPU_ID")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("wrker",), "rsafe: No such command 'wrker' (see `rsafe --help`)\n"),
        (("policy", "check"), "rsafe: Missing argument 'PATH' (see `rsafe policy check --help`)\n"),
    ],
)
def test_a_wrong_use_is_one_sentence_with_the_place_of_help(
    arguments: tuple[str, ...], sentence: str
) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stderr == sentence


def test_a_group_alone_shows_its_help() -> None:
    result = run("policy")
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: rsafe policy")


def test_what_differs_from_its_default_is_marked_also_when_it_is_zero_or_secret() -> None:
    result = run("settings", RSAFE_CACHE__TTL_S="0", RSAFE_REDIS__URL="redis://:hunter2@cache/0")
    marked = [line for line in result.stdout.splitlines() if line.endswith("   # set")]
    assert [line.partition("=")[0] for line in marked] == ["RSAFE_REDIS__URL", "RSAFE_CACHE__TTL_S"]
    assert "hunter2" not in result.stdout
