"""Memory: what a worker holds after 1,000,000 events, by what it held after 100,000.

    python -m benchmarks.memory [--first 100000] [--last 1000000] [--rounds 5]

Every tenth event asks something new, so that the cache in the process is full, and verdicts leave it, long
before the first look; it is made small for that. Each round has a new worker. Resident memory as the system
counts it, of the worker's process (the scripted engine has no other): the highest while the 100,000 events
before a look are judged, as fast as the worker can, and what is held when it has been idle for long enough to
have given free memory back.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.loaded import Asks, Site
from benchmarks.measure import facts_line, machine_facts, middle, say, table, write_results
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_addresses import Addresses
from workers.free_memory import EVERY_S

# Two thousand verdicts or so: full after 20,000 events.
CACHE_BYTES: Final = 1_048_576
HEALTH_PORT: Final = 18_084
# At a time: so that the events topic never holds much more than the worker has read.
STEP: Final = 100_000
# Between two readings under load, in seconds.
LOOK_S: Final = 0.1


class Look(msgspec.Struct, frozen=True):
    """Resident memory of one worker, in MiB."""

    highest: float
    """While the last events before it were judged."""
    held: float
    """Afterwards, idle."""


class Held(msgspec.Struct, frozen=True):
    """Two looks at one worker."""

    first: Look
    last: Look


class Watch(threading.Thread):
    """The highest resident memory from `start` to `end`."""

    def __init__(self, site: Site) -> None:
        super().__init__(daemon=True)
        self._site, self._ended = site, threading.Event()
        self.highest = 0.0

    def run(self) -> None:
        """Read again and again."""
        while not self._ended.wait(LOOK_S):
            self.highest = max(self.highest, self._site.resident_mib())

    def end(self) -> float:
        """The highest, in MiB."""
        self._ended.set()
        self.join()
        return self.highest


def measure(addresses: Addresses, folder: Path, first: int, last: int) -> Held:
    """One worker, looked at twice."""
    site = Site(addresses, folder, uuid.uuid4().hex[:8], HEALTH_PORT)
    site.start(RSAFE_CACHE__LOCAL_BYTES=str(CACHE_BYTES))
    try:
        looks = []
        sent = 0
        for seed, until in enumerate([first, *range(first + STEP, last, STEP), last]):
            watch = Watch(site)
            watch.start()
            site.load(Asks(rate=None, count=until - sent, hits=0.9, seed=seed))
            highest = watch.end()
            sent = until
            if until in (first, last):
                time.sleep(1.5 * EVERY_S)
                looks.append(Look(highest, site.resident_mib()))
        return Held(*looks)
    finally:
        site.stop()


def report(found: Sequence[Held], first: int, last: int) -> None:
    """The table."""
    rows = []
    for name, of in (("highest under load", "highest"), ("held afterwards", "held")):
        before: list[float] = [getattr(one.first, of) for one in found]
        after: list[float] = [getattr(one.last, of) for one in found]
        ratios = [late / early for early, late in zip(before, after, strict=True)]
        rows.append((name, middle(before, 1), middle(after, 1), middle(ratios, 3)))
    facts = machine_facts("confluent-kafka", "msgspec", "redis")
    markdown = (
        "# Memory of a worker\n\n"
        + table(("MiB, median and range", f"{first:,} events", f"{last:,} events", "ratio"), rows)
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
            one = found[-1]
            say(f"round {number + 1}: {one.first.held:,.1f} MiB, then {one.last.held:,.1f} MiB")
    report(found, options.first, options.last)


if __name__ == "__main__":
    main()
