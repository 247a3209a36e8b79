"""A worker process with topics and a group of its own, and what it reads and writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from schemas.decision import Decision
from schemas.keys import PARTITIONER, record_key
from tests.model_folders import write_tokenizer
from tests.waiting import PATIENCE_S, patiently, wait_for
from workers.adapters.kafka_errors import error_of

# Of a broker on which no group was yet, and of one that starts.
_NO_COORDINATOR = (
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
)
DECODER = msgspec.json.Decoder(Decision)
# For tests that end a process by force, and wait until the broker misses it. All others keep the default,
# 45 s: a machine that stands still for some seconds must not cost them their partitions.
SOON_MISSED: Final = {"RSAFE_KAFKA__SESSION_TIMEOUT_MS": "6000"}


@dataclass
class Worker:
    """A running `rsafe worker`."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def said(self, sentence: str) -> dict[str, Any] | None:
        return next((line for line in self.lines() if line.get("event") == sentence), None)

    def partitions(self) -> list[int] | None:
        changes = [line["partitions"] for line in self.lines() if "partitions" in line]
        return changes[-1] if changes else None

    def get(self, path: str) -> str:
        return self.answer(path)[1]

    def answer(self, path: str) -> tuple[int, str]:
        """Status and text that the health server gives."""
        started = wait_for(lambda: self.said("The checks before the start have passed."), "the start")
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{started['health_port']}{path}", timeout=5
            ) as answer:
                return answer.status, str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@dataclass
