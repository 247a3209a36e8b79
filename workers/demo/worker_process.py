"""A worker, or another long-running command, as a child process: started, awaited, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from workers.errors import StartError

# vLLM on two busy cores needs up to two minutes; a worker that takes longer has a problem that its log names.
START_TIMEOUT_S: Final = 360.0
_POLL_S: Final = 0.5
_LOG_LINES: Final = 15


def spawn_worker(
    environment: Mapping[str, str], log: Path, command: str = "worker"
) -> subprocess.Popen[bytes]:
    """Start `rsafe worker`, or another command, in a session of its own, with exactly this environment.

    Its output goes to `log`.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "workers", command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class WorkerProcess:
    """`rsafe worker` in a process group of its own, its output in a file; or another `command` that has the
    worker's health."""

    def __init__(
        self, *, environment: Mapping[str, str], health_port: int, log: Path, command: str = "worker"
    ) -> None:
        self._subcommand = command
        self._environment = {
            **os.environ,
            **environment,
            "RSAFE_HEALTH__HOST": "127.0.0.1",
            "RSAFE_HEALTH__PORT": str(health_port),
        }
        self.url = f"http://127.0.0.1:{health_port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log

    def start(self) -> None:
        """Start it; returns at once."""
        self._process = spawn_worker(self._environment, self.log, self._subcommand)

    def wait_ready(self, on_wait: Callable[[float], None], timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it judges. `on_wait` gets the seconds waited. Raises StartError with the log's end."""
        started = time.monotonic()
        while not self._is_ready():
            waited = time.monotonic() - started
            if self.exit_code is not None:
                raise StartError(
                    f"the {self.name} ended with exit code {self.exit_code}; {self.last_lines()}"
                )
            if waited > timeout_s:
                raise StartError(f"the {self.name} is not ready after {timeout_s:.0f} s; {self.last_lines()}")
            on_wait(waited)
            time.sleep(_POLL_S)

    @property
    def name(self) -> str:
        """As sentences name it."""
        return "worker" if self._subcommand == "worker" else f"process of `rsafe {self._subcommand}`"

    def get(self, path: str) -> str | None:
        """What its health server answers with status 200, else None."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=2) as response:  # noqa: S310 - our own URL
                return str(response.read().decode())
        except (urllib.error.URLError, OSError):
            return None

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int | None:
        """None before it was started."""
        return None if self._process is None else self._process.pid

    def stop(self, grace_s: float = 40.0) -> None:
        """SIGTERM, and SIGKILL to its group when it takes longer than `grace_s`. Safe to call twice."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # engine processes that outlived it
        process.wait()

    def last_lines(self) -> str:
        """The end of the log, as a sentence."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            lines = []
        return "the last lines of its log:\n" + "\n".join(lines)

    def _is_ready(self) -> bool:
        return self.get("/health/ready") is not None
