"""A worker with topics of its own under `rsafe load`: what `latency` and `memory` measure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.measure import create_dead_letters_topic, create_topic, memory_mib
from workers.adapters.embedded_addresses import Addresses
from workers.demo.worker_process import WorkerProcess
from workers.load.figures import LoadReport

TIMEOUT_S: Final = 600.0
WARM_UP_S: Final = 2.0


class Asks(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of `rsafe load`; its own defaults otherwise."""

    rate: float | None
    """None: as fast as possible, without a warm-up."""
    count: int
    hits: float
    seed: int = 1
    conversations: int = 1_000
    zipf: float = 1.0
    warm_up_s: float = WARM_UP_S
    pool: int = 1_000

    @property
    def events(self) -> int:
        """All that is sent."""
        warm_up = 0 if self.rate is None else round(self.rate * self.warm_up_s)
        return (self.pool if self.hits else 0) + warm_up + self.count

    def arguments(self) -> list[str]:
        """Of the command."""
        pace = ["--rate", "max"]
        if self.rate is not None:
            pace = ["--rate", str(self.rate), "--warm-up", str(self.warm_up_s)]
        return [
            *(*pace, "--count", str(self.count), "--hits", str(self.hits), "--seed", str(self.seed)),
            *("--conversations", str(self.conversations), "--zipf", str(self.zipf)),
            *("--pool", str(self.pool)),
        ]


class Site:
    """Topics of one worker, or of the bare loop in its place."""

    def __init__(self, addresses: Addresses, folder: Path, run: str, health_port: int) -> None:
        self._folder, self._run, self._servers = folder, run, addresses.bootstrap_servers
        self._health_port = health_port
        self._worker: WorkerProcess | None = None
        self._bare: subprocess.Popen[bytes] | None = None
        self._environment = {
            **addresses.environment(),
            "RSAFE_KAFKA__EVENTS_TOPIC": f"events-{run}",
            "RSAFE_KAFKA__DECISIONS_TOPIC": f"decisions-{run}",
            "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": f"dead-{run}",
            "RSAFE_KAFKA__GROUP_ID": run,
        }
        for topic in ("events", "decisions"):
            create_topic(self._servers, f"{topic}-{run}")
        create_dead_letters_topic(self._servers, f"dead-{run}")

    def start(self, **settings: str) -> None:
        """Start a worker with the scripted engine, and wait until it judges."""
        environment = self._environment | {"RSAFE_GUARD__ENGINE": "scripted"} | settings
        log = self._folder / f"{self._run}.log"
        self._worker = WorkerProcess(environment=environment, health_port=self._health_port, log=log)
        self._worker.start()
        self._worker.wait_ready(lambda _: None)

    def start_bare_loop(self, events: int) -> None:
        """Start the bare loop, which ends after so many events."""
        command = [sys.executable, "-m", "benchmarks.bare_loop", self._servers, self._run]
        topics = [f"events-{self._run}", f"decisions-{self._run}"]
        self._bare = subprocess.Popen([*command, *topics, str(events), "decision"])

    def load(self, asks: Asks) -> LoadReport:
        """One run of `rsafe load`. Raises RuntimeError when events had no outcome or no verdict."""
        file = self._folder / f"{self._run}.json"
        subprocess.run(
            [sys.executable, "-m", "workers", "load", *asks.arguments(), "--json", str(file)],
            env={**os.environ, **self._environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=True,
        )
        report = msgspec.json.decode(file.read_bytes(), type=LoadReport)
        judged = report.measured.hits + report.measured.misses
        if judged != report.measured.sent:
            raise RuntimeError(f"{judged} of {report.measured.sent} events were judged")
        return report

    def resident_mib(self) -> float:
        """Resident memory of the worker's process, as the system counts it."""
        assert self._worker is not None
        assert self._worker.pid is not None
        return memory_mib(self._worker.pid)

    def stop(self) -> None:
        """End what runs."""
        if self._worker is not None:
            self._worker.stop()
        if self._bare is not None:
            self._bare.terminate()
            self._bare.wait(30)
