"""What a process of `rsafe conduct` holds for 100,000 authors, and how long a start takes without a store.

    python -m benchmarks.conduct_memory [--authors 100000] [--each 2] [--rounds 3]

The state is made by the app's engine in this process and lies on the state topic, as after a crash of a
process whose disk is gone; each round reads it back into a new store. Beside it a process with nothing to
remember. Resident memory as the system counts it: what is held when the process has been idle for some
sweeps, which go through all states, and the highest until then. What RocksDB keeps on disk is the store's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.conduct_load import Site, alone, decisions
from benchmarks.measure import facts_line, load, machine_facts, middle, say, table, write_results
from workers.adapters.embedded import LocalStack

SWEEP_S: Final = 2.0
IDLE_S: Final = 8.0
PER: Final = 100_000


class Held(msgspec.Struct, frozen=True):
    """One process; memory in MiB."""

    ready_s: float
    held: float
    highest: float
    store: float
    """On disk."""


class Pair(msgspec.Struct, frozen=True):
    """One round."""

    nothing: Held
    authors: Held


class Content(msgspec.Struct, frozen=True):
    """What lies on the state topic."""

    authors: int
    decisions: int
    records: int
    mib: float
    """Keys and values, as they are before compression."""


def measure(site: Site, folder: Path) -> Held:
    """A new process with a new group and a new store."""
    run = uuid.uuid4().hex[:8]
    store = folder / f"store-{run}"
    try:
        ready_s = site.start(
            RSAFE_CONDUCT__GROUP_ID=f"memory-{run}",
            RSAFE_CONDUCT__STATE_FOLDER=str(store),
            RSAFE_CONDUCT__SWEEP_S=str(SWEEP_S),
        )
        time.sleep(IDLE_S)
        size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
        return Held(ready_s, site.memory_mib(), site.memory_mib("VmHWM"), size / 2**20)
    finally:
        site.stop()


def report(found: Sequence[Pair], content: Content) -> None:
    """The table."""
    rows: list[tuple[str, ...]] = []
    for name, of in (("held", "held"), ("highest", "highest"), ("store on disk", "store")):
        empty: list[float] = [getattr(one.nothing, of) for one in found]
        full: list[float] = [getattr(one.authors, of) for one in found]
        more = [(b - a) * PER / content.authors for a, b in zip(empty, full, strict=True)]
        rows.append((f"{name}, MiB", middle(empty, 1), middle(full, 1), middle(more, 1)))
    starts = ([one.nothing.ready_s for one in found], [one.authors.ready_s for one in found])
    rows.append(("start until ready, s", *(middle(some, 1) for some in starts), "–"))
    facts = machine_facts("faust-streaming", "rocksdict", "msgspec")
    header = ("", "nothing", f"{content.authors:,} authors", f"more, for {PER:,} authors")
    markdown = (
        "# Conduct: memory of one process\n\n"
        + table(header, rows)
        + f"\n{content.decisions:,} decisions with weight, a rule per author and one per conversation: "
        + f"{content.records:,} records of state, {content.mib:,.0f} MiB. {len(found)} rounds, each with new "
        + "processes and empty stores; the start reads the state topic.\n"
        + facts_line(facts)
    )
    write_results("conduct_memory", markdown, {"facts": facts, "content": content, "rounds": list(found)})


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--authors", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=2, help="Decisions of each author.")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    count = chosen.authors * chosen.each
    states = alone(decisions(count, authors=chosen.authors, share=1.0)).states
    size = sum(len(key) + len(value) for key, value in states.items())
    content = Content(chosen.authors, count, len(states), size / 2**20)
    with tempfile.TemporaryDirectory() as name, LocalStack(ephemeral=True, redis=False) as stack:
        folder, servers = Path(name), stack.addresses.bootstrap_servers
        empty, full = (Site(servers, folder, f"memory-{one}") for one in ("nothing", "authors"))
        load(servers, full.topic("state"), states.items())
        found: list[Pair] = []
        for number in range(chosen.rounds):
            found.append(Pair(measure(empty, folder), measure(full, folder)))
            say(f"{number + 1}/{chosen.rounds}: {found[-1].authors.held:,.0f} MiB held")
    report(found, content)


if __name__ == "__main__":
    main()
