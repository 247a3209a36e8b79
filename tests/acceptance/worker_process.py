"""The worker as a child process that tests may kill: output in a file, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

from tests.acceptance.leaks import SharedRuns, readings_of
from workers.demo.worker_process import spawn_worker

Spawn: TypeAlias = Callable[[Mapping[str, str], Path], "subprocess.Popen[bytes]"]

_POLL_S: Final = 0.05
_LOG_LINES: Final = 30


class WorkerGone(AssertionError):
    """The worker ended, or did not end, when it should not."""


class WorkerProcess:
    """`rsafe worker` in a session of its own; starts again into the same log. A context manager."""

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        texts: Iterable[str] = (),
        *,
        spawn: Spawn = spawn_worker,
    ) -> None:
        """`environment`: the settings of the worker; ours with the same prefix are not handed on.

        Lines of the log that hold a run of one of the `texts` are withheld from error messages. `spawn`
        starts the program in a session of its own, with the output to the log.
        """
        self._spawn = spawn
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
        self._environment = kept | dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: list[int] = []
        self._texts = tuple(texts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions:
            for pid in _members(session):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def start(self) -> None:
        """Start it; returns at once."""
        self._process = self._spawn(self._environment, self._log)
        self._sessions.append(self._process.pid)

    @property
    def pid(self) -> int:
        """The process of the worker itself; engines run in children of it."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self._log

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def children(self) -> list[int]:
        """Processes that the worker started and that run still."""
        return [pid for session in self._sessions for pid in _members(session) if pid != self.pid]

    def assert_alive(self) -> None:
        """Raises `WorkerGone` with the end of the log when it has ended."""
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            raise WorkerGone(f"the worker ended with exit code {code}; its log ends:\n{self.last_lines()}")

    def kill(self) -> None:
        """SIGKILL to the worker process alone, as the kernel does when memory is short."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self, timeout_s: float) -> int:
        """SIGTERM; the exit code. Raises `WorkerGone` when it takes longer."""
        assert self._process is not None
        self._process.terminate()
        return self._wait(timeout_s, f"no end {timeout_s:.0f} s after SIGTERM")

    def wait_for_end(self, timeout_s: float) -> int:
        """The exit code with which it ends by itself. Raises `WorkerGone` when it takes longer."""
        return self._wait(timeout_s, f"it still runs after {timeout_s:.0f} s")

    def wait_for_children_to_end(self, timeout_s: float) -> None:
        """Raises `WorkerGone` when a process that the worker started outlives it by more than `timeout_s`."""
        end = time.monotonic() + timeout_s
        while left := [pid for session in self._sessions for pid in _members(session)]:
            if time.monotonic() > end:
                raise WorkerGone(f"{len(left)} processes outlived the worker by {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def log_lines(self) -> list[str]:
        """Everything that it wrote, over all starts."""
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    def _wait(self, timeout_s: float, sentence: str) -> int:
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise WorkerGone(f"{sentence}; its log ends:\n{self.last_lines()}") from error

    def last_lines(self) -> str:
        """The end of the log, fit to be printed."""
        shared = SharedRuns(self._texts)

        def printable(line: str) -> str:
            leaks = any(shared.first(reading) is not None for reading in readings_of(line))
            return "(withheld: holds message text)" if leaks else line

        return "\n".join(map(printable, self.log_lines()[-_LOG_LINES:]))


def _members(session: int) -> list[int]:
    """Processes of the session that are not zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold spaces: fields are counted from behind it.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found
