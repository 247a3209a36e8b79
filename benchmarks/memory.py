"""Memory: what a worker holds after 1,000,000 events, by what it held after 100,000.

    python -m benchmarks.memory [--first 100000] [--last 1000000] [--rounds 5]

Every tenth event asks something new, so that the cache in the process is full, and verdicts leave it, long
before the first look; it is made small for that. Each round has a new worker. Resident memory as the system
counts it, of the worker's process when all its events are decided; the scripted engine has no other process.
"""

from __future__ import annotations

import argparse
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.loaded import Asks, Site
from benchmarks.measure import facts_line, machine_facts, middle, say, table, write_results
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_addresses import Addresses

# Two thousand verdicts or so: full after 20,000 events.
CACHE_BYTES: Final = 1_048_576
HEALTH_PORT: Final = 18_084
# At a time: so that the events topic never holds much more than the worker has read.
STEP: Final = 100_000


class Held(msgspec.Struct, frozen=True):
    """Resident memory of one worker, in MiB."""

    first: float
    last: float


def measure(addresses: Addresses, folder: Path, first: int, last: int) -> Held:
    """One worker, looked at twice."""
    site = Site(addresses, folder, uuid.uuid4().hex[:8], HEALTH_PORT)
    site.start(RSAFE_CACHE__LOCAL_BYTES=str(CACHE_BYTES))
    try:
        sent, after_first = 0, 0.0
        for seed, until in enumerate([first, *range(first + STEP, last, STEP), last]):
            site.load(Asks(rate=None, count=until - sent, hits=0.9, seed=seed))
            sent = until
            if until == first:
                after_first = site.resident_mib()
        return Held(after_first, site.resident_mib())
    finally:
        site.stop()


def report(found: Sequence[Held], first: int, last: int) -> None:
    """The table."""
    grown = [one.last / one.first for one in found]
    rows = [
        (f"after {first:,} events, MiB", middle([one.first for one in found], 1)),
        (f"after {last:,} events, MiB", middle([one.last for one in found], 1)),
        ("ratio", middle(grown, 3)),
    ]
    facts = machine_facts("confluent-kafka", "msgspec", "redis")
    markdown = (
        "# Memory of a worker\n\n"
        + table(("", "median and range"), rows)
        + f"\n{len(found)} rounds, each with a new worker; scripted engine, nine of ten events hits, the "
        + f"cache in the process {CACHE_BYTES >> 20} MiB.\n"
        + facts_line(facts)
    )
    write_results("memory", markdown, {"facts": facts, "first": first, "last": last, "rounds": list(found)})


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=100_000)
    parser.add_argument("--last", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder, LocalStack(ephemeral=True) as stack:
        for number in range(options.rounds):
            found.append(measure(stack.addresses, Path(folder), options.first, options.last))
            say(f"round {number + 1}: {found[-1].first:,.1f} MiB, then {found[-1].last:,.1f} MiB")
    report(found, options.first, options.last)


if __name__ == "__main__":
    main()
