"""How many decisions a second one process of `rsafe conduct` counts, and what of Faust's own speed that is.

    python -m benchmarks.conduct_bound [--decisions 2000] [--authors 500] [--rounds 3]

The same decisions lie on a topic each time. Contenders take turns: the app where every decision has weight,
and, over five times as many, where one in ten has; an agent of Faust on the same client that only reads them,
and one that writes an acknowledged record for each (`faust_bare.py`); and the app's engine alone in this
process, with no Kafka and no store. The app's rate is of all decisions, from its first entry to its last
change of state, by the broker's clock; the agents' from their first record to their last.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.conduct_load import Alone, Site, alone, decisions
from benchmarks.measure import (
    create_topic,
    facts_line,
    load,
    machine_facts,
    middle,
    processor_s,
    ratios,
    read_values,
    say,
    table,
    wait_for_records,
    write_results,
)
from workers.adapters.embedded import LocalStack

TIMEOUT_S: Final = 300.0
SHARES: Final = {"every decision has weight": (1.0, 1), "one in ten has weight": (0.1, 5)}
"""The share that has weight, and how often as many decisions there are."""
ENGINE: Final = "the engine alone, every decision has weight"
READS: Final = "Faust agent that reads"
WRITES: Final = "Faust agent that writes one record each"


class Figure(msgspec.Struct, frozen=True):
    """One contender in one round."""

    per_second: float
    seconds: float
    core: float | None = None
    """Processor time of the app's process by time."""


class Bench:
    """The contenders, on one broker."""

    def __init__(self, servers: str, folder: Path, count: int, authors: int) -> None:
        self._servers, self._folder, self._count = servers, folder, count
        self._records = {
            name: list(decisions(times * count, authors=authors, share=share))
            for name, (share, times) in SHARES.items()
        }
        self.expected: dict[str, Alone] = {name: alone(some) for name, some in self._records.items()}
        self._full = next(iter(SHARES))
        self._source = f"bare-{uuid.uuid4().hex[:8]}"
        create_topic(servers, self._source)
        load(servers, self._source, self._records[self._full])

    def contenders(self) -> Mapping[str, Callable[[], Figure]]:
        """By name."""
        return {
            **{f"rsafe conduct, {name}": lambda name=name: self._app(name) for name in SHARES},  # type: ignore[misc]
            READS: lambda: self._bare("reads"),
            WRITES: lambda: self._bare("writes"),
            ENGINE: self._engine,
        }

    def _engine(self) -> Figure:
        found = alone(self._records[self._full])
        return Figure(self._count / found.seconds, found.seconds)

    def _app(self, name: str) -> Figure:
        site = Site(self._servers, self._folder, f"conduct-{uuid.uuid4().hex[:8]}")
        expected = self.expected[name]
        try:
            site.start()
            before = processor_s(site.process.pid)
            load(self._servers, site.topic("decisions"), self._records[name])
            wait_for_records(
                self._servers,
                site.topic("state"),
                expected.writes,
                process=site.process,
                timeout_s=TIMEOUT_S,
            )
            used = processor_s(site.process.pid) - before
        finally:
            site.stop()
        entries = read_values(self._servers, site.topic("entries"))
        states = read_values(self._servers, site.topic("state"))
        if len(states) != expected.writes:
            raise RuntimeError(f"{len(states)} changes of state; expected {expected.writes}")
        seconds = (states[-1][0] - entries[0][0]) / 1000
        return Figure(len(self._records[name]) / seconds, seconds, used / seconds)

    def _bare(self, what: str) -> Figure:
        run = f"bare-{uuid.uuid4().hex[:8]}"
        create_topic(self._servers, run)
        words = [self._servers, run, self._source, run, str(self._count), str(self._folder / run), what]
        subprocess.run([sys.executable, "-m", "benchmarks.faust_bare", *words], check=True, timeout=TIMEOUT_S)
        times = [at for at, _ in read_values(self._servers, run)]
        seconds = (times[-1] - times[0]) / 1000
        return Figure(self._count / seconds, seconds)


def report(rounds: Mapping[str, Sequence[Figure]], bench: Bench, count: int, authors: int) -> None:
    """The table."""
    rates = {name: [one.per_second for one in found] for name, found in rounds.items()}
    rows = []
    for name, found in rounds.items():
        cores = [one.core for one in found if one.core is not None]
        of = [middle(ratios(rates[name], rates[other]), 3) for other in (READS, WRITES)]
        rows.append((name, middle(rates[name]), *of, middle(cores, 2) if cores else "–"))
    counts = "; ".join(
        f"{name}: {one.writes:,} changes of state, {one.escalations:,} escalations"
        for name, one in bench.expected.items()
    )
    facts = machine_facts("faust-streaming", "aiokafka", "rocksdict", "msgspec")
    header = ("", "decisions/s", "of the agent that reads", "of the agent that writes", "of a core")
    markdown = (
        "# Conduct: decisions a second of one process\n\n"
        + table(header, rows)
        + f"\n{count:,} decisions of {authors:,} authors, a rule per author and one per conversation; "
        + f"{len(next(iter(rounds.values())))} rounds in turns, medians and ranges. {counts}.\n"
        + facts_line(facts)
    )
    data = {"facts": facts, "decisions": count, "authors": authors, "rounds": dict(rounds)}
    write_results("conduct_bound", markdown, data)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=2_000)
    parser.add_argument("--authors", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, LocalStack(ephemeral=True, redis=False) as stack:
        bench = Bench(stack.addresses.bootstrap_servers, Path(folder), chosen.decisions, chosen.authors)
        contenders = bench.contenders()
        found: dict[str, list[Figure]] = {name: [] for name in contenders}
        order = list(contenders)
        for number in range(chosen.rounds):
            random.Random(number).shuffle(order)
            for name in order:
                found[name].append(contenders[name]())
                say(f"{number + 1}/{chosen.rounds} {name}: {found[name][-1].per_second:,.0f}/s")
    report(found, bench, chosen.decisions, chosen.authors)


if __name__ == "__main__":
    main()
