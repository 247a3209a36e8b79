"""The loop of a worker: fetch, hand over, publish in order, commit what is done, give partitions back.

One task drives the source, so that at most one batch is between fetch and publication. Whatever needs the
guard is a task of its own and publishes when its line lets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from workers.errors import StreamStopped
from workers.ports import (
    Clock,
    EventSource,
    Journal,
    Oldest,
    Outcomes,
    Path,
    Pending,
    Publication,
    Record,
)
from workers.stream.commits import Commits
from workers.stream.flow import Flow
from workers.stream.intake import take_in
from workers.stream.lag import Reach
from workers.stream.outage import Outage
from workers.stream.partition import AssignedPartition, Ticket
from workers.stream.reader import TICK_S, Reader
from workers.stream.window import Load, Window, total

# What remains for the delivery of outcomes that were sent when their partition goes, in seconds.
LAST_FLUSH_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Times in seconds; `stall_s` as of `Reader`."""

    poll_s: float
    commit_interval_s: float
    drain_s: float
    stall_s: float = 5.0


class StreamObserver(Protocol):
    """Is told what the loop does; must not wait."""

    def beat(self, in_flight: int) -> None: ...
    def partitions(self, numbers: Collection[int]) -> None: ...
    def discarded(self, partition: int, records: int, why: str) -> None: ...
    def committed(self, asked: int, taken: int) -> None: ...
    def failed(self, error: BaseException) -> None: ...


