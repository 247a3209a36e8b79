"""Overload: the share of events that are judged in time when more comes in than the guard can take.

    python -m benchmarks.overload [--seconds 20] [--factors 0.8 1.2 2.0 4.0]

Two workers on one broker, each with topics of its own, take turns with the same load: the worker as it is,
and the worker with a plain queue before the guard (`first_come.py`). The guard is the scripted engine with a
fixed delay and a bounded number of calls, so that its capacity is known. An event is in time when its judged
decision was appended to its topic within the deadline, both by the broker's clock.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from confluent_kafka import Producer

from benchmarks.measure import (
    create_dead_letters_topic,
    create_topic,
    facts_line,
    machine_facts,
    median,
    read_values,
    say,
    table,
    wait_for_records,
    write_results,
)
from schemas.decision import Decision
from schemas.event import Event, Message
from schemas.keys import PARTITIONER, record_key
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_addresses import Addresses
from workers.demo.worker_process import WorkerProcess

Contender = Literal["deadlines", "first come"]
MODULES: Final[dict[Contender, str]] = {"deadlines": "workers", "first come": "benchmarks.first_come"}
PORTS: Final[dict[Contender, int]] = {"deadlines": 18_082, "first come": 18_083}
DELAY_MS: Final = 200
CALLS: Final = 8
CAPACITY_PER_S: Final = CALLS * 1000 / DELAY_MS
DEADLINE_MS: Final = 1_000
CONVERSATIONS: Final = 1_000
TIMEOUT_S: Final = 120.0
_DECODER: Final = msgspec.json.Decoder(Decision)
_SENT_AT: Final = datetime(2026, 1, 5, tzinfo=UTC)


class Share(msgspec.Struct, frozen=True):
    """What one worker made of one load. Milliseconds from the event's timestamp to its decision's."""

    contender: Contender
    factor: float
    events: int
    in_time: int
    judged: int
    median_ms: float
    p95_ms: float


class Contestant(WorkerProcess):
    """A worker with topics of its own."""

    def __init__(self, contender: Contender, addresses: Addresses, folder: Path) -> None:
        run = uuid.uuid4().hex[:8]
        self.contender = contender
        self.events, self.decisions = f"events-{run}", f"decisions-{run}"
        self.servers = addresses.bootstrap_servers
        self.sent = 0
        for topic in (self.events, self.decisions):
            create_topic(self.servers, topic)
        create_dead_letters_topic(self.servers, f"dead-{run}")
        self._command = [sys.executable, "-m", MODULES[contender], "worker"]
        environment = {
            "RSAFE_KAFKA__EVENTS_TOPIC": self.events,
            "RSAFE_KAFKA__DECISIONS_TOPIC": self.decisions,
            "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": f"dead-{run}",
            "RSAFE_KAFKA__GROUP_ID": run,
            "RSAFE_GUARD__ENGINE": "scripted",
            "RSAFE_GUARD__SCRIPTED_DELAY_MS": str(DELAY_MS),
            "RSAFE_GUARD__MAX_CONCURRENCY": str(CALLS),
            "RSAFE_CACHE__TTL_S": "0",
            "RSAFE_CACHE__LOCAL_BYTES": "0",
        }
        super().__init__(
            environment=addresses.environment() | environment,
            health_port=PORTS[contender],
            log=folder / f"{run}.log",
        )

    def start(self) -> None:
        """Start it; returns at once."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def draw(factor: float, seconds: float, seed: int) -> list[tuple[float, int]]:
    """(instant, conversation) of each message: arrivals at random, on average `factor` × capacity."""
    random_ = random.Random(seed)
    instants: list[tuple[float, int]] = []
    at = 0.0
    while (at := at + random_.expovariate(factor * CAPACITY_PER_S)) < seconds:
        instants.append((at, random_.randrange(CONVERSATIONS)))
    return instants


