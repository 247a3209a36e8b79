"""What both benchmarks share: topics with the broker's clock, rates read from them, tables."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.keys import PARTITIONER

RESULTS: Final = Path(__file__).parent / "results"
PARTITIONS: Final = 6
_WAIT_S: Final = 0.2
_ADMIN_TIMEOUT_S: Final = 20.0


class Rate(msgspec.Struct, frozen=True):
    """Records a second over a part of a topic, by the broker's clock."""

    per_second: float
    records: int
    seconds: float


def create_topic(bootstrap_servers: str, topic: str, partitions: int = PARTITIONS, **more: str) -> None:
    """A topic whose records carry the broker's time; `more` of its configuration."""
    admin: Any = AdminClient({"bootstrap.servers": bootstrap_servers})
    config = {"message.timestamp.type": "LogAppendTime", "retention.ms": "3600000"} | more
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
    for future in admin.create_topics([new]).values():
        future.result(_ADMIN_TIMEOUT_S)

    _wait_for_leaders(bootstrap_servers, topic)


def create_dead_letters_topic(bootstrap_servers: str, topic: str) -> None:
    """A topic with room for the headers that a dead letter has more than its record, as the worker asks."""
    create_topic(bootstrap_servers, topic, PARTITIONS, **{"max.message.bytes": "8388608"})


def _wait_for_leaders(bootstrap_servers: str, topic: str) -> None:
    consumer: Any = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "benchmark-watch"})
    end = time.monotonic() + _ADMIN_TIMEOUT_S
    try:
        while True:
            try:
                _held(consumer, topic)
            except KafkaException:
                if time.monotonic() > end:
                    raise
                time.sleep(_WAIT_S)
            else:
                return
    finally:
        consumer.close()


def load(bootstrap_servers: str, topic: str, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Produces (key, value) pairs as our own `produce` does, deliveries awaited; how many."""
    producer: Any = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "partitioner": PARTITIONER,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
        }
    )
    count = 0
    for key, value in records:
        while True:
            try:
                producer.produce(topic, value=value, key=key)
                break
            except BufferError:
                producer.poll(0.1)
        count += 1
    assert producer.flush(60) == 0
    return count


def wait_for_records(
    bootstrap_servers: str,
    topic: str,
    count: int,
    *,
    process: subprocess.Popen[bytes] | None,
    timeout_s: float,
) -> None:
    """Waits, cheaply, until the topic holds `count` records. Raises RuntimeError when it will not."""
    consumer: Any = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "benchmark-watch"})
    end = time.monotonic() + timeout_s
    try:
        while (have := _held(consumer, topic)) < count:
            if process is not None and process.poll() is not None:
                raise RuntimeError(
                    f"the process ended with exit code {process.returncode} at {have} of {count}"
                )
            if time.monotonic() > end:
                raise RuntimeError(f"{have} of {count} records after {timeout_s:.0f} s")
            time.sleep(_WAIT_S)
    finally:
        consumer.close()


def read_values(bootstrap_servers: str, topic: str) -> list[tuple[int, bytes]]:
    """(broker's time in ms, value) of every committed record, in order of time."""
    consumer: Any = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "benchmark-read",
            "enable.auto.commit": False,
            # The marks of transactions have offsets too, so offsets do not tell how many records there are.
            "enable.partition.eof": True,
            "fetch.max.bytes": 104_857_600,
        }
    )
    try:
        open_ends = set(_partitions(consumer, topic))
        consumer.assign([TopicPartition(topic, number, 0) for number in open_ends])
        found: list[tuple[int, bytes]] = []
        while open_ends:
            for message in consumer.consume(2_000, 1.0):
                if message.error() is None:
                    found.append((message.timestamp()[1], message.value()))
                    continue
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                open_ends.discard(message.partition())
    finally:
        consumer.close()
    return sorted(found, key=lambda pair: pair[0])


def rate_of(times_ms: Sequence[int], skip: float = 0.1) -> Rate:
    """The rate from the record at the share `skip`, when joining and first fetches are over, to the last."""
    first = int(len(times_ms) * skip)
    seconds = (times_ms[-1] - times_ms[first]) / 1000
    records = len(times_ms) - 1 - first
    return Rate(records / seconds, records, seconds)


def median(rates: Iterable[float]) -> float:
    """The median."""
    return statistics.median(rates)


def spread(rates: Sequence[float], digits: int = 0) -> str:
    """Lowest to highest."""
    return f"{min(rates):,.{digits}f}–{max(rates):,.{digits}f}"


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Each value to its round's other one."""
    return [value / other for value, other in zip(values, others, strict=True)]


def middle(values: Sequence[float], digits: int = 0) -> str:
    """Median and range as one cell."""
    return f"{median(values):,.{digits}f} ({spread(values, digits)})"


def machine_facts(*packages: str) -> dict[str, str]:
    """What a reader needs to compare; nothing that names the machine.

    The load tells whether anything else was running: a run of ours alone comes to about the number of cores.
    """
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d"),
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _processor(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load at the end": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def write_results(name: str, markdown: str, data: Mapping[str, Any]) -> None:
    """`results/<name>.md` and `.json`."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(markdown, encoding="utf-8")
    text = json.dumps(data, indent=1, ensure_ascii=False, default=msgspec.to_builtins)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(markdown)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table; the first column is text, the others are numbers."""
    lines = [" | ".join(header), " | ".join(["---", *["---:"] * (len(header) - 1)])]
    lines += [" | ".join(row) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def facts_line(facts: Mapping[str, str]) -> str:
    """The machine facts as one sentence."""
    return ", ".join(f"{name} {value}" for name, value in facts.items()) + ".\n"


def say(sentence: str) -> None:
    """Progress, on the error stream."""
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()


def _held(consumer: Any, topic: str) -> int:
    total = 0
    for number in _partitions(consumer, topic):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
        total += high - low
    return total


def _partitions(consumer: Any, topic: str) -> list[int]:
    found = consumer.list_topics(topic, timeout=10).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return sorted(found.partitions)


def processor_s(pid: int) -> float:
    """Processor time of a process so far, its threads included, in seconds."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    user, system = after_name.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, row: str = "VmRSS") -> float:
    """Resident memory of a process in MiB, now or (`VmHWM`) at its highest, as the system counts it."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{row}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