class StreamLoop:
    """Runs until told to stop, or until `StreamStopped`."""

    def __init__(
        self,
        *,
        source: EventSource,
        path: Path,
        outcomes: Outcomes,
        window: Window,
        outage: Outage,
        journal: Journal,
        limits: LoopLimits,
        clock: Clock,
        observer: StreamObserver,
    ) -> None:
        self._source, self._path, self._outcomes = source, path, outcomes
        self._outage, self._journal, self._clock, self._observer = outage, journal, clock, observer
        self._drain_s = limits.drain_s
        self._flow = Flow(window)
        self._reader = Reader(source, self._flow, poll_s=limits.poll_s, stall_s=limits.stall_s, clock=clock)
        self._commits = Commits(
            outcomes, journal, window, interval_s=limits.commit_interval_s, clock=clock, observer=observer
        )
        self._partitions: dict[int, AssignedPartition] = {}
        self._failure: BaseException | None = None

    def oldest(self) -> list[Oldest]:
        """What the oldest offset of each partition waits for, at this moment."""
        now = self._clock.monotonic_s()
        return [partition.oldest(now) for partition in self._partitions.values()]

    def reaches(self) -> list[Reach]:
        """How far each partition has come, at this moment."""
        return [partition.reach for partition in self._partitions.values()]

    @property
    def load(self) -> Load:
        """What is in flight of all partitions."""
        return total(self._loads().values())

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping`, then drain and leave. Raises `StreamStopped`; unfinished stays uncommitted."""
        await self._source.join(self)
        try:
            while not stopping.is_set():
                await self._turn()
            await self._give_up(list(self._partitions.values()), "stopped")
        except StreamStopped:
            raise
        except Exception as error:
            self._observer.failed(error)
            raise StreamStopped(f"an unexpected error stopped the stream ({type(error).__name__})") from error
        finally:
            for partition in self._partitions.values():
                partition.discard()
            self._partitions.clear()
            await self._source.leave()

    async def _turn(self) -> None:
        self._beat()
        self._settle()
        partitions = self._partitions.values()
        if self._commits.due(partitions):
            await self._commits.commit(partitions)
        if self._outage.holding:
            records = await self._reader.wait(long=True)
        else:
            # Before anything is paused for what a commit would free.
            if self._flow.full(self._loads()) and self._commits.frees(partitions):
                await self._commits.commit(partitions)
            plan = self._reader.plan(self._loads())
            records = await (self._reader.read(plan) if plan.limit else self._reader.wait(long=False))
        if records:
            await self._take(records)

    def _loads(self) -> dict[int, Load]:
        return {number: partition.load for number, partition in self._partitions.items()}

    async def _take(self, records: Sequence[Record]) -> None:
        tickets = take_in(records, self._partitions, self._clock.monotonic_s(), self._observer.discarded)
        if not tickets:
            return
        results = await self._path.moderate([ticket.record for ticket in tickets])
        publish, tokens = self._outcomes.publish, 0
        for ticket, result in zip(tickets, results, strict=True):
            if ticket.partition.discarded:
                continue
            if type(result) is Pending:
                tokens += result.tokens
                self._begin(ticket, result)
                continue
            assert type(result) is Publication
            if result.line is None or ticket.partition.lines.pass_by(result.line, (ticket, result)):
                ticket.stage = "delivery"
                publish(ticket, result)
            else:
                ticket.stage = "order"
        self._flow.weigh(Load(len(tickets), sum(ticket.size for ticket in tickets), tokens))

    def _begin(self, ticket: Ticket, pending: Pending) -> None:
        partition = ticket.partition
        place = partition.lines.enter(pending.line)
        partition.tokens += pending.tokens

        async def judge() -> None:
            try:
                publication = await pending.judge(ticket.report)
            finally:
                partition.tokens -= pending.tokens
            if partition.discarded:
                return
            ticket.stage = "order"
            for waiting, outcome in partition.lines.finish(place, (ticket, publication)):
                waiting.stage = "delivery"
                self._outcomes.publish(waiting, outcome)

        def ended(task: asyncio.Task[None]) -> None:
            partition.tasks.discard(task)
            if not task.cancelled():
                self._failure = self._failure or task.exception()
            elif not partition.ended:  # nobody would ever finish this record
                self._failure = self._failure or StreamStopped("a judgement ended without an outcome")

        task = asyncio.create_task(judge())
        partition.tasks.add(task)
        task.add_done_callback(ended)

    def _settle(self) -> None:
        """Count deliveries, send something smaller for what was too large, and raise what failed."""
        delivered, too_large = self._outcomes.collect()
        for ticket in delivered:
            if not ticket.partition.discarded:
                ticket.partition.offsets.done(ticket)
                del ticket.record
        for ticket, letter in too_large:
            if not ticket.partition.discarded:
                self._outcomes.publish(ticket, self._path.undeliverable(ticket.record, letter))
        if self._failure is not None:
            if isinstance(self._failure, StreamStopped):
                raise self._failure
            self._observer.failed(self._failure)
            name = type(self._failure).__name__
            raise StreamStopped(f"an unexpected error stopped the stream ({name})") from self._failure

    async def _give_up(self, partitions: list[AssignedPartition], why: str) -> None:
        """Let what is in flight finish for a while, commit what is done, and forget the rest."""
        until = self._clock.monotonic_s() + self._drain_s
        while any(p.offsets.in_flight for p in partitions) and self._clock.monotonic_s() < until:
            self._beat()
            self._settle()
            if self._outage.holding:  # it would wait for a guard that is down
                break
            everything = self._partitions.values()
            if self._commits.due(everything):  # a judgement may wait for its note, also where nothing goes
                await self._commits.commit(everything)
            await asyncio.sleep(TICK_S)
        tasks = [task for partition in partitions for task in partition.tasks]
        for partition in partitions:
            partition.end()
        if tasks:  # what they leave behind stands in the last note
            await asyncio.wait(tasks, timeout=LAST_FLUSH_S)
        await self._outcomes.flush(LAST_FLUSH_S)
        self._settle()
        await self._commits.commit_last(partitions)
        self._forget(partitions, why)

    def _beat(self) -> None:
        self._observer.beat(sum(partition.offsets.in_flight for partition in self._partitions.values()))

    def _forget(self, partitions: Collection[AssignedPartition], why: str) -> None:
        for partition in partitions:
            if partition.offsets.in_flight:
                self._observer.discarded(partition.number, partition.offsets.in_flight, why)
            partition.discard()
            self._partitions.pop(partition.number, None)
            self._reader.left(partition.number)
            self._journal.forget(partition.number)
        self._observer.partitions(self._partitions)

    async def assigned(self, partitions: Mapping[int, str]) -> None:
        for number, note in partitions.items():
            if number in self._partitions:  # assigned twice without going in between
                self._partitions[number].discard()
            self._partitions[number] = AssignedPartition(number)
            self._journal.recall(number, note)
        self._observer.partitions(self._partitions)

    async def revoked(self, partitions: Sequence[int]) -> None:
        going = self._those(partitions)
        if self._failure is not None:  # the loop is about to stop; nothing more is waited for
            self._forget(going, "stopped")
            return
        if going:
            try:
                await self._give_up(going, "revoked")
            except StreamStopped as error:
                # The client library swallows what a callback raises; the loop finds it at its next turn.
                self._failure = error
                self._forget(going, "stopped")

    async def lost(self, partitions: Sequence[int]) -> None:
        self._forget(self._those(partitions), "lost")

    def _those(self, numbers: Sequence[int]) -> list[AssignedPartition]:
        return [self._partitions[number] for number in numbers if number in self._partitions]
