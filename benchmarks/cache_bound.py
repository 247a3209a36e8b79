"""Cache-bound: events a second of the whole worker when every verdict is known, against a bare loop.

    python -m benchmarks.cache_bound [--records 60000] [--rounds 5]

Both read the same topic, filled beforehand, with deliveries awaited, one after the other in turns, on the
same broker: the bare loop in batches of 500, the worker in batches to 500 and to 100. Rates are those of the
output topic by the broker's clock, without the first tenth. A ratio is taken within a round.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

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
from workers.demo.worker_process import WorkerProcess

QUESTIONS: Final = 2_000
"""Distinct questions; each is asked again and again by other events."""
CONVERSATIONS: Final = 3_000
BATCH: Final = 500
TIMEOUT_S: Final = 300.0
HEALTH_PORT: Final = 18_080
SMALL_BATCH: Final = 100
BARE: Final[Mapping[str, str]] = {
    "echo": "bare loop, event written back",
    "decision": "bare loop, decision-sized output",
}
CONTENDERS: Final[Mapping[str, str]] = {
    **BARE,
    "redis": f"worker, verdicts in Redis, batches to {BATCH}",
    "redis-small": f"worker, verdicts in Redis, batches to {SMALL_BATCH}",
    "local": f"worker, verdicts in the process, batches to {BATCH}",
    "local-small": f"worker, verdicts in the process, batches to {SMALL_BATCH}",
}


class Bench:
    """One broker, one filled topic, and the contenders in turns."""

    def __init__(self, stack: LocalStack, folder: Path, records: int) -> None:
        self.stack = stack
        self._addresses, self._folder, self._records = stack.addresses, folder, records
        self._servers = self._addresses.bootstrap_servers
        self._run_id = uuid.uuid4().hex[:8]
        self._source = f"events-{self._run_id}"
        create_topic(self._servers, self._source)
        load(
            self._servers,
            self._source,
            repeated(records, questions=QUESTIONS, conversations=CONVERSATIONS),
        )
        self._number = 0

    def warm(self) -> None:
        """The first worker judges every question once; from then on all verdicts are in Redis."""
        self.worker("redis", expect_hits=False)

    def measure(self, contender: str) -> Rate:
        """One run over the whole topic."""
        return self.bare(contender) if contender in BARE else self.worker(contender)

    def bare(self, shape: str) -> Rate:
        """The bare loop in a process of its own."""
        target = self._target(shape)
        command = [sys.executable, "-m", "benchmarks.bare_loop", self._servers, target, self._source, target]
        with subprocess.Popen([*command, str(self._records), shape]) as process:
            wait_for_records(self._servers, target, self._records, process=None, timeout_s=TIMEOUT_S)
            process.wait(TIMEOUT_S)
        return rate_of([at for at, _ in read_values(self._servers, target)])

    def worker(
        self, kind: str, *, expect_hits: bool = True, settings: Mapping[str, str] | None = None
    ) -> Rate:
        """The whole worker, a group and output topics of its own."""
        target = self._target(kind)
        create_dead_letters_topic(self._servers, f"{target}-dead")
        log = self._folder / "worker.log"
        worker = WorkerProcess(
            environment={
                **self._addresses.environment(),
                "RSAFE_KAFKA__EVENTS_TOPIC": self._source,
                "RSAFE_KAFKA__DECISIONS_TOPIC": target,
                "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": f"{target}-dead",
                "RSAFE_KAFKA__GROUP_ID": target,
                "RSAFE_GUARD__ENGINE": "scripted",
                "RSAFE_STREAM__BATCH_RECORDS": str(SMALL_BATCH if kind.endswith("-small") else BATCH),
                "RSAFE_CACHE__LOCAL_BYTES": "0" if kind.startswith("redis") else "33554432",
                "RSAFE_SECRETS__CONTENT_KEY": self._run_id,
                **(settings or {}),
            },
            health_port=HEALTH_PORT,
            log=log,
        )
        worker.start()
        try:
            worker.wait_ready(lambda _: None)
            wait_for_records(self._servers, target, self._records, process=None, timeout_s=TIMEOUT_S)
        finally:
            worker.stop()
        pairs = read_values(self._servers, target)
        misses = sum(b'"hit":true' not in value for _, value in pairs)
        if expect_hits and misses:
            raise RuntimeError(f"{misses} of {len(pairs)} decisions were no cache hits")
        return rate_of([at for at, _ in pairs])

    def _target(self, name: str) -> str:
        self._number += 1
        target = f"{name}-{self._run_id}-{self._number}"
        create_topic(self._servers, target)
        return target


def report(rates: Mapping[str, list[Rate]], records: int) -> None:
    """The table, and each round's ratios to the bare loop."""
    found = {name: [rate.per_second for rate in ones] for name, ones in rates.items()}
    compared = {name: {bare: ratios(ones, found[bare]) for bare in BARE} for name, ones in found.items()}
    rows = [
        (CONTENDERS[name], middle(ones), *(middle(compared[name][bare], 2) for bare in BARE))
        for name, ones in found.items()
    ]
    facts = machine_facts("confluent-kafka", "msgspec", "redis", "hiredis")
    rounds = len(rates["echo"])
    markdown = (
        "# Cache-bound: all verdicts known\n\n"
        + table(("", "events/s", "of the bare echo", "of the bare decision"), rows)
        + f"\n{records:,} events over {QUESTIONS:,} questions, {rounds} rounds in turns; medians and ranges. "
        + "Broker and Redis on the same cores.\n"
        + facts_line(facts)
    )
    data = {"facts": facts, "records": records, "batches": [BATCH, SMALL_BATCH], "rates": dict(rates)}
    write_results("cache_bound", markdown, data | {"ratios": compared})


def take_turns(
    description: str | None, titles: Mapping[str, str], measure: Callable[[Bench, str], Rate]
) -> tuple[dict[str, list[Rate]], int]:
    """Rates of each contender, one a round, and the number of records; both numbers from the command line.

    `titles`: what a contender is called, by the name that `measure` takes.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rates: dict[str, list[Rate]] = {name: [] for name in titles}
    with tempfile.TemporaryDirectory() as folder, LocalStack(ephemeral=True) as stack:
        bench = Bench(stack, Path(folder), options.records)
        bench.warm()
        for number in range(options.rounds):
            for name in [*rates] if number % 2 == 0 else [*reversed(rates)]:
                rates[name].append(rate := measure(bench, name))
                say(f"round {number + 1}: {titles[name]}: {rate.per_second:,.0f} events/s")
    return rates, options.records


def main() -> None:
    """Run it."""
    report(*take_turns(__doc__, CONTENDERS, Bench.measure))


if __name__ == "__main__":
    main()