class Topics:
    """Topics and a group of one test."""

    bootstrap: str
    redis_url: str
    folder: Path
    name: str
    partitions: int = 3
    workers: list[Worker] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "RSAFE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "RSAFE_KAFKA__EVENTS_TOPIC": f"{self.name}.events",
            "RSAFE_KAFKA__DECISIONS_TOPIC": f"{self.name}.decisions",
            "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": f"{self.name}.dead",
            "RSAFE_KAFKA__GROUP_ID": self.name,
            # A machine that stands still for some seconds must not cost a worker its verdicts.
            "RSAFE_REDIS__TIMEOUT_MS": "5000",
            "RSAFE_REDIS__URL": self.redis_url,
            "RSAFE_GUARD__ENGINE": "scripted",
            "RSAFE_GUARD__CHECKPOINT": str(self.folder / "model"),
            "RSAFE_GUARD__LOAD_FORMAT": "dummy",
            "RSAFE_HEALTH__PORT": "0",
            "RSAFE_STREAM__COMMIT_INTERVAL_MS": "200",
        }

    def create(self, **decisions_config: str) -> None:
        write_model(self.folder / "model")
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        topics = [
            NewTopic(
                f"{self.name}.events",
                self.partitions,
                1,
                config={"message.timestamp.type": "LogAppendTime"},
            ),
            NewTopic(f"{self.name}.decisions", self.partitions, 1, config=decisions_config),
            NewTopic(f"{self.name}.dead", 1, 1, config={"max.message.bytes": "8388608"}),
        ]
        make_topics(admin, topics)

    def limit(self, topic: str, max_bytes: int) -> None:
        """Let a topic take records of so many bytes, as they come: compressed."""
        entry = ConfigEntry("max.message.bytes", str(max_bytes), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, f"{self.name}.{topic}", incremental_configs=[entry])
        # Named: an answer that is awaited is lost with its client.
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        (altered,) = admin.incremental_alter_configs([resource]).values()
        altered.result()

    def start(self, **changes: str) -> Worker:
        """Start a worker; it is stopped with the test."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as stream:
            clean = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
            process = subprocess.Popen(
                [sys.executable, "-m", "workers", "worker"],
                env=clean | self.environment | changes,
                stdout=stream,
                stderr=stream,
            )
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    def produce(self, values: list[bytes], keys: list[bytes | None], headers: Any = None) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "partitioner": PARTITIONER, "linger.ms": 5})
        for value, key in zip(values, keys, strict=True):
            producer.produce(f"{self.name}.events", value, key, headers=headers)
        assert producer.flush(30) == 0

    def records(self, topic: str, isolation: str = "read_committed") -> list[Any]:
        """Every record of a topic that a reader of this isolation sees, in order per partition."""
        return patiently(lambda: self._records(topic, isolation))

    def _records(self, topic: str, isolation: str) -> list[Any]:
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "reader",
                "isolation.level": isolation,
                # The end is told by the client: where a transaction ends, the last offset holds no record.
                "enable.partition.eof": True,
                "enable.auto.commit": False,
            }
        )
        name, records = f"{self.name}.{topic}", []
        try:
            unfinished = set(consumer.list_topics(name).topics[name].partitions)
            consumer.assign([TopicPartition(name, number, 0) for number in unfinished])
            while unfinished:
                for message in consumer.consume(500, 0.2):
                    if message.error() is None:
                        records.append(message)
                        continue
                    assert message.error().code() == KafkaError._PARTITION_EOF
                    unfinished.discard(message.partition())
            return records
        finally:
            consumer.close()

    def decisions(self) -> list[Decision]:
        return [DECODER.decode(message.value()) for message in self.records("decisions")]

    def count(self, topic: str) -> int:
        return patiently(lambda: self._count(topic))

    def _count(self, topic: str) -> int:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "reader"})
        try:
            numbers = consumer.list_topics(f"{self.name}.{topic}").topics[f"{self.name}.{topic}"].partitions
            return sum(
                consumer.get_watermark_offsets(TopicPartition(f"{self.name}.{topic}", number))[1]
                for number in numbers
            )
        finally:
            consumer.close()

    def wait_decided(self, count: int) -> None:
        wait_for(lambda: self.count("decisions") >= count, f"{count} decisions")

    def committed(self) -> int:
        return patiently(self._committed)

    def _committed(self) -> int:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.name})
        try:
            places = [TopicPartition(f"{self.name}.events", number) for number in range(self.partitions)]
            return sum(max(0, place.offset) for place in consumer.committed(places, timeout=10))
        except KafkaException as error:
            if error_of(error).code() not in _NO_COORDINATOR:
                raise
            return 0
        finally:
            consumer.close()


def make_topics(admin: AdminClient, topics: list[NewTopic]) -> None:
    """Create topics; asked again where an answer is lost, for what an earlier try may have made."""

    def ask() -> None:
        for future in admin.create_topics(topics).values():
            try:
                future.result()
            except KafkaException as error:
                if error_of(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:  # by a try before
                    raise

    patiently(ask)


def write_model(folder: Path) -> None:
    """Tokenizer and configuration: all that the scripted engine needs."""
    size = write_tokenizer(folder)
    config = {"model_type": "qwen2", "vocab_size": size, "max_position_embeddings": 65536, "eos_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config))


@contextmanager
def topics_of(topics: Topics) -> Iterator[Topics]:
    """Ends the workers of a test whatever happens."""
    try:
        yield topics
    finally:
        for worker in topics.workers:
            if worker.process.poll() is None:
                worker.kill()


def events(
    count: int, salt: str, *, conversations: int = 7, texts: int = 40
) -> tuple[list[bytes], list[bytes | None]]:
    """Values and keys of events; texts repeat, so that some are remembered. `salt`: of this test alone."""
    values, keys = [], list[bytes | None]()
    for number in range(count):
        tenant, conversation = f"tenant-{number % 2}", f"conversation-{number % conversations}"
        values.append(
            event(f"event-{number}", tenant, conversation, f"this is message text {number % texts} of {salt}")
        )
        keys.append(record_key(tenant, conversation))
    return values, keys


def event(event_id: str, tenant: str, conversation: str, text: str, **more: Any) -> bytes:
    message = {
        "id": f"m-{event_id}",
        "role": "user",
        "author": "a",
        "text": text,
        "sent_at": "2026-01-01T00:00:00Z",
    }
    return json.dumps(
        {"event_id": event_id, "tenant": tenant, "conversation_id": conversation, "message": message} | more
    ).encode()


def order_inversions(decisions: list[Decision]) -> int:
    """How often a decision stands behind a later one of its conversation; second deliveries do not count."""
    newest: dict[tuple[str, str], int] = {}
    seen: set[str] = set()
    inversions = 0
    for decision in decisions:
        if decision.decision_id in seen:
            continue
        seen.add(decision.decision_id)
        line = (decision.tenant, decision.conversation_id)
        inversions += decision.origin.offset < newest.get(line, -1)
        newest[line] = max(decision.origin.offset, newest.get(line, -1))
    return inversions
