"""A broker and the lives of a worker in memory, on a clock that only a test moves.

The broker keeps the books that the guarantees are about: what was written to the outputs, in which order,
and what was committed. A life is one run of the real loop; a kill leaves everything as it stands.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from workers.errors import StreamStopped
from workers.ports import Pending, Position, Publication, RebalanceListener, Record, Refused, Report
from workers.stream.loop import LoopLimits, StreamLoop
from workers.stream.outage import Outage
from workers.stream.partition import Ticket
from workers.stream.window import Caps, Window

Kind = Literal["known", "ask", "huge", "letter"]
"""Decided at once; needs the guard; needs it and its decision is too large; a dead letter at once."""

WINDOW = Window(total=Caps(8, 900, 80), partition=Caps(5, 600, 50), batch=3)


class _Selector(selectors.SelectSelector):
    """Does not wait: the time that would have passed is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and nobody would ever wake them"
        self.now += max(0.0, timeout)
        return super().select(0)


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """Sleeps of hours take no time."""

    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


@dataclass(frozen=True)
class Event:
    """A record of the log."""

    offset: int
    kind: Kind
    line: bytes

    def record(self, partition: int) -> Record:
        return Record("events", partition, self.offset, self.line, self.kind.encode() + b"." * 50, None, 0)


@dataclass
class Broker:
    """Logs, commits and outputs; `owners` says which life a partition belongs to."""

    log: dict[int, list[Event]] = field(default_factory=lambda: {0: [], 1: []})
    committed: dict[int, Position] = field(default_factory=dict)
    owners: dict[int, Life | None] = field(default_factory=lambda: {0: None, 1: None})
    written: list[tuple[str, int, int]] = field(default_factory=list)
    takes_commits: bool = True

    def append(self, partition: int, kind: Kind, line: bytes, gap: int) -> None:
        log = self.log[partition]
        log.append(Event((log[-1].offset if log else -1) + gap, kind, line))

    def start_of(self, partition: int) -> int:
        return self.committed.get(partition, Position(0)).offset

    def undecided(self, partition: int, below: int | None = None) -> list[int]:
        """Offsets without an outcome, of all or of those below."""
        decided = {offset for _, number, offset in self.written if number == partition}
        return [
            event.offset
            for event in self.log[partition]
            if event.offset not in decided and (below is None or event.offset < below)
        ]

    def commit(self, life: Life, positions: Mapping[int, Position]) -> set[int]:
        taken: set[int] = set()
        for number, position in positions.items():
            assert not self.undecided(number, position.offset), "committed before its outcome was delivered"
            # Until a client has heard of its loss it commits under its former membership, which is refused.
            if self.takes_commits and self.owners[number] is life and not life.source.unheard[number]:
                # A client that reads again from further back begins anew there, which is its broker's doing.
                start = self.start_of(number)
                lowest = min(start, life.source.lowest.get(number, start))
                assert position.offset >= lowest, "committed below what was committed before"
                self.committed[number] = position
                taken.add(number)
        return taken

    def inversions(self) -> list[tuple[int, bytes]]:
        """Lines whose first decisions are not in the order of their events."""
        newest: dict[tuple[int, bytes], int] = {}
        seen: set[tuple[int, int]] = set()
        found = []
        lines = {(number, event.offset): event.line for number, log in self.log.items() for event in log}
        for topic, number, offset in self.written:
            if topic == "decisions" and (number, offset) not in seen:
                seen.add((number, offset))
                line = number, lines[number, offset]
                if offset < newest.get(line, -1):
                    found.append(line)
                newest[line] = offset
        return found


