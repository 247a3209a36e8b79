"""Scaling: events a second of one, two and four workers on eight partitions, when every verdict is known.

    python -m benchmarks.scaling [--records 60000] [--rounds 5] [--workers 1 2 4]

The workers of a measure share a group. Its topic is filled when each of them has its partitions, so that no
worker reads what another has not come to yet. Rates are those of the output topic by the broker's clock,
without the first tenth. Workers, broker and Redis share the cores: with fewer cores than workers and broker
want, the figures say how the cores are shared, and not how workers scale.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

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
    rate_of,
    ratios,
    read_values,
    say,
    table,
    wait_for_records,
    write_results,
)
from benchmarks.workload import repeated
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_addresses import Addresses
from workers.demo.worker_process import WorkerProcess

PARTITIONS: Final = 8
FIRST_PORT: Final = 18_090
_LOOK_S: Final = 0.1


class Bench:
    """One broker and one Redis; each measure has topics and a group of its own."""

    def __init__(self, addresses: Addresses, folder: Path, records: int) -> None:
        self._addresses, self._folder, self._records = addresses, folder, records
        self._servers = addresses.bootstrap_servers
        self._key = uuid.uuid4().hex[:8]

    def measure(self, count: int, *, expect_hits: bool = True) -> Rate:
        """So many workers on one topic. Without `expect_hits` it fills Redis."""
        run = uuid.uuid4().hex[:8]
        for topic in ("events", "decisions"):
            create_topic(self._servers, f"{topic}-{run}", PARTITIONS)
        create_dead_letters_topic(self._servers, f"dead-{run}")
        workers = [self._worker(run, number) for number in range(count)]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.wait_ready(lambda _: None)
            self._wait_divided(run, count)
            records = repeated(self._records, questions=QUESTIONS, conversations=CONVERSATIONS)
            load(self._servers, f"events-{run}", records)
            decisions = f"decisions-{run}"
            wait_for_records(self._servers, decisions, self._records, process=None, timeout_s=TIMEOUT_S)
        finally:
            for worker in workers:
                worker.stop()
        pairs = read_values(self._servers, decisions)
        misses = sum(b'"hit":true' not in value for _, value in pairs)
        if expect_hits and misses:
            raise RuntimeError(f"{misses} of {len(pairs)} decisions were no cache hits")
        return rate_of([at for at, _ in pairs])

    def _worker(self, run: str, number: int) -> WorkerProcess:
        return WorkerProcess(
            environment={
                **self._addresses.environment(),
                "RSAFE_KAFKA__EVENTS_TOPIC": f"events-{run}",
                "RSAFE_KAFKA__DECISIONS_TOPIC": f"decisions-{run}",
                "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": f"dead-{run}",
                "RSAFE_KAFKA__GROUP_ID": run,
                "RSAFE_GUARD__ENGINE": "scripted",
                "RSAFE_SECRETS__CONTENT_KEY": self._key,
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


def report(rates: Mapping[int, list[Rate]], records: int) -> None:
    """The table, and each round's ratios to one worker."""
    found = {count: [rate.per_second for rate in ones] for count, ones in rates.items()}
    first = next(iter(found))
    compared = {count: ratios(ones, found[first]) for count, ones in found.items()}
    rows = [(str(count), middle(ones), middle(compared[count], 2)) for count, ones in found.items()]
    facts = machine_facts("confluent-kafka", "redis")
    markdown = (
        "# Scaling: workers on eight partitions, all verdicts known\n\n"
        + table(("workers", "events/s", f"of {first}"), rows)
        + f"\n{records:,} events over {QUESTIONS:,} questions, {len(found[first])} rounds in turns; medians "
        + "and ranges. Broker and Redis on the same cores.\n"
        + facts_line(facts)
    )
    data = {"facts": facts, "records": records, "rates": dict(rates), "ratios": compared}
    write_results("scaling", markdown, data)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    rates: dict[int, list[Rate]] = {count: [] for count in options.workers}
    with tempfile.TemporaryDirectory() as folder, LocalStack(ephemeral=True) as stack:
        bench = Bench(stack.addresses, Path(folder), options.records)
        bench.measure(1, expect_hits=False)
        for number in range(options.rounds):
            for count in list(rates)[:: 1 if number % 2 else -1]:
                rates[count].append(bench.measure(count))
                say(f"round {number + 1}: {count} workers: {rates[count][-1].per_second:,.0f} events/s")
    report(rates, options.records)


if __name__ == "__main__":
    main()
