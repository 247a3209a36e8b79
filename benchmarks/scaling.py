"""Scaling: one, two and four workers on eight partitions; all verdicts known, and none (scripted engine).

    python -m benchmarks.scaling [--records 60000] [--rounds 5] [--workers 1 2 4]

The workers of a measure share a group. Its topic is filled when each of them has its partitions, so that no
worker reads what another has not come to yet. Rates are those of the output topic by the broker's clock,
without the first tenth. Workers, broker and Redis share the cores: with fewer cores than workers and broker
want, rates say how the cores are shared, and not how workers scale. So the processor time that the workers
took is measured beside them, from before the topic is filled until its last decision: what an event costs a
worker does not depend on how many others wait for the same core, but for what they do to each other's caches.
Its share of one worker's cost, times the number of workers, is what they would give on cores of their own.

Also what an event, a decision and a verdict take on disk and in Redis, which `rsafe plan` counts with.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import redis
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from benchmarks.cache_bound import CONVERSATIONS, QUESTIONS, TIMEOUT_S
from benchmarks.measure import (
    Rate,
    create_dead_letters_topic,
    create_topic,
    facts_line,
    load,
    machine_facts,
    middle,
    processor_s,
    rate_of,
    ratios,
    read_values,
    say,
    table,
    wait_for_records,
    write_results,
)
from benchmarks.workload import repeated
from schemas.event import Event
from workers.adapters.embedded import LocalStack
from workers.demo.worker_process import WorkerProcess

PARTITIONS: Final = 8
FIRST_PORT: Final = 18_090
_LOOK_S: Final = 0.1


class Measure(msgspec.Struct, frozen=True):
    """So many workers on one topic."""

    rate: Rate
    cpu_us: float
    """Processor time of all workers, in microseconds an event; waiting for events is in it."""
    decision_bytes: float
    """Key and value of a decision, as it was sent."""
    stored_bytes: dict[str, float]
    """A record of each topic on the broker's disk, compressed as producers sent it."""
    verdict_bytes: float
    """Of Redis's memory, a verdict that was new; 0 where none was."""


class Bench:
    """One broker and one Redis; each measure has topics and a group of its own."""

    def __init__(self, stack: LocalStack, folder: Path, records: int) -> None:
        self._addresses, self._folder, self._records = stack.addresses, folder, records
        self._data = stack.kafka.folder
        self._servers = stack.addresses.bootstrap_servers
        self._key = uuid.uuid4().hex[:8]
        self._filled = False

    def fill(self) -> None:
        """Let a worker answer every question once."""
        self.measure(1)
        self._filled = True

    def measure(self, count: int, *, hits: bool = True) -> Measure:
        """So many workers. Without `hits` no question is known, as often as it is asked."""
        run = uuid.uuid4().hex[:8]
        key = self._key if hits else run
        for topic in ("events", "decisions"):
            create_topic(self._servers, f"{topic}-{run}", PARTITIONS)
        create_dead_letters_topic(self._servers, f"dead-{run}")
        workers = [self._worker(run, number, key) for number in range(count)]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.wait_ready(lambda _: None)
            self._wait_divided(run, count)
            records = repeated(self._records, questions=QUESTIONS, conversations=CONVERSATIONS)
            records = records if hits else _new(records)
            memory, before = self._redis_bytes(), _cpu_s(workers)
            load(self._servers, f"events-{run}", records)
            decisions = f"decisions-{run}"
            wait_for_records(self._servers, decisions, self._records, process=None, timeout_s=TIMEOUT_S)
            cpu_s = _cpu_s(workers) - before
            memory = self._redis_bytes() - memory
        finally:
            for worker in workers:
                worker.stop()
        pairs = read_values(self._servers, decisions)
        known = sum(b'"hit":true' in value for _, value in pairs)
        if self._filled and known != (len(pairs) if hits else 0):
            raise RuntimeError(f"{known} of {len(pairs)} decisions were cache hits")
        return Measure(
            rate=rate_of([at for at, _ in pairs]),
            cpu_us=cpu_s * 1e6 / len(pairs),
            decision_bytes=sum(len(value) for _, value in pairs) / len(pairs),
            stored_bytes={
                topic: self._stored(f"{topic}-{run}") / len(pairs) for topic in ("events", "decisions")
            },
            verdict_bytes=0.0 if hits else memory / len(pairs),
        )

    def _redis_bytes(self) -> int:
        with redis.Redis.from_url(self._addresses.redis_url) as client:
            return int(client.info("memory")["used_memory"])

    def _stored(self, topic: str) -> int:
        return sum(file.stat().st_size for file in self._data.rglob(f"{topic}-*/*.log"))

    def _worker(self, run: str, number: int, key: str) -> WorkerProcess:
        return WorkerProcess(
            environment={
                **self._addresses.environment(),
                "RSAFE_KAFKA__EVENTS_TOPIC": f"events-{run}",
                "RSAFE_KAFKA__DECISIONS_TOPIC": f"decisions-{run}",
                "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": f"dead-{run}",
                "RSAFE_KAFKA__GROUP_ID": run,
                "RSAFE_GUARD__ENGINE": "scripted",
                "RSAFE_SECRETS__CONTENT_KEY": key,
                # More workers than cores wait for each other; a late answer must not make a miss of a hit.
                "RSAFE_REDIS__TIMEOUT_MS": "5000",
            },
            health_port=FIRST_PORT + number,
            log=self._folder / f"worker-{number}.log",
        )

    def _wait_divided(self, group: str, count: int) -> None:
        """Until each of so many members has its share of the partitions."""
        end = time.monotonic() + TIMEOUT_S
        with AdminClient({"bootstrap.servers": self._servers}) as admin:
            while not self._divided(admin, group, count):
                if time.monotonic() > end:
                    raise RuntimeError(f"{count} workers did not divide the partitions in {TIMEOUT_S:.0f} s")
                time.sleep(_LOOK_S)

    def _divided(self, admin: Any, group: str, count: int) -> bool:
        found = admin.describe_consumer_groups([group])[group].result()
        shares = [len(member.assignment.topic_partitions) for member in found.members]
        return (
            found.state == ConsumerGroupState.STABLE
            and len(shares) == count
            and sum(shares) == PARTITIONS
            and max(shares) - min(shares) <= 1
        )


