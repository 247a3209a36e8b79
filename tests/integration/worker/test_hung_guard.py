"""A guard that hangs for longer than a session, on a real broker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from schemas.keys import record_key
from tests.integration.worker.harness import Topics, Worker, event, events
from tests.waiting import wait_for

SESSION_MS = 6_000
ANSWERED = 30
RECORDS, RECORD_CHARS = 4_000, 20_000
WINDOW_RECORDS, WINDOW_BYTES = 200, 4_194_304
# What the client fetches ahead, in bytes (`queued.max.messages.kbytes` in workers/adapters/kafka_options.py).
PREFETCH_BYTES = 32 * 1024 * 1024
# Window and prefetch fill within seconds; from then on nothing may grow. Together four sessions, in seconds.
SETTLED_AFTER_S, WATCHED_S = 8.0, 17.0
GROWTH_KIB = 4_096
SETTINGS = {
    "RSAFE_TEST_HOOKS": "messages-may-break-the-guard",
    "RSAFE_GUARD__HANG_TIMEOUT_MS": "600000",
    "RSAFE_GUARD__CALL_TIMEOUT_MS": "700000",
    "RSAFE_GUARD__MAX_CONCURRENCY": "8",
    "RSAFE_KAFKA__SESSION_TIMEOUT_MS": str(SESSION_MS),
    "RSAFE_KAFKA__MAX_POLL_INTERVAL_MS": str(SESSION_MS),
    "RSAFE_STREAM__BATCH_RECORDS": "20",
    "RSAFE_STREAM__IN_FLIGHT_RECORDS": str(WINDOW_RECORDS),
    "RSAFE_STREAM__IN_FLIGHT_RECORDS_PER_PARTITION": str(WINDOW_RECORDS // 2),
    "RSAFE_STREAM__IN_FLIGHT_BYTES": str(WINDOW_BYTES),
    "RSAFE_STREAM__IN_FLIGHT_BYTES_PER_PARTITION": str(WINDOW_BYTES // 2),
    # Records and bytes are to be what bounds.
    "RSAFE_STREAM__IN_FLIGHT_TOKENS": "100000000",
    "RSAFE_STREAM__IN_FLIGHT_TOKENS_PER_PARTITION": "100000000",
    "RSAFE_STREAM__DRAIN_S": "2",
}


def test_a_worker_whose_guard_hangs_keeps_its_place_and_its_size_and_commits_nothing(topics: Topics) -> None:
    topics.produce(*events(ANSWERED, topics.name))
    worker = topics.start(**SETTINGS)
    wait_for(lambda: topics.committed() == ANSWERED, "the commit of what was answered")
    topics.produce(
        [event("hangs", "t", "hangs", f"[[rsafe-fault hang]] {topics.name}")], [record_key("t", "hangs")]
    )
    wait_for(lambda: 'waiting_for="guard"' in worker.get("/metrics"), "the question at the guard")
    assert RECORDS * RECORD_CHARS > 2 * (PREFETCH_BYTES + WINDOW_BYTES)
    backlog(topics)
    # A worker that reads no further has its window full, or so nearly that no batch fits.
    wait_for(lambda: window_records(worker) > 0.7 * WINDOW_RECORDS, "the window to fill")
    changes, member = rebalances(worker), group(topics)
    wait_for(after(SETTLED_AFTER_S), "the client to have fetched ahead")
    sizes, until = [], time.monotonic() + WATCHED_S
    while time.monotonic() < until:
        sizes.append(resident_kib(worker))
        assert group(topics) == member
        wait_for(after(0.5), "the next look")
    assert max(sizes) - sizes[0] <= GROWTH_KIB, sizes
    assert rebalances(worker) == changes
    assert window_records(worker) <= WINDOW_RECORDS
    assert worker.answer("/health/live") == (200, "live\n")
    assert (topics.committed(), topics.count("decisions"), topics.count("dead")) == (ANSWERED, ANSWERED, 0)
    began = time.monotonic()
    assert worker.stop() == 0
    # Its drain and what the last deliveries may take, and not the guard's ten minutes.
    assert time.monotonic() - began < 2 + 30
    assert (topics.committed(), topics.count("decisions")) == (ANSWERED, ANSWERED)


def backlog(topics: Topics) -> None:
    filler = ("talk of many things " * RECORD_CHARS)[:RECORD_CHARS]
    for first in range(0, RECORDS, 500):
        numbers = range(first, first + 500)
        topics.produce(
            [event(f"b-{number}", "t", f"c-{number}", f"{number} {filler}") for number in numbers],
            [record_key("t", f"c-{number}") for number in numbers],
        )


def group(topics: Topics) -> Any:
    """State of the group, its members, and what each has."""
    with AdminClient({"bootstrap.servers": topics.bootstrap}) as admin:
        (asked,) = admin.describe_consumer_groups([topics.name], request_timeout=10).values()
        found = asked.result()
    return found.state, [
        (member.member_id, sorted(place.partition for place in member.assignment.topic_partitions))
        for member in found.members
    ]


def rebalances(worker: Worker) -> int:
    return sum("partitions" in line for line in worker.lines())


def window_records(worker: Worker) -> float:
    lines = worker.get("/metrics").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("rsafe_window_records ")))


def resident_kib(worker: Worker) -> int:
    lines = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))


def after(seconds: float) -> Any:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until
