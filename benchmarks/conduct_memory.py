"""What a process of `rsafe conduct` holds for 100,000 authors, and how long a start takes without a store.

    python -m benchmarks.conduct_memory [--authors 100000] [--each 2] [--rounds 3]

The state is made by the app's engine in this process and lies on the state topic, as after a crash of a
process whose disk is gone; each round reads it back into a new store. Beside it a process with nothing to
remember, and one that remembers as many messages with a revision, which count nothing. Resident memory as the
system counts it: what is held when the process has been idle for some sweeps, which go through all states,
and the highest until then. What RocksDB keeps on disk is the store's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.conduct_load import Site, alone, decisions
from benchmarks.measure import facts_line, load, machine_facts, memory_mib, middle, say, table, write_results
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


class Round(msgspec.Struct, frozen=True):
    """Each once."""

    nothing: Held
    authors: Held
    messages: Held


class Content(msgspec.Struct, frozen=True):
    """What lies on the state topic."""

    authors: int
    decisions: int
    records: int
    mib: float
    """Keys and values, as they are before compression."""
    message_mib: float
    """The same of the messages with a revision, as many as authors."""


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
        pid = site.process.pid
        return Held(ready_s, memory_mib(pid), memory_mib(pid, "VmHWM"), size / 2**20)
    finally:
        site.stop()


def report(found: Sequence[Round], content: Content) -> None:
    """The table."""
    rows: list[tuple[str, ...]] = []
    for name, of in (("held", "held"), ("highest", "highest"), ("store on disk", "store")):
        empty, full, edited = (
            [getattr(getattr(one, who), of) for one in found] for who in ("nothing", "authors", "messages")
        )
        more, more_edited = (
            [(b - a) * PER / content.authors for a, b in zip(empty, some, strict=True)]
            for some in (full, edited)
        )
        rows.append((f"{name}, MiB", *(middle(some, 1) for some in (empty, full, more, edited, more_edited))))
    starts = [[getattr(one, who).ready_s for one in found] for who in ("nothing", "authors", "messages")]
    times = [middle(some, 1) for some in starts]
    rows.append(("start until ready, s", times[0], times[1], "–", times[2], "–"))
    facts = machine_facts("faust-streaming", "rocksdict", "msgspec")
    header = (
        "",
        "nothing",
        f"{content.authors:,} authors",
        f"more, for {PER:,} authors",
        f"{content.authors:,} messages with a revision",
        f"more, for {PER:,} messages",
    )
    markdown = (
        "# Conduct: memory of one process\n\n"
        + table(header, rows)
        + f"\n{content.decisions:,} decisions with weight, a rule per author and one per conversation: "
        + f"{content.records:,} records of state, {content.mib:,.0f} MiB. A message with a revision, whose "
        + f"decision counts nothing, is one record; all of them {content.message_mib:,.0f} MiB. {len(found)} "
        + "rounds, each with new processes and empty stores; the start reads the state topic.\n"
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
    edited = alone(decisions(chosen.authors, authors=chosen.authors, share=0.0, revision=1)).states
    content = Content(chosen.authors, count, len(states), _mib(states), _mib(edited))
    with tempfile.TemporaryDirectory() as name, LocalStack(ephemeral=True, redis=False) as stack:
        folder, servers = Path(name), stack.addresses.bootstrap_servers
        names = ("nothing", "authors", "messages")
        empty, full, messages = (Site(servers, folder, f"memory-{one}") for one in names)
        load(servers, full.topic("state"), states.items())
        load(servers, messages.topic("state"), edited.items())
        found: list[Round] = []
        for number in range(chosen.rounds):
            found.append(Round(*(measure(one, folder) for one in (empty, full, messages))))
            say(f"{number + 1}/{chosen.rounds}: {found[-1].authors.held:,.0f} MiB held")
    report(found, content)


def _mib(states: Mapping[bytes, bytes]) -> float:
    return sum(len(key) + len(value) for key, value in states.items()) / 2**20


if __name__ == "__main__":
    main()