class Source:
    """Gives what stands in the log, after the rebalances that the test has put in line."""

    def __init__(self, broker: Broker, life: Life) -> None:
        self.broker, self.life = broker, life
        self.rebalances: deque[Callable[[], Awaitable[None]]] = deque()
        self.positions: dict[int, int] = {}
        self.lowest: dict[int, int] = {}
        """Where the client went back to since it was assigned the partition."""
        self.unheard: Counter[int] = Counter()
        """Losses of which the client does not know yet."""
        self.paused: set[int] = set()
        self.all_paused = False
        self.left = False

    async def join(self, listener: RebalanceListener) -> None:
        self.listener = listener

    def give(self, number: int) -> None:
        """The group gives this life the partition; it hears of it in its next fetch."""
        self.broker.owners[number] = self.life

        async def assigned() -> None:
            if self.broker.owners[number] is self.life and number not in self.positions:
                position = self.broker.committed.get(number, Position(0))
                self.positions[number] = position.offset
                self.lowest.pop(number, None)
                if self.all_paused:
                    self.paused.add(number)
                await self.listener.assigned({number: position.note})

        self.rebalances.append(assigned)

    def go_back(self, number: int, back: int) -> None:
        """The client gives again what it gave, as when its broker has forgotten the newest records."""
        self.positions[number] = max(0, self.positions[number] - back)
        self.lowest[number] = min(self.lowest.get(number, self.positions[number]), self.positions[number])

    def revoke(self, number: int) -> None:
        """The group asks for the partition; it is free when this life has given it back."""

        async def revoked() -> None:
            if number in self.positions:
                await self.listener.revoked([number])
                self.positions.pop(number)
            if self.broker.owners[number] is self.life:
                self.broker.owners[number] = None

        self.rebalances.append(revoked)

    def lose(self, number: int) -> None:
        """The partition belongs to nobody at once; this life hears of it in its next fetch."""
        if self.broker.owners[number] is self.life:
            self.broker.owners[number] = None

        self.unheard[number] += 1

        async def lost() -> None:
            self.unheard[number] -= 1
            if number in self.positions:
                await self.listener.lost([number])
                self.positions.pop(number)

        self.rebalances.append(lost)

    async def fetch(self, limit: int, timeout_s: float) -> list[Record]:
        while self.rebalances:
            await self.rebalances.popleft()()
        records: list[Record] = []
        for number, position in self.positions.items():
            if number not in self.paused:
                found = [e for e in self.broker.log[number] if e.offset >= position][: limit - len(records)]
                records += [event.record(number) for event in found]
                if found:
                    self.positions[number] = found[-1].offset + 1
        if not records:
            await asyncio.sleep(timeout_s)
        return records

    async def pause(self, partitions: Collection[int] | None = None) -> None:
        self.all_paused = self.all_paused or partitions is None
        self.paused |= self.positions.keys() & (self.positions if partitions is None else set(partitions))

    async def resume(self, partitions: Collection[int] | None = None) -> None:
        # A partition that left paused stays so, as with librdkafka.
        if partitions is None:
            self.all_paused = False
        self.paused -= self.positions.keys() & (self.positions if partitions is None else set(partitions))

    async def leave(self) -> None:
        if not self.life.killed:
            for number in sorted(self.positions):
                await self.listener.revoked([number])
            for number, owner in self.broker.owners.items():
                if owner is self.life:
                    self.broker.owners[number] = None
        self.positions.clear()
        self.left = True


class Outcomes:
    """What is sent stays on its way until the test delivers it, in order per partition."""

    def __init__(self, broker: Broker, life: Life) -> None:
        self.broker, self.life = broker, life
        self.sending: dict[int, deque[tuple[Ticket, Publication, int]]] = {0: deque(), 1: deque()}
        self.unreported: list[tuple[Ticket, bool]] = []
        self.reports: list[tuple[Ticket, bool]] = []
        self.failure = ""
        self.at_once = False

    def publish(self, ticket: Any, publication: Publication) -> None:
        if not self.life.killed:
            self.sending[ticket.record.partition].append((ticket, publication, ticket.record.offset))

    def deliver(self, number: int, *, report: bool) -> None:
        """The broker gets the first of what is on its way from this partition."""
        ticket, publication, offset = self.sending[number].popleft()
        too_large = publication.topic == "decisions" and publication.value == b"huge"
        if not too_large:
            self.broker.written.append((publication.topic, number, offset))
        (self.reports if report else self.unreported).append((ticket, too_large))

    def report(self) -> None:
        self.reports += self.unreported
        self.unreported.clear()

    def collect(self) -> tuple[Sequence[Any], Sequence[Refused]]:
        if self.failure:
            raise StreamStopped(self.failure)
        if self.at_once:
            self.report()
            for number, sending in self.sending.items():
                while sending:
                    self.deliver(number, report=True)
        told, self.reports = self.reports, []
        return (
            [ticket for ticket, large in told if not large],
            [Refused(ticket, None) for ticket, large in told if large],
        )

    async def commit(self, positions: Mapping[int, Position]) -> Collection[int]:
        await asyncio.sleep(0.001)
        return set() if self.life.killed else self.broker.commit(self.life, positions)

    async def flush(self, timeout_s: float) -> None:
        await asyncio.sleep(0.001)


