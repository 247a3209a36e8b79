"""What the benchmark of groups measures, and its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from benchmarks.measure import facts_line, machine_facts, median, middle, table, write_results
from workers.settings import StreamSettings

START: Final = "all start"
JOIN: Final = "one joins"
LEAVE: Final = "one leaves"
DIE: Final = "one dies"
CHANGES: Final = (START, JOIN, LEAVE, DIE)
# Short, and still of three heartbeats, so that these are the worker's.
SESSION_MS: Final = 10_000
HEARTBEAT_MS: Final = 3_000
# Kafka's default. The local stack has none, for groups of one or two.
INITIAL_DELAY_MS: Final = 3_000
INTERVAL_S: Final = StreamSettings().commit_interval_ms / 1000


class Change(msgspec.Struct, frozen=True):
    """What one change of a group took."""

    members: int
    """Of the group when all had started."""
    what: str
    seconds: float
    """Until the shares were even; of a death, from the end of the dead member's session."""
    moved: int
    fewest: int
    without_owner_s: float
    """Of a death, from the death on."""


class Commits(msgspec.Struct, frozen=True):
    """How a group's commits were answered."""

    members: int
    most_per_second: float
    """Each member with its next commit as soon as the last one is answered."""
    client_cores: float
    """Processor time of the members' process meanwhile, a second; near one it is they who are the limit."""
    asked_per_second: float
    paced_per_second: float
    p50_ms: float
    p99_ms: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed. At least one value, in order.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.0
    """
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def cell(values: Sequence[float], digits: int = 0) -> str:
    """Median and range, or the value when there is but one."""
    return f"{values[0]:,.{digits}f}" if len(values) == 1 else middle(values, digits)


def report(changes: Sequence[Change], commits: Sequence[Commits], partitions: int, rounds: int) -> None:
    """Both tables, and what the figures are of."""
    groups = list(dict.fromkeys(change.members for change in changes))
    rows = []
    for size in groups:
        for what in CHANGES:
            ones = [one for one in changes if (one.members, one.what) == (size, what)]
            name = f"{size}, {what}" + (", from the end of its session" if what == DIE else "")
            moved = cell([one.moved for one in ones]), cell([one.fewest for one in ones])
            without = cell([one.without_owner_s for one in ones], 2)
            rows.append((name, cell([one.seconds for one in ones], 2), *moved, without))
    answered = []
    for size in groups:
        loads = [one for one in commits if one.members == size]
        answered.append(
            (
                str(size),
                cell([one.most_per_second for one in loads]),
                cell([one.client_cores for one in loads], 2),
                f"{median([one.asked_per_second for one in loads]):,.0f}",
                cell([one.paced_per_second for one in loads]),
                cell([one.p50_ms for one in loads], 1),
                cell([one.p99_ms for one in loads], 1),
            )
        )
    facts = machine_facts("aiokafka")
    markdown = (
        f"# Groups on {partitions:,} partitions\n\n"
        + table(("members, what", "seconds until even", "moved", "the fewest", "seconds without owner"), rows)
        + "\n"
        + table(
            ("members", "commits/s at most", "cores of members", "asked/s", "answered/s", "p50 ms", "p99 ms"),
            answered,
        )
        + "\nLight members without records in one process; an assignor of our own in two rounds; heartbeats "
        + f"every {HEARTBEAT_MS / 1000:g} s, sessions of {SESSION_MS / 1000:g} s, the broker's first delay "
        + f"{INITIAL_DELAY_MS / 1000:g} s. Without owner: any partition; of a death, the session too. Asked: "
        + f"each member's share once in {INTERVAL_S:g} s. {rounds} "
        + ("round.\n" if rounds == 1 else "rounds, medians and ranges.\n")
        + facts_line(facts)
    )
    data = {"facts": facts, "partitions": partitions, "changes": list(changes), "commits": list(commits)}
    write_results("groups", markdown, data)
