"""What the parts of the local stack have in common: start until ready, stop, and the faults of a test."""

from __future__ import annotations

import errno
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from workers.adapters.embedded_process import RunningProcess, start_process
from workers.errors import StartError

LOOPBACK: Final = "127.0.0.1"
# Between two looks at a part that starts; short against the seconds that a JVM takes.
PROBE_INTERVAL_S: Final = 0.05
LOG_LINES_SHOWN: Final = 15
# A free port may be taken by somebody else between our look and the server's bind.
PORT_ATTEMPTS: Final = 3

Progress = Callable[[str], None]


def no_progress(_sentence: str) -> None:
    """Say nothing."""


class ServerProcess(ABC):
    """One server on the loopback address, with its data and log in a folder. Not safe for threads."""

    name: ClassVar[str]
    stop_timeout_s: ClassVar[float]
    start_timeout_s: ClassVar[float]
    optional: ClassVar[bool] = False
    """Whether a stack without it is whole."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        preferred_port: int = 0,
        detached: bool = False,
        death_signal: signal.Signals = signal.SIGTERM,
        progress: Progress = no_progress,
    ) -> None:
        """`port` 0 takes `preferred_port` if that is free, else any; the port stays over restarts."""
        self.folder = folder.absolute()
        self.port = 0
        self._required_port = port
        self._preferred_port = preferred_port
        self._detached = detached
        self._death_signal = death_signal
        self._progress = progress
        self._process: RunningProcess | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name.lower()}.log"

    @property
    def process(self) -> RunningProcess | None:
        """The server's process while it runs."""
        return self._process if self.running else None

    @property
    def running(self) -> bool:
        """Whether the process is there; a suspended one is."""
        return self._process is not None and not self._process.wait(0)

    @property
    def address(self) -> str:
        """Where clients find it."""
        return self.address_at(self.port)

    @staticmethod
    @abstractmethod
    def address_at(port: int) -> str:
        """Where clients find it on that port."""

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Make data folder and configuration for `self.port`, and give the command."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves requests now. Waits no longer than two seconds."""

    def answers_within(self, timeout_s: float) -> bool:
        """Whether it answers before that many seconds are over, or its process ends."""
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if self._process is None or self._process.wait(PROBE_INTERVAL_S) or time.monotonic() > deadline:
                return False
        return True

    def start(self, on_spawn: Callable[[], None] = lambda: None) -> None:
        """Start and return when it answers; nothing happens if it runs.

        `on_spawn` is called as soon as there is a process. Raises `StartError` with the log's last lines,
        and then no process is left.
        """
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(PORT_ATTEMPTS):
            self.port = self.port or self._choose_port()
            try:
                self._start_once(on_spawn)
            except StartError:
                if self._required_port or attempt == PORT_ATTEMPTS - 1 or port_is_free(self.port):
                    raise
                self.port = 0
            else:
                return

    def stop(self) -> None:
        """End it in good order, by force after `stop_timeout_s`; nothing happens if it does not run."""
        if self._process is not None:
            self._process.end(self.stop_timeout_s)
            self._process = None

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)
            self._process.wait(self.stop_timeout_s)
            self._process = None

    def suspend(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        if self._process is not None:
            self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        if self._process is not None:
            self._process.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same data and port. Raises `StartError`."""
        self.stop()
        self.start()

    def adopt(self, process: RunningProcess, port: int) -> None:
        """Take over a server that an earlier run of the command started."""
        self._process = process
        self.port = port

    def log_tail(self) -> str:
        """The last lines of the log, for an error message."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(f"  | {line}" for line in lines[-LOG_LINES_SHOWN:]) or "  | (empty)"

    def _choose_port(self) -> int:
        if self._required_port:
            if not port_is_free(self._required_port):
                raise StartError(
                    f"{self.name} cannot start: port {self._required_port} of {LOOPBACK} is in use; "
                    "choose another one, or none to take a free one"
                )
            return self._required_port
        if self._preferred_port and port_is_free(self._preferred_port):
            return self._preferred_port
        return free_port()

    def _start_once(self, on_spawn: Callable[[], None]) -> None:
        command = self._prepare()
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".previous.log"))
        self._progress(f"{self.name}: starting")
        began = time.monotonic()
        self._process = start_process(
            command, log=self.log, detached=self._detached, death_signal=self._death_signal
        )
        try:
            on_spawn()
            self._await_answer(self._process)
        except BaseException:
            # Whatever the reason, an interrupt included: a half-started server is of no use to anybody.
            self.kill()
            raise
        self._progress(f"{self.name}: ready at {self.address} after {time.monotonic() - began:.1f} s")

    def _await_answer(self, process: RunningProcess) -> None:
        if self.answers_within(self.start_timeout_s):
            return
        if not process.wait(0):
            reason = f"did not answer within {self.start_timeout_s:.0f} s"
        elif process.exit_code is None:
            reason = "ended while it started"
        else:
            reason = f"ended with exit code {process.exit_code} while it started"
        raise StartError(f"{self.name} {reason}; its log {self.log} ends:\n{self.log_tail()}")


def port_is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # Servers set it too: connections that were closed a moment ago do not keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def port_answers(port: int, timeout_s: float = 1.0) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True