def measure(worker: Contestant, factor: float, seconds: float, seed: int) -> Share:
    """One load through one worker."""
    arrivals = draw(factor, seconds, seed)
    before = worker.sent
    _send(worker, arrivals)
    worker.sent += len(arrivals)
    wait_for_records(worker.servers, worker.decisions, worker.sent, process=None, timeout_s=TIMEOUT_S)
    new = read_values(worker.servers, worker.decisions)[before:]
    took: list[float] = []
    in_time = 0
    for at, value in new:
        decision = _DECODER.decode(value)
        if decision.status == "judged":
            took.append(at - decision.received_at.timestamp() * 1000)
            in_time += took[-1] <= DEADLINE_MS
    took.sort()
    share = Share(
        worker.contender,
        factor,
        len(new),
        in_time,
        len(took),
        median(took) if took else 0.0,
        took[int(0.95 * len(took))] if took else 0.0,
    )
    say(f"{worker.contender}, {factor:g} × capacity: {in_time / len(new):.1%} of {len(new)} in time")
    return share


def _send(worker: Contestant, arrivals: Sequence[tuple[float, int]]) -> None:
    producer: Any = Producer(
        {"bootstrap.servers": worker.servers, "partitioner": PARTITIONER, "linger.ms": 1, "acks": "all"}
    )
    begun = time.monotonic()
    for number, (at, conversation) in enumerate(arrivals):
        producer.poll(max(0.0, begun + at - time.monotonic()))
        while (left := begun + at - time.monotonic()) > 0:
            producer.poll(left)
        event = _event(worker.sent + number, conversation)
        producer.produce(
            worker.events, msgspec.json.encode(event), record_key(event.tenant, event.conversation_id)
        )
    assert producer.flush(60) == 0


def _event(number: int, conversation: int) -> Event:
    return Event(
        event_id=f"e-{number}",
        tenant="acme",
        conversation_id=f"c-{conversation}",
        message=Message(
            id=f"m-{number}", role="user", author="a-1", text=f"message {number}", sent_at=_SENT_AT
        ),
        deadline_ms=DEADLINE_MS,
    )


def report(shares: Sequence[Share]) -> None:
    """The table."""
    rows = [
        (
            f"{share.factor:g} ×",
            share.contender,
            f"{share.in_time / share.events:.1%}",
            f"{min(1.0, 1 / share.factor):.0%}",
            f"{share.median_ms:,.0f}",
            f"{share.p95_ms:,.0f}",
        )
        for share in shares
    ]
    facts = machine_facts("confluent-kafka", "msgspec")
    markdown = (
        "# Overload: who is judged in time\n\n"
        + table(("load", "queue", "in time", "at most possible", "median, ms", "95 %, ms"), rows)
        + f"\nScripted engine, {CALLS} calls of {DELAY_MS} ms at a time: {CAPACITY_PER_S:g} events/s. "
        + f"Deadline {DEADLINE_MS} ms, arrivals at random, no verdict known. `median` and `95 %` are of "
        + "judged events, from the broker's timestamp of the event to that of the decision.\n"
        + facts_line(facts)
    )
    write_results("overload", markdown, {"facts": facts, "shares": list(shares)})


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--factors", type=float, nargs="+", default=[0.8, 1.2, 2.0, 4.0])
    options = parser.parse_args()
    shares: list[Share] = []
    with tempfile.TemporaryDirectory() as folder, LocalStack(ephemeral=True) as stack:
        workers = [Contestant(contender, stack.addresses, Path(folder)) for contender in MODULES]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.wait_ready(lambda _: None)
                measure(worker, 0.5, 2.0, 0)  # the first answers teach how long one takes
            for number, factor in enumerate(options.factors):
                turns = workers if number % 2 else workers[::-1]
                shares += [measure(worker, factor, options.seconds, seed=number) for worker in turns]
        finally:
            for worker in workers:
                worker.stop()
    report(sorted(shares, key=lambda share: (share.factor, share.contender != "first come")))


if __name__ == "__main__":
    main()