class Path:
    """Decides by the kind of the event; what needs the guard waits for the test."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.gates: dict[tuple[int, int], asyncio.Future[None]] = {}
        self.slow = False

    async def moderate(self, records: Sequence[Record]) -> list[Publication | Pending]:
        if self.slow:
            await asyncio.sleep(0.2)
        return [self._result(record) for record in records]

    def _result(self, record: Record) -> Publication | Pending:
        assert record.value is not None
        assert record.key is not None
        kind = record.value.rstrip(b".")
        if kind == b"letter":
            return Publication("letters", record.key, kind, [])
        publication = Publication("decisions", record.key, kind, [], record.key)
        if kind == b"known":
            return publication

        async def judge(report: Report) -> Publication:
            report("guard")
            gate = asyncio.get_running_loop().create_future()
            self.gates[record.partition, record.offset] = gate
            try:
                await gate
            finally:
                self.gates.pop((record.partition, record.offset), None)
            if self.life.outage.down:
                report("hold")
                await self.life.outage.hold()
            return publication

        return Pending(record.key, judge, tokens=10)

    def undeliverable(self, record: Record, letter: Publication | None) -> Publication:
        return Publication("letters", record.key, b"undeliverable", [])


class Notes:
    """A journal whose notes the test writes."""

    def __init__(self) -> None:
        self.wanted: dict[int, str] = {}
        self.kept: dict[int, str] = {}

    def recall(self, partition: int, note: str) -> None:
        self.wanted[partition] = self.kept[partition] = note

    def note(self, partition: int) -> str:
        return self.wanted[partition]

    def stale(self) -> Collection[int]:
        return {number for number, note in self.wanted.items() if note != self.kept[number]}

    def written(self, partition: int, note: str) -> None:
        self.kept[partition] = note

    def forget(self, partition: int) -> None:
        del self.wanted[partition], self.kept[partition]


class Observer:
    def beat(self, in_flight: int) -> None: ...
    def partitions(self, numbers: Collection[int]) -> None: ...
    def discarded(self, partition: int, records: int, why: str) -> None: ...
    def committed(self, asked: int, taken: int) -> None: ...
    def failed(self, error: BaseException) -> None: ...


class Clock:
    def __init__(self, events: asyncio.AbstractEventLoop) -> None:
        self.events = events

    def now_ms(self) -> float:
        return self.monotonic_s() * 1000

    def monotonic_s(self) -> float:
        return self.events.time()


class Life:
    """One run of a worker over the real loop; must be made within the running event loop."""

    def __init__(self, broker: Broker) -> None:
        self.killed = False
        self.source, self.outcomes, self.path = Source(broker, self), Outcomes(broker, self), Path(self)
        self.notes = Notes()
        self.guard_back = asyncio.Event()
        clock = Clock(asyncio.get_running_loop())
        self.outage = Outage(self._restart, OSError, clock=clock.monotonic_s)
        self.stopping = asyncio.Event()
        self.loop = StreamLoop(
            source=self.source,
            path=self.path,
            outcomes=self.outcomes,
            window=WINDOW,
            outage=self.outage,
            journal=self.notes,
            limits=LoopLimits(poll_s=0.1, commit_interval_s=0.5, drain_s=1.0, stall_s=0.5),
            clock=clock,
            observer=Observer(),
        )
        self.task = asyncio.create_task(self.loop.run(self.stopping))

    async def _restart(self) -> None:
        await self.guard_back.wait()

    async def kill(self) -> None:
        """Nothing that this life still does reaches the broker, except what is on its way."""
        self.killed = True
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.outage.close()
