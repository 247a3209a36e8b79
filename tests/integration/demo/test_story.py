"""The story as a person tells it, with the stand-in engine: it goes otherwise and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.demo.test_demo import processes_of


def test_a_guard_that_reads_nothing_tells_another_story(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workers", "demo", "--story", "raid", "--engine", "scripted"]
    run = subprocess.run(
        [*command, "--folder", str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    )
    assert run.returncode == 1, run.stdout[-2000:] + run.stderr[-2000:]
    assert "1  An evening like others (version 1)" in run.stdout
    assert "   otherwise: " in run.stdout
    assert "a stand-in without a model" in run.stdout
    assert "The story went otherwise in" in run.stdout
    assert run.stderr == ""
    assert processes_of(tmp_path) == []
