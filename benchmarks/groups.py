"""Large groups: how long a rebalance takes and what moves, and how many commits a second a broker takes.

    python -m benchmarks.groups [--members 20 50 100] [--partitions 1000] [--rounds 3]

Members are consumers with the worker's own options (cooperative-sticky, and KIP-848), many in one process,
each polled by a thread and on no records: what is seen is the group's coordinator and the clients, not the
work of workers. Measured: all members start at once; one more joins; one leaves. For each: seconds until
every partition has one owner and no two members differ by more than one partition, and how many partitions
changed hands, beside the fewest that can.

Then each member commits as fast as the broker answers, so many partitions at a time. Workers commit once in
`stream.commit_interval_ms` (500), so that 500 of them ask for 1,000 commits a second. That many workers are
not run here: what is said of them is counted from the rest, and says so.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

import msgspec
from confluent_kafka import Consumer, TopicPartition

from benchmarks.measure import create_topic, facts_line, machine_facts, middle, say, table, write_results
from workers.adapters.embedded import LocalStack
from workers.adapters.kafka_options import consumer_options
from workers.settings import KafkaSettings, StreamSettings

Protocol = Literal["classic", "consumer"]
PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)
WORKERS: Final = 500
PATIENCE_S: Final = 180.0
COMMIT_S: Final = 5.0
# Partitions of one commit: 1,000 partitions over 500 workers, and over 50.
AT_A_TIME: Final = (2, 20)
_LOOK_S: Final = 0.01
_POLL_S: Final = 0.1


class Step(msgspec.Struct, frozen=True):
    """One change of a group."""

    protocol: Protocol
    members: int
    """Of the group when it had started."""
    what: str
    seconds: float
    moved: int
    """Partitions that another member has after it."""
    fewest: int
    """That have to move for the shares to be even."""


class Member:
    """One consumer and its thread."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.owned: frozenset[int] = frozenset()
        self._client: Any = Consumer(consumer_options(kafka))
        self._ended = threading.Event()
        self._client.subscribe([kafka.events_topic], on_assign=self._given, on_revoke=self._taken)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Leave the group, as a worker does when it is told to stop."""
        self._ended.set()
        self._thread.join()
        self._client.close()
        self.owned = frozenset()

    def commit(self, topic: str, count: int, offset: int) -> None:
        """Commit so many of its partitions, and wait for the broker's answer."""
        numbers = sorted(self.owned)[:count]
        self._client.commit(
            offsets=[TopicPartition(topic, number, offset) for number in numbers], asynchronous=False
        )

    def _run(self) -> None:
        while not self._ended.is_set():
            self._client.poll(_POLL_S)

    def _given(self, client: Any, partitions: Sequence[Any]) -> None:
        client.incremental_assign(partitions)
        self.owned |= {one.partition for one in partitions}

    def _taken(self, client: Any, partitions: Sequence[Any]) -> None:
        self.owned -= {one.partition for one in partitions}
        client.incremental_unassign(partitions)


def fewest_moves(partitions: int, before: Sequence[int], after: int) -> int:
    """How many must move from shares of these sizes to `after` even ones, the fewest.

    A member that leaves is a share beyond `after`. Large shares keep the larger part.

    >>> fewest_moves(10, [5, 5], 3)  # 4, 3, 3
    3
    >>> fewest_moves(10, [4, 3, 3], 2)
    3
    """
    least, larger = divmod(partitions, after)
    kept = sorted(before, reverse=True)[:after]
    stay = sum(min(share, least + (place < larger)) for place, share in enumerate(kept))
    return partitions - stay


class Group:
    """Members of one group on one topic."""

    def __init__(self, servers: str, topic: str, partitions: int, protocol: Protocol) -> None:
        self.members: list[Member] = []
        self.topic = topic
        self._partitions, self._size = partitions, 0
        self._kafka = KafkaSettings(
            bootstrap_servers=servers,
            events_topic=topic,
            group_id=uuid.uuid4().hex[:12],
            group_protocol=protocol,
        )

    def start(self, count: int) -> Step:
        """So many at once."""
        self._size = count
        return self._change("all start", lambda: self.members.extend(self._new() for _ in range(count)))

    def join(self) -> Step:
        """One more."""
        return self._change("one joins", lambda: self.members.append(self._new()))

    def leave(self) -> Step:
        """The first one goes."""
        return self._change("one leaves", lambda: self.members.pop(0).end())

    def end(self) -> None:
        """All leave; nothing is waited for but their ends."""
        ending = [threading.Thread(target=member.end) for member in self.members]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join()

    def commits_per_second(self, at_a_time: int) -> float:
        """Of all members together, each as fast as the broker answers."""
        end = time.monotonic() + COMMIT_S
        counts: list[int] = []

        def run(member: Member) -> None:
            count = 0
            while time.monotonic() < end:
                member.commit(self.topic, at_a_time, count)
                count += 1
            counts.append(count)

        threads = [threading.Thread(target=run, args=(member,)) for member in self.members]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(counts) != len(self.members):
            raise RuntimeError("a member's commit was refused; its thread has said why")
        return sum(counts) / (time.monotonic() - began)

    def _new(self) -> Member:
        return Member(self._kafka)

    def _change(self, what: str, change: Callable[[], None]) -> Step:
        before = self._owners()
        shares = [len(member.owned) for member in self.members]
        began = time.monotonic()
        change()
        while not self._even():
            if time.monotonic() - began > PATIENCE_S:
                raise RuntimeError(f"{what}: no even shares within {PATIENCE_S:.0f} s")
            time.sleep(_LOOK_S)
        seconds, after = time.monotonic() - began, self._owners()
        moved = sum(before.get(number) != owner for number, owner in after.items())
        return Step(
            protocol=self._kafka.group_protocol,
            members=self._size,
            what=what,
            seconds=seconds,
            moved=moved,
            fewest=fewest_moves(self._partitions, shares, len(self.members)),
        )

    def _owners(self) -> dict[int, int]:
        return {number: id(member) for member in self.members for number in member.owned}

    def _even(self) -> bool:
        shares = [len(member.owned) for member in self.members]
        return (
            sum(shares) == self._partitions
            and len(self._owners()) == self._partitions
            and max(shares) - min(shares) <= 1
        )


