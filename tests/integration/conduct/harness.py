"""Processes of `rsafe conduct` with topics and a group of their own, and what they read and write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.decision import Decision
from schemas.escalation import Escalation
from schemas.keys import PARTITIONER, record_key
from schemas.policy import Policy
from schemas.review import Review
from tests.acceptance.topics import uncommitted
from tests.integration.worker.harness import make_topics
from tests.waiting import PATIENCE_S, wait_for
from workers.adapters.topics_io import read_records
from workers.conduct.bounds import MOST_BYTES

PARTITIONS = 3
_NAMES = ("decisions", "reviews", "entries", "state", "escalations", "dead")


@dataclass
class Process:
    """A running `rsafe conduct`."""

    process: subprocess.Popen[bytes]
    log: Path

    def port(self) -> int:
        def started() -> int | None:
            for line in self.log.read_text().splitlines():
                if line.startswith("{") and "health_port" in line:
                    return int(json.loads(line)["health_port"])
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            return None

        return int(wait_for(started, "the checks before the start"))

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port()}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def await_ready(self) -> None:
        wait_for(lambda: self.get("/health/ready")[0] == 200, "readiness")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@dataclass
class Site:
    """Topics, a group and a policy file."""

    bootstrap: str
    folder: Path
    name: str
    policy: Policy
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        content = msgspec.to_builtins(self.policy)
        kept = {name: value for name, value in content.items() if value is not None}
        (self.folder / "policy.yaml").write_text(yaml.safe_dump(kept))

    @property
    def environment(self) -> dict[str, str]:
        return {
            "RSAFE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "RSAFE_KAFKA__DECISIONS_TOPIC": f"{self.name}.decisions",
            "RSAFE_KAFKA__REVIEWS_TOPIC": f"{self.name}.reviews",
            "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": f"{self.name}.dead",
            "RSAFE_KAFKA__ESCALATIONS_TOPIC": f"{self.name}.escalations",
            "RSAFE_CONDUCT__ENTRIES_TOPIC": f"{self.name}.entries",
            "RSAFE_CONDUCT__STATE_TOPIC": f"{self.name}.state",
            "RSAFE_CONDUCT__GROUP_ID": self.name,
            "RSAFE_POLICIES__PATH": str(self.folder / "policy.yaml"),
            "RSAFE_POLICIES__DEFAULT": self.policy.id,
            "RSAFE_HEALTH__PORT": "0",
        }

    def create(self) -> None:
        compacted = {"cleanup.policy": "compact", "max.message.bytes": str(MOST_BYTES)}
        topics = [
            NewTopic(f"{self.name}.{one}", PARTITIONS, 1, config=compacted if one == "state" else {})
            for one in _NAMES
        ]
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        make_topics(admin, topics)

    def start(self, store: str, **changes: str) -> Process:
        """Start a process with a store of this name; it is ended with the test."""
        log = self.folder / f"conduct-{len(self.processes)}.log"
        more = {"RSAFE_CONDUCT__STATE_FOLDER": str(self.folder / store), **changes}
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers", "conduct"],
                env=self._env(more),
                stdout=stream,
                stderr=stream,
            )
        self.processes.append(Process(process, log))
        return self.processes[-1]

    def command(self, *words: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            [sys.executable, "-m", "workers", *words], env=self._env({}), capture_output=True, timeout=120
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def _env(self, more: dict[str, str]) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
        return clean | self.environment | more

    def decide(self, decisions: Iterable[Decision]) -> None:
        self.produce(
            "decisions",
            [(record_key(one.tenant, one.conversation_id), msgspec.json.encode(one)) for one in decisions],
        )

    def review(self, *reviews: Review) -> None:
        self.produce("reviews", [(one.decision_id.encode(), msgspec.json.encode(one)) for one in reviews])

    def produce(self, topic: str, records: Iterable[tuple[bytes | None, bytes]]) -> None:
        limits = {"message.max.bytes": MOST_BYTES}
        producer = Producer({"bootstrap.servers": self.bootstrap, "partitioner": PARTITIONER, **limits})
        for key, value in records:
            producer.produce(f"{self.name}.{topic}", value, key)
        assert producer.flush(30) == 0

    def records(self, topic: str) -> list[Any]:
        batches = read_records(
            {"bootstrap.servers": self.bootstrap},
            f"{self.name}.{topic}",
            start="beginning",
            follow=False,
            timeout_s=10,
        )
        return [record for batch in batches for record in batch]

    def escalations(self) -> list[Escalation]:
        return [msgspec.json.decode(one.value, type=Escalation) for one in self.records("escalations")]

    def behind(self) -> int:
        """Records that the group has not committed."""
        topics = [f"{self.name}.{topic}" for topic in ("decisions", "reviews", "entries")]
        return sum(uncommitted(self.bootstrap, self.name, topic) for topic in topics)

    def await_end(self) -> None:
        wait_for(lambda: self.behind() == 0, "the end of every topic", 90)

    def close(self) -> None:
        for one in self.processes:
            if one.process.poll() is None:
                one.kill()
