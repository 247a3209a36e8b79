"""What the acceptance test sends, and under which policies and settings the worker runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from confluent_kafka import KafkaException, Producer

from schemas.keys import PARTITIONER
from schemas.policy import Policy
from tests.acceptance.events_from_data import Sent, Surface, as_sent, events_of, pick_rows
from tests.acceptance.evidence import DeadLetterDue
from tests.acceptance.malformed import Limits, Malformed, malformed_records
from tests.acceptance.records import Place
from tests.model_folders import write_bare_folder
from workers.adapters.embedded_addresses import Addresses
from workers.demo.traffic import demo_records
from workers.policies import load_policies

ROWS: Final = 1_000
"""Rows of the test data that are taken at least."""
DEMO_EVENTS: Final = 600
"""Records that stand in for the rows where there is no test data."""
LIMITS: Final = Limits(event_bytes=200_000, text_chars=32_768, context_turns=64, context_chars=131_072)
SURFACES: Final = (
    Surface("acme"),  # no policy of its own: the default, which thinks
    Surface("northstar-games"),  # a policy of its own, fast
    Surface("kids-planet", "minors"),
    Surface("swift", "swift-users-only"),
)
FLUSH_TIMEOUT_S: Final = 60.0
STAND_IN_LENGTH: Final = 16_384
"""Tokens that the stand-in reads; some of the rows are longer, and are judged in text windows."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics of one run."""

    events: str
    decisions: str
    dead_letters: str


def traffic(data: Path | None, policies: Mapping[str, Policy]) -> list[Sent]:
    """The events: of the test data where there are any, else those of the demo."""
    if data is not None:
        rows = pick_rows(data, ROWS)
        sources = {path.name.removesuffix(".jsonl.gz") for path in data.glob("*.jsonl.gz")}
        assert len(rows) >= ROWS and {row.source for row in rows} == sources, "a source or rows are missing"
        return events_of(rows, SURFACES)
    now = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    records = demo_records(policies, count=DEMO_EVENTS, now=now)
    return [as_sent(record.event) for record in records if record.event is not None]


def with_malformed(
    events: Sequence[Sent], malformed: Sequence[Malformed]
) -> list[tuple[Sent, Malformed | None]]:
    """The malformed records spread over the events, each in the conversation of the event before it."""
    gap = max(1, len(events) // (len(malformed) + 1))
    mixed: list[tuple[Sent, Malformed | None]] = []
    left = iter(malformed)
    for number, event in enumerate(events, start=1):
        mixed.append((event, None))
        if number % gap == 0 and (bad := next(left, None)) is not None:
            key = event.key if bad.sent.key is not None else None
            mixed.append((Sent(bad.sent.value, key, bad.sent.headers), bad))
    assert next(left, None) is None, "more malformed records than events"
    return mixed


def publish(
    bootstrap_servers: str, topic: str, records: Sequence[tuple[Sent, Malformed | None]]
) -> dict[Place, DeadLetterDue]:
    """Produces all, in order; the places of the malformed ones with what they must become."""
    due: dict[Place, DeadLetterDue] = {}
    delivered = 0
    producer: Any = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "partitioner": PARTITIONER,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
        }
    )

    def noted(bad: Malformed | None) -> Any:
        def report(error: Any, message: Any) -> None:
            nonlocal delivered
            if error is not None:
                raise KafkaException(error)
            delivered += 1
            if bad is not None:
                due[Place(message.topic(), message.partition(), message.offset())] = bad.due

        return report

    for sent, bad in records:
        producer.produce(
            topic, value=sent.value, key=sent.key, headers=list(sent.headers), on_delivery=noted(bad)
        )
        producer.poll(0)
    assert producer.flush(FLUSH_TIMEOUT_S) == 0 and delivered == len(records), (
        "not all records were delivered"
    )
    return due


