"""The demo as a newcomer runs it, with the stand-in engine: rows, a summary, a clean end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "workers", "demo", "--engine", "scripted", "--rate", "100"]


def test_it_ends_by_itself_and_accounts_for_every_event(tmp_path: Path) -> None:
    run = subprocess.run(
        [*COMMAND, "--events", "60", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert re.search(r"^events +60$", run.stdout, re.MULTILINE)
    assert re.search(r"^decisions +57 ", run.stdout, re.MULTILINE)
    assert re.search(r"^dead letters +3$", run.stdout, re.MULTILINE)
    assert "a stand-in without a model" in run.stdout
    assert processes_of(tmp_path) == []


def test_kept_running_it_ends_well_when_told_to_and_leaves_nothing(tmp_path: Path) -> None:
    command = [*COMMAND, "--events", "60", "--keep-running", "--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("Everything is up" in line for line in process.stdout), "the demo ended early"
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(60) == 0
    assert processes_of(tmp_path) == []


def test_a_broker_that_does_not_answer_is_one_sentence_and_no_success(tmp_path: Path) -> None:
    run = subprocess.run(
        [*COMMAND, "--events", "5", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "RSAFE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"},
    )
    assert run.returncode == 3
    assert "127.0.0.1:1" in run.stderr
    assert "Traceback" not in run.stderr


def processes_of(folder: Path) -> list[str]:
    """Command lines of workers whose log lies in `folder` (they hold it open)."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            links = [str(link.readlink()) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(link.startswith(str(folder)) for link in links):
            found.append((process / "cmdline").read_text())
    return found
