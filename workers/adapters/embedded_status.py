"""A local stack seen by another run of the command: what is up, and taking it down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workers.adapters.embedded_addresses import SERVERS
from workers.adapters.embedded_folder import StackFolder
from workers.adapters.embedded_server import Progress, no_progress
from workers.errors import StartError


@dataclass(frozen=True)
class PartStatus:
    """One part of a stack."""

    name: str
    state: Literal["up", "not answering", "down"]
    address: str
    pid: int | None
    memory_mib: int | None
    """Resident memory."""
    log: str


def stack_status(folder: Path) -> list[PartStatus]:
    """Kafka and Redis of the stack in that folder, in this order, and Prometheus where one runs. Changes
    nothing."""
    record = StackFolder(folder).read()
    running = record.running()
    parts = []
    for name, kind in SERVERS.items():
        server, process = kind(Path(record.data)), running.get(name)
        if process is None and kind.optional:
            continue
        if process is None:
            parts.append(PartStatus(name, "down", "", None, None, str(server.log)))
            continue
        server.adopt(process, record.parts[name].port)
        state: Literal["up", "not answering"] = "up" if server.answers() else "not answering"
        memory = _memory_mib(process.pid)
        parts.append(PartStatus(name, state, server.address, process.pid, memory, str(server.log)))
        process.close()
    return parts


def take_down(folder: Path, progress: Progress = no_progress) -> list[str]:
    """End what `up` left running in that folder, in good order; the names of the parts that were ended.

    Raises `StartError` when another process holds the stack.
    """
    home = StackFolder(folder)
    if not home.path.exists():
        return []
    with home.locked():
        record = home.read()
        if record.owner and record.owner_runs():
            raise StartError(f"{home.path} is in use by process {record.owner.pid}; end that instead")
        running = record.running()
        for name, process in running.items():
            progress(f"{name}: stopping")
            process.end(SERVERS[name].stop_timeout_s)
        home.release()
    return list(running)


def _memory_mib(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    kibibytes = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")]
    return kibibytes[0] // 1024 if kibibytes else None
