"""Where a story is told: topics and groups of its own, a worker, a process of conduct, and commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import msgspec

from schemas.event import Event
from schemas.keys import record_key
from schemas.policy import Policy, policy_hash
from workers.adapters.admin import create_topics
from workers.adapters.embedded_addresses import Addresses
from workers.adapters.embedded_server import free_port
from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import RecordWriter
from workers.commands.topics import wanted_topics
from workers.demo.story import POLICY
from workers.demo.worker_process import WorkerProcess
from workers.errors import StreamStopped
from workers.settings import Settings, load_settings

# A command takes a second or two; on busy cores more.
_COMMAND_S: Final = 120.0
# With nothing new for this long, in seconds, the story stops: one judgement takes well under a second.
SILENCE_S: Final = 180.0


@dataclass
class Site:
    """Everything that a story needs but the servers. A context manager that leaves no process behind.

    `engine`: of the guard; logs and the store of conduct go to `folder`. The topics bear `name`, so that what
    a Kafka has already, and other stories on it, are left alone; they stay when it ends.
    """

    addresses: Addresses
    engine: str
    folder: Path
    name: str = field(default_factory=lambda: f"story-{uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self._store = self.folder / f"{self.name}-state"
        self.environment = self.addresses.environment() | self._names() | self._ways()
        self.settings: Settings = load_settings({**os.environ, **self.environment})
        self._open = ExitStack()
        self.processes: dict[str, WorkerProcess] = {}

    def _names(self) -> dict[str, str]:
        kafka = {
            f"RSAFE_KAFKA__{part.upper()}_TOPIC": f"{self.name}.{part.replace('_', '-')}"
            for part in (
                "events",
                "decisions",
                "dead_letters",
                "reviews",
                "checkpoints",
                "policies",
                "escalations",
            )
        }
        return kafka | {
            "RSAFE_CONDUCT__ENTRIES_TOPIC": f"{self.name}.conduct",
            "RSAFE_CONDUCT__STATE_TOPIC": f"{self.name}.conduct-state",
            "RSAFE_KAFKA__GROUP_ID": f"{self.name}-worker",
            "RSAFE_CONDUCT__GROUP_ID": f"{self.name}-conduct",
            # No verdict of another story answers: which ones are remembered is part of the story.
            "RSAFE_SECRETS__CONTENT_KEY": f"{self.name}-{uuid4().hex}",
        }

    def _ways(self) -> dict[str, str]:
        return {
            "RSAFE_GUARD__ENGINE": self.engine,
            "RSAFE_KAFKA__PARTITIONS": "3",
            "RSAFE_KAFKA__DELIVERY": "at-least-once",
            "RSAFE_POLICIES__SOURCE": "topic",
            "RSAFE_POLICIES__PATH": "",
            "RSAFE_POLICIES__DEFAULT": POLICY,
            "RSAFE_CONDUCT__STATE_FOLDER": str(self._store),
        }

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def create_topics(self) -> None:
        """Create them. Raises `StartError`."""
        kafka = self.settings.kafka
        create_topics(client_options(kafka), wanted_topics(self.settings), timeout_s=kafka.start_timeout_s)

    def start(self, on_wait: Callable[[float], None]) -> None:
        """Start the two processes and wait until both are ready. Raises `StartError`."""
        # The last that is done at the end: what conduct keeps there stands on its topic of states.
        self._open.callback(shutil.rmtree, self._store, ignore_errors=True)
        for command in ("worker", "conduct"):
            log = self.folder / f"{self.name}-{command}.log"
            process = WorkerProcess(
                environment=self.environment, health_port=free_port(), log=log, command=command
            )
            self._open.callback(process.stop)
            process.start()
            self.processes[command] = process
        for process in self.processes.values():
            process.wait_ready(on_wait)

    def stop(self) -> dict[str, int | None]:
        """End both; their exit codes."""
        self._open.close()
        return {name: process.exit_code for name, process in self.processes.items()}

    def command(self, *words: str) -> str:
        """What `rsafe` with these words prints. Raises `StreamStopped` with what it says where it fails."""
        name = f"`rsafe {' '.join(words[:2])}`"
        try:
            done = subprocess.run(
                [sys.executable, "-m", "workers", *words],
                env={**os.environ, **self.environment},
                capture_output=True,
                text=True,
                timeout=_COMMAND_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StreamStopped(f"{name} did not end within {_COMMAND_S:.0f} s") from error
        if done.returncode != 0:
            raise StreamStopped(f"{name} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def say(self, event: Event) -> None:
        """Publish an event."""
        kafka = self.settings.kafka
        writer = RecordWriter(
            client_options(kafka),
            kafka.events_topic,
            timeout_s=kafka.start_timeout_s,
            delivery_timeout_ms=kafka.delivery_timeout_ms,
        )
        writer.send(record_key(event.tenant, event.conversation_id), msgspec.json.encode(event))
        writer.finish()

    def await_policy(self, policy: Policy) -> float:
        """Wait until the worker judges by this version; for how many seconds."""
        started, wanted = time.monotonic(), f'policy_hash="{policy_hash(policy)}"'
        worker = self.processes["worker"]
        while not any(
            line.startswith("rsafe_policy_info{") and wanted in line
            for line in (worker.get("/metrics") or "").splitlines()
        ):
            self.check(time.monotonic() - started, "the new version of the policy")
            time.sleep(0.05)
        return time.monotonic() - started

    def check(self, waited_s: float, awaited: str) -> None:
        """Raises `StreamStopped` when a process has ended, or when it takes too long."""
        for process in self.processes.values():
            if process.exit_code is not None:
                raise StreamStopped(
                    f"the {process.name} ended with exit code {process.exit_code}; {process.last_lines()}"
                )
        if waited_s > SILENCE_S:
            raise StreamStopped(f"waited {SILENCE_S:.0f} s in vain for {awaited}")
