"""Large groups: how long a rebalance takes and what moves, and how many commits a coordinator answers.

    python -m benchmarks.groups [--members 50 200 500] [--partitions 1000] [--rounds 1]

Members are light (`group_member`): the classic group protocol over a connection each, all in one process,
with the worker's heartbeats and an assignor of our own that gives in two rounds as cooperative-sticky does
(`group_shares`). They read no records: what is seen is the group's coordinator and the protocol, not workers.

One group of each size: all members start, one more joins, one leaves, one dies. For each: seconds until every
partition has one owner and no two members differ by more than one partition; how many partitions were given
to another member, beside the fewest that have to be; in how many seconds any partition had no owner. Members
learn of a change from their heartbeats, and these come together after a rebalance. One joins and one leaves
right after the change before, so that a whole heartbeat is waited for: the longest there can be.

A member dies without a word, and its session is of `SESSION_MS`, not the 45 s of a worker, so that the run is
short: what is told is the time from the end of that session. Then commits of each member's share: as fast as
the broker answers, and each member once in `stream.commit_interval_ms` (500), as a worker; latencies of those
count from when a commit was due.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from benchmarks.group_member import Member, Plan
from benchmarks.group_report import (
    DIE,
    HEARTBEAT_MS,
    INITIAL_DELAY_MS,
    INTERVAL_S,
    JOIN,
    LEAVE,
    SESSION_MS,
    START,
    Change,
    Commits,
    percentile,
    report,
)
from benchmarks.group_shares import Owners, fewest_moves
from benchmarks.measure import create_topic, say
from workers.adapters.embedded import LocalStack
from workers.settings import KafkaSettings

WORKERS: Final = 500
PATIENCE_S: Final = 120.0
CLOSED_S: Final = 5.0
PACED_S: Final = 10.0
_LOOK_S: Final = 0.5
_CONNECTING: Final = 20


class Group:
    """Members of one group on one topic, in one event loop."""

    def __init__(self, plan: Plan, size: int) -> None:
        self.members: list[Member] = []
        self._plan, self._size = plan, size
        self._owners = Owners(plan.partitions, time.monotonic)
        self._tasks: dict[Member, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    async def start(self) -> Change:
        """All at once, connected already."""
        new = await self._connected(self._size)
        return await self._change(START, self._size, lambda: self._join(new))

    async def join(self) -> Change:
        """One more."""
        new = await self._connected(1)
        return await self._change(JOIN, len(self.members) + 1, lambda: self._join(new))

    async def leave(self) -> Change:
        """One of the middle goes, so seldom the leader."""
        gone = self._pop()
        return await self._change(LEAVE, len(self.members), gone.leave)

    async def die(self) -> Change:
        """One of the middle is there no more, and has not said so."""
        gone = self._pop()
        return await self._change(DIE, len(self.members), gone.die)

    async def end(self) -> None:
        """All go without a word."""
        for member in self.members:
            self._tasks.pop(member, None)
            await member.die()

    async def commits(self) -> Commits:
        """Both loads, one after the other. The group stands still and goes on beating."""
        began, processor = time.monotonic(), time.process_time()
        counts = await asyncio.gather(*(_as_fast_as_answered(one, began + CLOSED_S) for one in self.members))
        took = time.monotonic() - began
        cores = (time.process_time() - processor) / took
        draw = random.Random(0)
        began = time.monotonic()
        paced = [_once_in_an_interval(one, began + draw.random() * INTERVAL_S) for one in self.members]
        late = sorted(seconds for ones in await asyncio.gather(*paced) for seconds in ones)
        return Commits(
            members=self._size,
            most_per_second=sum(counts) / took,
            client_cores=cores,
            asked_per_second=len(self.members) / INTERVAL_S,
            paced_per_second=len(late) / max(time.monotonic() - began, PACED_S),
            p50_ms=1000 * percentile(late, 0.5),
            p99_ms=1000 * percentile(late, 0.99),
        )

    async def _connected(self, count: int) -> list[Member]:
        limit = asyncio.Semaphore(_CONNECTING)
        new = [Member(self._plan, self._owners, self._changed.set) for _ in range(count)]

        async def connect(member: Member) -> None:
            async with limit:
                await member.connect()

        await asyncio.gather(*map(connect, new))
        return new

    async def _join(self, new: Iterable[Member]) -> None:
        for member in new:
            self.members.append(member)
            self._tasks[member] = member.start()

    def _pop(self) -> Member:
        gone = self.members.pop(len(self.members) // 2)
        del self._tasks[gone]
        return gone

    async def _change(self, what: str, after: int, change: Callable[[], Awaitable[float | None]]) -> Change:
        shares = [len(member.owned) for member in self.members]
        given, without_s = self._owners.given, self._owners.without_s()
        began = time.monotonic()
        last_sign = await change()
        await self._wait(lambda: self._owners.even(after))
        seconds = time.monotonic() - began
        without_s = self._owners.without_s() - without_s
        await self._wait(self._settled)
        # A dead member's session begins with its last sign of life.
        session_s = 0.0 if last_sign is None else last_sign + SESSION_MS / 1000 - began
        found = Change(
            members=self._size,
            what=what,
            seconds=seconds - session_s,
            moved=self._owners.given - given,
            fewest=fewest_moves(self._plan.partitions, shares, after),
            without_owner_s=without_s,
        )
        say(f"{self._size} members: {found}")
        return found

    def _settled(self) -> bool:
        generations = {member.generation for member in self.members}
        return len(generations) == 1 and all(member.joined for member in self.members)

    async def _wait(self, reached: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not reached():
            for task in self._tasks.values():
                if task.done():
                    task.result()
            if time.monotonic() > end:
                raise RuntimeError(f"the group was not even and at rest within {PATIENCE_S:.0f} s")
            self._changed.clear()
            # Once in a while without news, too: a member that has failed gives none.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK_S)


async def _as_fast_as_answered(member: Member, end: float) -> int:
    count = 0
    while time.monotonic() < end:
        await member.commit(count)
        count += 1
    return count


async def _once_in_an_interval(member: Member, due: float) -> list[float]:
    """Seconds from when each commit was due until its answer; one behind a late one counts its wait."""
    late = []
    for count in range(round(PACED_S / INTERVAL_S)):
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await member.commit(count)
        late.append(time.monotonic() - due)
        due += INTERVAL_S
    return late


async def measure(plan: Plan, members: int) -> tuple[list[Change], Commits]:
    """One group from its start to its end."""
    group = Group(plan, members)
    try:
        changes = [await group.start(), await group.join(), await group.leave()]
        commits = await group.commits()
        say(f"{members} members: {commits}")
        changes.append(await group.die())
    finally:
        await group.end()
    return changes, commits


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, nargs="+", default=[50, 200, WORKERS])
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    changes: list[Change] = []
    commits: list[Commits] = []
    properties = {"group.initial.rebalance.delay.ms": str(INITIAL_DELAY_MS)}
    with LocalStack(ephemeral=True, redis=False, kafka_properties=properties) as stack:
        servers, topic = stack.addresses.bootstrap_servers, KafkaSettings().events_topic
        create_topic(servers, topic, options.partitions)
        host, _, port = servers.rpartition(":")
        for _ in range(options.rounds):
            for members in options.members:
                plan = Plan(
                    host=host,
                    port=int(port),
                    group=uuid.uuid4().hex[:12],
                    topic=topic,
                    partitions=options.partitions,
                    session_timeout_ms=SESSION_MS,
                    heartbeat_ms=HEARTBEAT_MS,
                )
                found, answered = asyncio.run(measure(plan, members))
                changes += found
                commits.append(answered)
    report(changes, commits, options.partitions, options.rounds)


if __name__ == "__main__":
    main()
