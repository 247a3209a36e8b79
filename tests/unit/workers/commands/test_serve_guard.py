from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from guard.checkpoint import open_checkpoint
from guard.errors import CheckpointError
from workers.commands.serve_guard import serve_guard
from workers.errors import UsageError

pytestmark = pytest.mark.usefixtures("bare_guard")
KEY = "hunter2"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if vLLM were installed."""
    monkeypatch.setattr(
        "workers.commands.serve_guard.server_program", lambda folder: ["/opt/vllm", "serve", str(folder)]
    )
    monkeypatch.setattr("workers.commands.serve_guard.on_cpu", lambda: True)
    monkeypatch.setenv("RSAFE_GUARD__ENDPOINT_API_KEY", KEY)


def test_print_shows_the_command_line_without_the_key_and_runs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "execve", None)
    result = CliRunner().invoke(
        serve_guard, ["--port", "9000", "--print", "--", "--data-parallel-size", "2"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert KEY not in result.output
    checkpoint = open_checkpoint(
        os.environ["RSAFE_GUARD__CHECKPOINT"], template="rsafe-compact-1", weights=False
    )
    # Random weights have the name of no checkpoint.
    assert f"--served-model-name dummy:{checkpoint.weights_digest} " in result.output
    assert result.output.startswith(f"/opt/vllm serve {checkpoint.path} ")
    assert "--port 9000 " in result.output
    assert result.output.endswith("--data-parallel-size 2\n")


def test_the_server_takes_the_place_of_the_command_with_the_key_in_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *given: seen.append(given))
    CliRunner().invoke(serve_guard, [], catch_exceptions=False)
    ((program, command, environment),) = seen
    assert (program, command[0], command[1]) == ("/opt/vllm", "/opt/vllm", "serve")
    assert KEY not in " ".join(command)
    assert environment["VLLM_API_KEY"] == KEY
    assert not [name for name in environment if name.startswith("RSAFE_")]


@pytest.mark.parametrize("argument", ["--api-key", "--api_key=x", "--served-model-name=x", "--port"])
def test_what_is_ours_to_set_is_refused_among_vllms_arguments(argument: str) -> None:
    with pytest.raises(UsageError, match="expected it not here"):
        serve_guard.main(["--print", "--", argument], standalone_mode=False)


def test_a_checkpoint_that_is_not_what_its_manifest_says_is_not_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "execve", None)
    folder = Path(os.environ["RSAFE_GUARD__CHECKPOINT"])
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setenv("RSAFE_GUARD__CHECKPOINT", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        serve_guard.main([], standalone_mode=False)
