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
    Outcomes,
    Path,
    Pending,
    Position,
    Publication,
    Record,
    Stage,
)
from workers.stream.outage import Outage
from workers.stream.partition import AssignedPartition, Ticket
from workers.stream.window import GuardBudget, Window

# How often delivery reports are collected while nothing is fetched, in seconds. They release the window and
# nothing that a client waits for.
TICK_S: Final = 0.005
# A full window is waited for without fetching; pausing would throw prefetched records away. After this long
# the source is paused and polled after all, far below any max.poll.interval.
STALL_S: Final = 5.0
# Fetch timeout while paused: rebalances are served in fetches.
PAUSED_FETCH_S: Final = 0.1
# What remains for the delivery of outcomes that were sent when their partition goes, in seconds.
LAST_FLUSH_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Times in seconds, `tokens` of prompts that may wait for the guard."""

    poll_s: float
    commit_interval_s: float
    drain_s: float
    tokens: int


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
        budget: GuardBudget,
        outage: Outage,
        journal: Journal,
        limits: LoopLimits,
        clock: Clock,
        observer: StreamObserver,
    ) -> None:
        self._source, self._path, self._outcomes = source, path, outcomes
        self._window, self._budget, self._outage, self._limits = window, budget, outage, limits
        self._journal, self._clock, self._observer = journal, clock, observer
        self._partitions: dict[int, AssignedPartition] = {}
        self._failure: BaseException | None = None
        self._paused = False
        self._stalled_at: float | None = None
        self._commit_at = 0.0
        self._refused = False

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
        in_flight = [partition.offsets.in_flight for partition in self._partitions.values()]
        self._observer.beat(sum(in_flight))
        self._settle()
        await self._commit_if_due()
        room = self._window.room(in_flight)
        waits = self._outage.holding or self._budget.waiting_tokens >= self._limits.tokens
        if room == 0 or waits:
            await self._wait(long=self._outage.holding)
            return
        self._stalled_at = None
        if self._paused:
            await self._source.resume()
            self._paused = False
        records = await self._source.fetch(room, self._limits.poll_s)
        if records:
            await self._take(records)

    async def _wait(self, *, long: bool) -> None:
        now = self._clock.monotonic_s()
        if self._stalled_at is None:
            self._stalled_at = now
        if not long and now - self._stalled_at < STALL_S:
            await asyncio.sleep(TICK_S)
            return
        if not self._paused:
            await self._source.pause()
            self._paused = True
        # A partition that was assigned just now may still give something; it is taken, not thrown away.
        if records := await self._source.fetch(1, PAUSED_FETCH_S):
            await self._take(records)

    async def _take(self, records: Sequence[Record]) -> None:
        tickets: list[Ticket] = []
        taken: list[Record] = []
        partitions = self._partitions
        for record in records:
            partition = partitions.get(record.partition)
            if partition is None:  # revoked within the fetch that gave the record; the next owner reads it
                continue
            if not partition.offsets.read(record.offset):
                partition = self._rewind(partition)
                partition.offsets.read(record.offset)
            tickets.append(Ticket(partition, record))
            taken.append(record)
        results = await self._path.moderate(taken)
        publish = self._outcomes.publish
        for ticket, result in zip(tickets, results, strict=True):
            if ticket.partition.discarded:
                continue
            if type(result) is Pending:
                self._begin(ticket, result)
                continue
            assert type(result) is Publication
            if result.line is None or ticket.partition.lines.pass_by(result.line, (ticket, result)):
                publish(ticket, result)

    def _rewind(self, partition: AssignedPartition) -> AssignedPartition:
        """The source went back: what is in flight was read under offsets that mean something else now."""
        self._observer.discarded(partition.number, partition.offsets.in_flight, "rewound")
        partition.discard()
        fresh = AssignedPartition(partition.number)
        self._partitions[partition.number] = fresh
        return fresh

    def _begin(self, ticket: Ticket, pending: Pending) -> None:
        partition = ticket.partition
        place = partition.lines.enter(pending.line)

        def report(stage: Stage) -> None:
            ticket.stage = stage

        async def judge() -> None:
            publication = await pending.judge(report)
            if not partition.discarded:
                for waiting, outcome in partition.lines.finish(place, (ticket, publication)):
                    self._outcomes.publish(waiting, outcome)

        task = asyncio.create_task(judge())
        partition.tasks.add(task)
        task.add_done_callback(partition.tasks.discard)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    def _settle(self) -> None:
        """Count deliveries, send dead letters for what was too large, and raise what failed."""
        delivered, too_large = self._outcomes.collect()
        for ticket in delivered:
            if not ticket.partition.discarded:
                ticket.partition.offsets.done(ticket.record.offset)
        for ticket in too_large:
            if not ticket.partition.discarded:
                self._outcomes.publish(ticket, self._path.undeliverable(ticket.record))
        if self._failure is not None:
            if isinstance(self._failure, StreamStopped):
                raise self._failure
            self._observer.failed(self._failure)
            name = type(self._failure).__name__
            raise StreamStopped(f"an unexpected error stopped the stream ({name})") from self._failure

    async def _commit_if_due(self) -> None:
        now = self._clock.monotonic_s()
        if now >= self._commit_at or (self._journal.stale() and not self._refused):
            self._commit_at = now + self._limits.commit_interval_s
            await self._commit(self._partitions.values())

    async def _commit(self, partitions: Collection[AssignedPartition]) -> None:
        stale = self._journal.stale()
        positions: dict[int, Position] = {}
        for partition in partitions:
            number, at = partition.number, partition.offsets.to_commit
            if at is None and number in stale:
                at = partition.offsets.base
            if at is not None:
                positions[number] = Position(at, self._journal.note(number))
        if not positions:
            return
        taken = await self._outcomes.commit(positions)
        for partition in partitions:
            if partition.number in taken:
                position = positions[partition.number]
                partition.offsets.committed(position.offset)
                self._journal.written(partition.number, position.note)
        self._refused = len(taken) < len(positions)
        self._observer.committed(len(positions), len(taken))

    async def _give_up(self, partitions: list[AssignedPartition], why: str) -> None:
        """Let what is in flight finish for a while, commit what is done, and forget the rest."""
        until = self._clock.monotonic_s() + self._limits.drain_s
        while any(p.offsets.in_flight for p in partitions) and self._clock.monotonic_s() < until:
            self._observer.beat(sum(p.offsets.in_flight for p in self._partitions.values()))
            self._settle()
            if self._outage.holding:  # it would wait for a guard that is down
                break
            await asyncio.sleep(TICK_S)
        for partition in partitions:
            for task in partition.tasks:
                task.cancel()
        await self._outcomes.flush(LAST_FLUSH_S)
        self._settle()
        await self._commit(partitions)
        self._forget(partitions, why)

    def _forget(self, partitions: Collection[AssignedPartition], why: str) -> None:
        for partition in partitions:
            if partition.offsets.in_flight:
                self._observer.discarded(partition.number, partition.offsets.in_flight, why)
            partition.discard()
            self._partitions.pop(partition.number, None)
            self._journal.forget(partition.number)
        self._observer.partitions(self._partitions)

    async def assigned(self, partitions: Mapping[int, str]) -> None:
        for number, note in partitions.items():
            self._partitions[number] = AssignedPartition(number)
            self._journal.recall(number, note)
        self._observer.partitions(self._partitions)

    async def revoked(self, partitions: Sequence[int]) -> None:
        going = [self._partitions[number] for number in partitions if number in self._partitions]
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
        self._forget(
            [self._partitions[number] for number in partitions if number in self._partitions], "lost"
        )
