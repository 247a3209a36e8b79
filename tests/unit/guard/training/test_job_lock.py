import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guard.errors import TrainingError
from guard.training.job_lock import join_start, one_start

LONGEST_S = 60.0
# A launcher stands between the process that is asked and the one that trains, as torchrun does.
WORKER = """
import signal, sys
from pathlib import Path
from guard.training.job_lock import join_start
folder = Path(sys.argv[1])
join_start(folder)
(folder / "joined").touch()
signal.pause()
"""
LAUNCHER = """
import subprocess, sys
worker, folder = sys.argv[1:]
sys.exit(subprocess.run([sys.executable, "-c", worker, folder]).returncode)
"""
ASKED = """
import sys
from pathlib import Path
from guard.training import launch
from guard.training.grpo_settings import GrpoSettings
launcher, worker, folder = sys.argv[1:]
launch.command = lambda settings, job: [sys.executable, "-c", launcher, worker, folder]
launch.launch("grpo", GrpoSettings(processes=2), Path(folder), [], Path(folder), print)
"""


def wait_for(found: Path) -> None:
    ends = time.monotonic() + LONGEST_S
    while not found.exists():
        assert time.monotonic() < ends
        time.sleep(0.02)


def is_free(folder: Path) -> bool:
    try:
        with one_start(folder):
            return True
    except TrainingError:
        return False


def test_started_processes_end_with_the_one_that_was_asked(tmp_path: Path) -> None:
    asked = subprocess.Popen([sys.executable, "-c", ASKED, LAUNCHER, WORKER, str(tmp_path)])
    try:
        wait_for(tmp_path / "joined")
        with pytest.raises(TrainingError, match="of another start still train"), one_start(tmp_path):
            pass
    finally:
        asked.send_signal(signal.SIGKILL)
        asked.wait(LONGEST_S)
    ends = time.monotonic() + LONGEST_S
    while not is_free(tmp_path):  # launcher and worker hold the folder as long as they live
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_one_start_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with one_start(folder):
        assert not is_free(folder)
    assert is_free(folder)


def test_a_process_that_was_started_holds_the_folder_after_the_start_is_over(tmp_path: Path) -> None:
    """The descriptor that the launcher inherits: no moment is free between a kill and the workers' end."""
    with one_start(tmp_path) as held:
        launcher = subprocess.Popen(["sleep", "600"], pass_fds=(held,))
    try:
        assert not is_free(tmp_path)
    finally:
        launcher.kill()
        launcher.wait(LONGEST_S)
    assert is_free(tmp_path)


def test_nobody_joins_while_a_start_takes_the_folder(tmp_path: Path) -> None:
    with (tmp_path / "job.lock").open("w") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="is taken by another start"):
            join_start(tmp_path)