def measure(
    servers: str, topic: str, partitions: int, members: int, protocol: Protocol
) -> tuple[list[Step], dict[int, float]]:
    """One group from its start to its end; commits by how many partitions at a time."""
    group = Group(servers, topic, partitions, protocol)
    try:
        steps = [group.start(members), group.join(), group.leave()]
        commits = {count: group.commits_per_second(count) for count in AT_A_TIME}
    finally:
        group.end()
    for step in steps:
        say(f"{protocol}, {members}: {step.what} {step.seconds:.2f} s, {step.moved} moved ({step.fewest})")
    say(f"{protocol}, {members}: {commits} commits/s")
    return steps, commits


def report(
    steps: Sequence[Step],
    commits: Mapping[str, Mapping[int, list[float]]],
    partitions: int,
    members: Sequence[int],
) -> None:
    """Both tables, and what follows for more workers than were run."""
    rows = []
    for protocol in PROTOCOLS:
        for count in members:
            for what in ("all start", "one joins", "one leaves"):
                found = [s for s in steps if (s.protocol, s.members, s.what) == (protocol, count, what)]
                moved = middle([step.moved for step in found])
                fewest = middle([step.fewest for step in found])
                rows.append(
                    (f"`{protocol}`, {count}, {what}", middle([s.seconds for s in found], 2), moved, fewest)
                )
    interval_s = StreamSettings().commit_interval_ms / 1000
    asked, shares = WORKERS / interval_s, _even_shares(partitions, WORKERS)
    joins, leaves = (fewest_moves(partitions, shares, WORKERS + more) for more in (1, -1))
    rates = [
        (f"`{key}` at a time", middle(found[AT_A_TIME[0]]), middle(found[AT_A_TIME[1]]))
        for key, found in commits.items()
    ]
    least = min(statistics.median(found[AT_A_TIME[0]]) for found in commits.values())
    share = partitions / WORKERS
    facts = machine_facts("confluent-kafka")
    markdown = (
        f"# Groups on {partitions:,} partitions\n\n"
        + table(("protocol, members, what", "seconds until even", "partitions moved", "the fewest"), rows)
        + "\n"
        + table(
            ("commits/s of all members", f"{AT_A_TIME[0]} partitions", f"{AT_A_TIME[1]} partitions"), rates
        )
        + f"\nNot measured, but counted from it: {WORKERS} workers on {partitions:,} partitions have "
        + f"{share:g} each. Each commits every {interval_s:g} s: {asked:,.0f} commits a second, "
        + f"{asked / least:.2f} of what this "
        + f"broker answered at the least. When one joins, {joins} partitions have to move, and {leaves} when "
        + "one leaves.\n\n"
        + "Consumers without records in one process, one broker, on the same cores; medians and ranges.\n"
        + facts_line(facts)
    )
    data = {"facts": facts, "partitions": partitions, "steps": list(steps), "commits": commits}
    write_results("groups", markdown, data)


def _even_shares(partitions: int, members: int) -> list[int]:
    least, larger = divmod(partitions, members)
    return [least + (place < larger) for place in range(members)]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    steps: list[Step] = []
    commits: dict[str, dict[int, list[float]]] = {}
    with LocalStack(ephemeral=True, redis=False) as stack:
        servers, topic = stack.addresses.bootstrap_servers, "wide"
        create_topic(servers, topic, options.partitions)
        for _ in range(options.rounds):
            for protocol in PROTOCOLS:
                for members in options.members:
                    found, rates = measure(servers, topic, options.partitions, members, protocol)
                    steps += found
                    for count, rate in rates.items():
                        key = f"{protocol}, {members} members"
                        commits.setdefault(key, {at: [] for at in AT_A_TIME})[count].append(rate)
    report(steps, commits, options.partitions, options.members)


if __name__ == "__main__":
    main()
