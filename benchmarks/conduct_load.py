"""What the benchmarks of `rsafe conduct` have in common: decisions, rules, topics and a process, and the
engine of the app alone, without Kafka and without a store."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.measure import PARTITIONS, create_dead_letters_topic, create_topic
from benchmarks.workload import write_policies
from schemas.conduct import Conduct, ConductRule, Level
from schemas.decision import Decision, PolicyUsed
from schemas.generate import FOLDER
from schemas.keys import record_key
from schemas.policy import Category, Policy
from workers.adapters.embedded_server import LOOPBACK, free_port
from workers.conduct.engine import Engine
from workers.conduct.entries import Entry, decode, encode
from workers.conduct.intake import Unreadable, read_decision
from workers.conduct.rules import Rules
from workers.conduct.state import decode_state, encode_state

START: Final = datetime(2026, 1, 5, tzinfo=UTC)
# All within the allowed lateness, whatever the order in which partitions are read.
SPAN: Final = timedelta(minutes=30)
# So many authors have one conversation; and a step that goes through all of them in turn.
AUTHORS_A_ROOM: Final = 4
STRIDE: Final = 7
TENANT: Final = "acme"
_MODEL: Final = FOLDER / "examples" / "decision" / "v1" / "good_judged.json"
_CLASSES: Final = ("decisions", "reviews", "entries", "escalations")
_START_TIMEOUT_S: Final = 120.0
_POLL_S: Final = 0.1

POLICY: Final = Policy(
    id="benchmark",
    version="1",
    categories=(Category(code="C1", title="One", definition="whatever"),),
    conduct=Conduct(
        rules=(
            ConductRule(
                id="repeated",
                per="author",
                window_s=86_400,
                half_life_s=21_600,
                levels=(Level(score=5, recommend="warn"), Level(score=20, recommend="mute", for_s=3_600)),
            ),
            ConductRule(
                id="raid",
                per="conversation",
                counts="authors",
                window_s=300,
                levels=(Level(score=20, recommend="human_review"),),
            ),
        )
    ),
)
"""Rules as docs/how-to/watch-conduct.md has them: what one author does, and who attacks one conversation."""


class Alone(msgspec.Struct, frozen=True):
    """What the engine alone made of the decisions, one after the other."""

    seconds: float
    states: dict[bytes, bytes]
    """By key, as the state topic has them."""
    writes: int
    """How often a state was changed: so many records the state topic gets from the app."""
    escalations: int


def decisions(
    count: int, *, authors: int, share: float, seed: int = 1, revision: int | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of decisions in order of time, of every author as many, each on a message of its own. A
    share of them are blocks; the others are allowed and have no weight. Always the same for one seed."""
    if authors % STRIDE == 0:
        raise ValueError(
            f"authors: expected no multiple of {STRIDE}, or not all of them would have decisions"
        )
    model = msgspec.json.decode(_MODEL.read_bytes(), type=Decision)
    policy = PolicyUsed(id=POLICY.id, version="1", policy_hash="0" * 64, judgement_hash="0" * 64)
    seeded, encoder = random.Random(seed), msgspec.json.Encoder()
    rooms = max(1, authors // AUTHORS_A_ROOM)
    for number in range(count):
        at, room = START + SPAN * (number / count), f"room-{seeded.randrange(rooms)}"
        made = msgspec.structs.replace(
            model,
            decision_id=f"{seed:08x}{number:056x}",
            tenant=TENANT,
            author=f"author-{number * STRIDE % authors}",
            conversation_id=room,
            content_mac=f"{number:064x}",
            role="user",
            lane="live",
            epoch=0,
            supersedes=None,
            message_id=f"message-{number}",
            message_revision=revision,
            status="judged",
            action="block" if seeded.random() < share else "allow",
            sent_at=at,
            received_at=at,
            categories=(),
            policy=policy,
        )
        yield record_key(TENANT, room), encoder.encode(made)


def alone(records: Iterable[tuple[bytes, bytes]]) -> Alone:
    """The engine in this process: entries and states go through their stored form, as in the app."""
    book = Rules([POLICY])
    engine = Engine(book, allowed_lateness_s=3_600)
    states: dict[bytes, bytes] = {}
    writes = escalations = 0
    began = time.perf_counter()
    for _, value in records:
        read = read_decision(value, book)
        if isinstance(read, Unreadable):
            raise RuntimeError(f"{read.field}: {read.sentence}")  # noqa: TRY004
        waiting: deque[bytes] = deque(map(encode, read))
        while waiting:
            entry: Entry | None = decode(waiting.popleft())
            assert entry is not None
            key = entry.subject.key
            stored = states.get(key)
            step = engine.apply(None if stored is None else decode_state(stored), entry)
            waiting.extend(map(encode, step.entries))
            escalations += len(step.escalations)
            after = None if step.state is None else encode_state(step.state)
            if after is not None and after != stored:
                states[key] = after
                writes += 1
    return Alone(time.perf_counter() - began, states, writes, escalations)


class Site:
    """Topics and a group of one round, and a process of `rsafe conduct`."""

    def __init__(self, bootstrap_servers: str, folder: Path, name: str) -> None:
        self.servers, self.name, self._folder = bootstrap_servers, name, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        for one in _CLASSES:
            create_topic(bootstrap_servers, self.topic(one))
        create_topic(bootstrap_servers, self.topic("state"), PARTITIONS, **{"cleanup.policy": "compact"})
        create_dead_letters_topic(bootstrap_servers, self.topic("dead"))

    def topic(self, one: str) -> str:
        """Its name in this round."""
        return f"{self.name}-{one}"

    @property
    def store(self) -> Path:
        """Folder of the process's store."""
        return self._folder / f"{self.name}-store"

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the process."""
        return {
            "RSAFE_KAFKA__BOOTSTRAP_SERVERS": self.servers,
            "RSAFE_KAFKA__DECISIONS_TOPIC": self.topic("decisions"),
            "RSAFE_KAFKA__REVIEWS_TOPIC": self.topic("reviews"),
            "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": self.topic("dead"),
            "RSAFE_KAFKA__ESCALATIONS_TOPIC": self.topic("escalations"),
            "RSAFE_CONDUCT__ENTRIES_TOPIC": self.topic("entries"),
            "RSAFE_CONDUCT__STATE_TOPIC": self.topic("state"),
            "RSAFE_CONDUCT__GROUP_ID": self.name,
            "RSAFE_CONDUCT__STATE_FOLDER": str(self.store),
            "RSAFE_POLICIES__PATH": str(write_policies(self._folder, [POLICY])),
            "RSAFE_POLICIES__DEFAULT": POLICY.id,
            "RSAFE_HEALTH__PORT": str(self._port),
        }

    def start(self, **settings: str) -> float:
        """Start a process; returns, once it is ready, the seconds that this took."""
        began = time.monotonic()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers", "conduct"],
                env=clean | self.environment | settings,
                stdout=log,
                stderr=log,
            )
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() - began > _START_TIMEOUT_S:
                raise RuntimeError("rsafe conduct did not become ready")
            time.sleep(_POLL_S)
        return time.monotonic() - began

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one that runs."""
        assert self._process is not None
        return self._process

    def stop(self) -> None:
        """End what runs, at once: all that is looked at afterwards lies on the topics."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self._port}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