def write_policies(folder: Path, **changes: Any) -> Mapping[str, Policy]:
    """The shipped packs, and a fast one that judges users only; returns them by id.

    `changes`: fields that all of them have instead of their own.
    """
    shipped = load_policies("", "community").by_id
    packs = {name: msgspec.structs.replace(policy, **changes) for name, policy in shipped.items()}
    swift = msgspec.structs.replace(
        packs["community"], id="swift-users-only", mode="fast", surfaces=("user",), examples=()
    )
    policies = {**packs, swift.id: swift}
    folder.mkdir()
    for policy in policies.values():
        content = {name: value for name, value in msgspec.to_builtins(policy).items() if value is not None}
        for category in content["categories"]:
            category.update({name: value for name, value in category.items() if value is not None})
        (folder / f"{policy.id}.yaml").write_text(
            yaml.safe_dump(content, allow_unicode=True), encoding="utf-8"
        )
    return policies


def worker_environment(
    addresses: Addresses, topics: Topics, policies: Path, *, run_id: str, guard: Mapping[str, str]
) -> dict[str, str]:
    """Settings of the worker under test. A key of its own keeps it from the verdicts of other runs."""
    return {
        **addresses.environment(),
        "RSAFE_KAFKA__GROUP_ID": f"moderation-{run_id}",
        "RSAFE_KAFKA__EVENTS_TOPIC": topics.events,
        "RSAFE_KAFKA__DECISIONS_TOPIC": topics.decisions,
        "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": topics.dead_letters,
        "RSAFE_KAFKA__PARTITIONS": "4",
        # The partitions of the killed worker go to its successor after this; the broker allows no less.
        "RSAFE_KAFKA__SESSION_TIMEOUT_MS": "6000",
        **guard,
        # On busy cores a slow Redis or guard is no fault; what is not kept would have to be judged anew.
        "RSAFE_REDIS__TIMEOUT_MS": "10000",
        "RSAFE_GUARD__CALL_TIMEOUT_MS": "120000",
        "RSAFE_STREAM__IN_FLIGHT_RECORDS": "100",
        "RSAFE_POLICIES__PATH": str(policies),
        "RSAFE_LIMITS__EVENT_BYTES": str(LIMITS.event_bytes),
        "RSAFE_LIMITS__TEXT_CHARS": str(LIMITS.text_chars),
        "RSAFE_LIMITS__CONTEXT_TURNS": str(LIMITS.context_turns),
        "RSAFE_LIMITS__CONTEXT_CHARS": str(LIMITS.context_chars),
        "RSAFE_SECRETS__CONTENT_KEY": f"acceptance-{run_id}",
        "RSAFE_HEALTH__PORT": "0",
        "RSAFE_LOG__LEVEL": "debug",
    }


def guard_environment(engine: str, folder: Path) -> dict[str, str]:
    """Settings of the guard: the shipped checkpoint on vLLM, or the stand-in, which needs no weights."""
    if engine == "vllm":
        return {
            "RSAFE_GUARD__ENGINE": "vllm",
            "RSAFE_GUARD__CHECKPOINT": "tiny",
            # Far above its usual rationale; bounds the time where a text of another kind makes it ramble.
            "RSAFE_GUARD__THINK_BUDGET_TOKENS": "128",
        }
    config = write_bare_folder(folder) / "config.json"
    length = {"max_position_embeddings": STAND_IN_LENGTH}
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | length), encoding="utf-8")
    return {
        "RSAFE_GUARD__ENGINE": "scripted",
        "RSAFE_GUARD__CHECKPOINT": str(folder),
        "RSAFE_GUARD__LOAD_FORMAT": "dummy",
        # With a window of 100, all of it takes some seconds: time to be killed in.
        "RSAFE_GUARD__SCRIPTED_DELAY_MS": "300",
    }


def create_topics(environment: Mapping[str, str]) -> None:
    """`rsafe topics create` with the settings of the worker."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
    subprocess.run(
        [sys.executable, "-m", "workers", "topics", "create"],
        env=kept | dict(environment),
        check=True,
        timeout=60,
    )


def malformed() -> list[Malformed]:
    """The malformed records for the limits of this run."""
    return malformed_records(LIMITS)