def _new(records: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The same events, each with a text that no other has."""
    for number, (key, value) in enumerate(records):
        event = msgspec.json.decode(value, type=Event)
        message = msgspec.structs.replace(event.message, text=f"{event.message.text} ({number})")
        yield key, msgspec.json.encode(msgspec.structs.replace(event, message=message))


def _cpu_s(workers: Iterable[WorkerProcess]) -> float:
    return sum(processor_s(worker.pid) for worker in workers if worker.pid is not None)


def report(known: Mapping[int, list[Measure]], unknown: Mapping[int, list[Measure]], records: int) -> None:
    """The table, and each round's ratios to one worker."""
    rows = [*_rows("known", known), *_rows("new", unknown)]
    header = ("verdicts, workers", "events/s", "of 1", "µs of processor an event", "of 1")
    every = [one for ones in known.values() for one in ones]
    stored = {topic: middle([one.stored_bytes[topic] for one in every]) for topic in ("events", "decisions")}
    sent = middle([one.decision_bytes for one in every])
    kept = middle([one.verdict_bytes for ones in unknown.values() for one in ones])
    facts = machine_facts("confluent-kafka", "redis")
    rounds = len(next(iter(known.values())))
    markdown = (
        "# Scaling: workers on eight partitions\n\n"
        + table(header, rows)
        + f"\n{records:,} events, {rounds} rounds in turns; medians and ranges. Known: {QUESTIONS:,} "
        + "questions, all in Redis. New: each is asked once, and the scripted engine answers at once. "
        + "Broker, Redis and the client that sends are on the same cores. On disk: "
        + f"{stored['events']} bytes an event, {stored['decisions']} a decision ({sent} before compression); "
        + f"in Redis {kept} bytes a verdict.\n"
        + facts_line(facts)
    )
    data = {"facts": facts, "records": records, "known": dict(known), "new": dict(unknown)}
    write_results("scaling", markdown, data)


def _rows(name: str, found: Mapping[int, list[Measure]]) -> list[tuple[str, ...]]:
    rates = {count: [one.rate.per_second for one in ones] for count, ones in found.items()}
    costs = {count: [one.cpu_us for one in ones] for count, ones in found.items()}
    first = next(iter(found))
    return [
        (
            f"{name}, {count}",
            middle(rates[count]),
            middle(ratios(rates[count], rates[first]), 2),
            middle(costs[count], 1),
            middle(ratios(costs[count], costs[first]), 2),
        )
        for count in found
    ]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    known: dict[int, list[Measure]] = {count: [] for count in options.workers}
    unknown: dict[int, list[Measure]] = {count: [] for count in options.workers}
    with tempfile.TemporaryDirectory() as folder, LocalStack(ephemeral=True) as stack:
        bench = Bench(stack, Path(folder), options.records)
        bench.fill()
        for number in range(options.rounds):
            for count in list(known)[:: 1 if number % 2 else -1]:
                known[count].append(bench.measure(count))
                unknown[count].append(bench.measure(count, hits=False))
                for name, found in (("known", known), ("new", unknown)):
                    last = found[count][-1]
                    say(
                        f"round {number + 1}: {count} workers, {name}: {last.rate.per_second:,.0f} events/s, "
                        f"{last.cpu_us:.1f} µs of processor an event"
                    )
    report(known, unknown, options.records)


if __name__ == "__main__":
    main()
