"""The load harness alone: what `rsafe load` can send and take in, and how much of a core it takes.

    python -m benchmarks.load_alone [--records 200000] [--rate 20000] [--rounds 5]

Three measures in turns. Its producer alone, as fast as possible onto a topic that nobody reads. Its consumer
alone, over a topic full of decisions of its run. And all of it at a rate, with the bare loop
(`bare_loop.py`) in the place of a worker. The processor time is the whole process's, with librdkafka's
threads.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import msgspec
from rich.console import Console

from benchmarks.measure import (
    create_dead_letters_topic,
    create_topic,
    facts_line,
    machine_facts,
    median,
    say,
    spread,
    table,
    wait_for_records,
    write_results,
)
from workers.adapters.embedded import LocalStack
from workers.adapters.load_topics import EventSender, OutcomeReader
from workers.load.drive import Driver, Pace, Sent
from workers.load.follow import Follower, Outcomes
from workers.load.lengths import read_lengths
from workers.load.plan import LoadPlan, Traffic, event_prefix
from workers.load.run import Clocks, Run
from workers.load.words import Progress

TIMEOUT_S: Final = 120.0
WARM_UP_S: Final = 2.0
TITLES: Final[Mapping[str, str]] = {
    "sending": "producer alone, as fast as possible",
    "following": "consumer alone",
    "both": "both, at the rate asked, before the bare loop",
}


class Alone(msgspec.Struct, frozen=True):
    """One measure. `cores`: processor time by time; of the sending at a rate, how late, and how often the
    producer's queue had no room because the broker was slower.
    """

    per_second: float
    cores: float
    late_p50_ms: float | None = None
    late_p99_ms: float | None = None
    queue_full: int = 0


class FromStart(OutcomeReader):
    """Reads the topics from their beginning."""

    def _end(self, topic: str, partition: int, timeout_s: float) -> int:
        return 0


class Bench:
    """One broker; each measure has topics of its own."""

    def __init__(self, servers: str, records: int, rate: float) -> None:
        self._servers, self._records, self._rate = servers, records, rate

    def measure(self, name: str) -> Alone:
        """One of `TITLES`."""
        run = uuid.uuid4().hex[:8]
        for topic in (f"events-{run}", f"decisions-{run}"):
            create_topic(self._servers, topic)
        create_dead_letters_topic(self._servers, f"dead-{run}")
        traffic = Traffic(
            LoadPlan(
                run=run,
                seed=1,
                hits=0.9,
                pool=1_000,
                conversations=1_000,
                zipf=1.0,
                tenants=("load-test",),
                policy=None,
                lengths=read_lengths("lognormal:60:0.8"),
                longest_text=32_768,
                sent_at=datetime.now(UTC),
            )
        )
        measures = {"sending": self._sending, "following": self._following, "both": self._both}
        return measures[name](run, traffic)

    def _sending(self, run: str, traffic: Traffic) -> Alone:
        sender = self._sender(run)
        wall, cpu = time.monotonic(), time.process_time()
        self._send(sender, traffic)
        sender.finish()
        return self._alone(wall, cpu)

    def _following(self, run: str, traffic: Traffic) -> Alone:
        sender = self._sender(run)
        self._send(sender, traffic)
        sender.finish()
        with self._bare_loop(run, self._records) as process:
            wait_for_records(
                self._servers, f"decisions-{run}", self._records, process=None, timeout_s=TIMEOUT_S
            )
            process.wait(TIMEOUT_S)
        outcomes, stop, numbers = Outcomes(), threading.Event(), self._records + traffic.plan.pool
        reader = self._reader(run, FromStart)
        follower = Follower(reader, outcomes, event_prefix(run), sent=lambda: numbers, clock=time.monotonic)
        wall, cpu = time.monotonic(), time.process_time()
        thread = threading.Thread(target=follower.until, args=(stop,))
        thread.start()
        while len(outcomes) < self._records and time.monotonic() < wall + TIMEOUT_S:
            time.sleep(0.02)
        found = self._alone(wall, cpu)
        stop.set()
        thread.join()
        reader.close()
        assert len(outcomes) == self._records
        return found

    def _both(self, run: str, traffic: Traffic) -> Alone:
        reader = self._reader(run, OutcomeReader)
        pace = Pace(self._rate, WARM_UP_S, self._records, None)
        whole = self._records + traffic.plan.pool + (pace.warm_up_events or 0)
        with (
            self._bare_loop(run, whole) as process,
            Progress(Console(file=io.StringIO()), time.monotonic) as progress,
        ):
            cpu = time.process_time()
            wall = time.monotonic()
            report = Run(
                traffic,
                pace,
                self._sender(run),
                reader,
                drain_timeout_s=20.0,
                progress=progress,
                clocks=Clocks(time.monotonic, time.sleep),
            ).whole()
            cores = (time.process_time() - cpu) / (time.monotonic() - wall)
            process.terminate() if report.missing else process.wait(TIMEOUT_S)
        reader.close()
        assert not report.missing, f"{report.missing} events had no decision"
        assert report.sending.per_s is not None
        late = report.sending.late_ms
        assert late is not None
        return Alone(report.sending.per_s, cores, late.p50, late.p99, report.sending.queue_full)

    def _send(self, sender: EventSender, traffic: Traffic) -> None:
        driver = Driver(sender, Sent(), threading.Event(), clock=time.monotonic, sleep=time.sleep)
        driver.events(islice(traffic.events(), self._records), Pace(None, 0.0, self._records, None))

    def _alone(self, wall: float, cpu: float) -> Alone:
        seconds = time.monotonic() - wall
        return Alone(self._records / seconds, (time.process_time() - cpu) / seconds)

    def _sender(self, run: str) -> EventSender:
        options = {"bootstrap.servers": self._servers}
        return EventSender(options, f"events-{run}", timeout_s=10.0, delivery_timeout_ms=60_000)

    def _reader(self, run: str, kind: type[OutcomeReader]) -> OutcomeReader:
        options = {"bootstrap.servers": self._servers}
        return kind(options, f"decisions-{run}", f"dead-{run}", timeout_s=10.0)

    def _bare_loop(self, run: str, records: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.bare_loop", self._servers, run, f"events-{run}"]
        return subprocess.Popen([*command, f"decisions-{run}", str(records), "decision"])


def report(found: Mapping[str, list[Alone]], records: int, rate: float) -> None:
    """The table."""
    rows = [
        (
            TITLES[name],
            f"{median([one.per_second for one in ones]):,.0f} ({spread([one.per_second for one in ones])})",
            f"{median([one.cores for one in ones]):.2f}",
            _late([one.late_p99_ms for one in ones if one.late_p99_ms is not None]),
        )
        for name, ones in found.items()
    ]
    facts = machine_facts("confluent-kafka", "msgspec", "numpy")
    rounds = len(found["sending"])
    header = ("", "events/s (median and range)", "cores", "late, p99 in ms")
    markdown = (
        "# The load harness alone\n\n"
        + table(header, rows)
        + f"\n{records:,} events of some 350 bytes, {rounds} rounds in turns, {rate:,.0f} events/s asked; "
        + "broker and bare loop on the same cores. `cores`: processor time by time.\n"
        + facts_line(facts)
    )
    data: dict[str, Any] = {"facts": facts, "records": records, "rate": rate, "found": dict(found)}
    write_results("load_alone", markdown, data)


def _late(values: list[float]) -> str:
    return f"{median(values):.1f}" if values else "–"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=20_000.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[Alone]] = {name: [] for name in TITLES}
    with LocalStack(ephemeral=True) as stack:
        bench = Bench(stack.addresses.bootstrap_servers, options.records, options.rate)
        for number in range(options.rounds):
            for name, ones in found.items():
                ones.append(bench.measure(name))
                one = ones[-1]
                say(f"round {number + 1}: {name}: {one.per_second:,.0f} events/s, {one.cores:.2f} cores")
    report(found, options.records, options.rate)


if __name__ == "__main__":
    main()
