"""Outcomes exactly once, over transactions that succeed, fail and hang as told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.stream import test_loop as stream
from workers.adapters import kafka_transactions as module
from workers.adapters.kafka_transactions import KafkaTransactions
from workers.adapters.kafka_transactor import Job, Result
from workers.errors import StreamStopped
from workers.ports import NoJournal, Position, Publication, Record, Refused
from workers.settings import KafkaSettings
from workers.stream.loop import LoopLimits, StreamLoop
from workers.stream.outage import Outage


class Assignment:
    def __init__(self, number: int = 0) -> None:
        self.number, self.discarded = number, False


class Ticket:
    def __init__(self, partition: Assignment, offset: int) -> None:
        self.partition = partition
        self.record = Record("t", partition.number, offset, b"k", b"v", None, 0)


class Source:
    def __init__(self) -> None:
        self.close: Callable[[], Awaitable[None]]

    def at_leave(self, close: Callable[[], Awaitable[None]]) -> None:
        self.close = close

    def at_log_in(self, log_in: Callable[[str, str], None]) -> None:
        self.log_in = log_in

    def places(self, positions: Mapping[int, Position]) -> list[TopicPartition]:
        return [TopicPartition("t", n, at.offset, metadata=at.note) for n, at in positions.items()]

    async def membership(self) -> bytes:
        return b"member"


class Fake:
    """Stands for the transactor. `results` are given first; then everything is committed."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.results: list[Callable[[Job], Result]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def prepare(self) -> None: ...

    def close(self) -> None:
        self.go_on.set()

    def end(self) -> None: ...

    def log_in(self, username: str, password: str) -> None: ...

    def run(self, job: Job) -> Result:
        self.go_on.wait(30)
        result = self.results.pop(0)(job) if self.results else Result(committed=True)
        self.jobs.append(job)
        return result

    def sent(self) -> list[bytes]:
        return [outcome.publication.value or b"" for outcome in self.jobs[-1].outgoing]


def publication(value: bytes | None, line: bytes | None = b"k") -> Publication:
    return Publication("d", b"k", value, [], line)


Make = Callable[..., tuple[KafkaTransactions, Fake]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    sources = []

    def build(**settings: Any) -> tuple[KafkaTransactions, Fake]:
        fake, source = Fake(), Source()
        sources.append(source)
        return (
            KafkaTransactions(
                KafkaSettings(**settings),
                source,  # type: ignore[arg-type]
                transactional_id="x",
                transactor=fake,  # type: ignore[arg-type]
            ),
            fake,
        )

    yield build
    for source in sources:
        await source.close()


class BrokersTime:
    def __init__(self) -> None:
        self.reports: list[tuple[float | None, float]] = []

    @property
    def monotonic_s(self) -> Callable[[], float]:
        return lambda: 7.0

    def wants_report(self) -> bool:
        return False

    def reported(self, timestamp_ms: float | None, sent_s: float) -> None:
        self.reports.append((timestamp_ms, sent_s))


async def test_the_brokers_stamp_on_what_was_committed_tells_its_time(make: Make) -> None:
    outcomes, fake = make()
    outcomes._clock = clock = BrokersTime()
    fake.results = [
        lambda _: Result(committed=False, why="x", stamps=[1.0]),
        lambda _: Result(committed=True, stamps=[5.0]),
    ]
    for _ in range(2):
        await outcomes.commit({0: Position(1)})
    assert clock.reports == [(5.0, 7.0)]


async def test_what_stands_before_the_position_is_sent_in_order_and_the_rest_is_kept(make: Make) -> None:
    outcomes, fake = make()
    assignment = Assignment()
    tickets = [Ticket(assignment, offset) for offset in (3, 1, 2)]
    for ticket in tickets:
        outcomes.publish(ticket, publication(b"%d" % ticket.record.offset))
    assert outcomes.collect() == (tickets, [])
    assert outcomes.collect() == ([], [])
    assert set(await outcomes.commit({0: Position(3, "n")})) == {0}
    assert fake.sent() == [b"1", b"2"]
    assert [(p.offset, p.metadata) for p in fake.jobs[-1].places] == [(3, "n")]
    await outcomes.commit({0: Position(4)})
    assert fake.sent() == [b"3"]
    await outcomes.commit({0: Position(4, "only a note")})
    assert fake.sent() == []
    assert fake.jobs[-1].moved == frozenset()


async def test_outcomes_are_told_when_their_transaction_is_committed_and_not_before(make: Make) -> None:
    outcomes, fake = make()
    told: list[list[int]] = []
    outcomes._published = lambda stamps: told.append(list(stamps))
    assignment = Assignment()
    for offset in (1, 2, 3):
        outcomes.publish(Ticket(assignment, offset), publication(b"x"))
    outcomes.collect()
    fake.results = [lambda job: Result(committed=False, why="ILLEGAL_GENERATION")]
    await outcomes.commit({0: Position(3)})
    assert told == []
    await outcomes.commit({0: Position(3)})
    assert [len(stamps) for stamps in told] == [2]


async def test_what_was_undone_is_sent_again_and_nothing_more_is_reported_meanwhile(make: Make) -> None:
    outcomes, fake = make()
    assignment = Assignment()
    outcomes.publish(Ticket(assignment, 1), publication(b"1"))
    outcomes.collect()
    fake.results = [lambda job: Result(committed=False, why="ILLEGAL_GENERATION")]
    assert await outcomes.commit({0: Position(2)}) == ()
    later = Ticket(assignment, 2)
    outcomes.publish(later, publication(b"2"))
    assert outcomes.collect() == ((), [])
    assert await outcomes.commit({0: Position(2)}) == (0,)
    assert fake.sent() == [b"1"]
    assert outcomes.collect() == ([later], [])


async def test_partitions_that_went_hold_nobody_up(make: Make) -> None:
    outcomes, fake = make()
    gone, stays = Assignment(0), Assignment(1)
    outcomes.publish(Ticket(gone, 1), publication(b"gone"))
    outcomes.collect()
    fake.results = [lambda job: Result(committed=False, why="ILLEGAL_GENERATION")]
    await outcomes.commit({0: Position(2)})
    ticket = Ticket(stays, 1)
    outcomes.publish(ticket, publication(b"stays"))
    assert outcomes.collect() == ((), [])
    gone.discarded = True
    assert outcomes.collect() == ([ticket], [])
    again = Assignment(0)
    outcomes.publish(Ticket(again, 1), publication(b"judged anew"))
    await outcomes.commit({0: Position(2), 1: Position(2)})
    assert fake.sent() == [b"judged anew", b"stays"]


async def test_a_transaction_that_takes_long_is_waited_for_in_the_next_call(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes, fake = make()
    assignment = Assignment()
    outcomes.publish(Ticket(assignment, 1), publication(b"1"))
    outcomes.collect()
    fake.go_on.clear()
    monkeypatch.setattr(module, "_WAIT_S", 0.01)
    assert await outcomes.commit({0: Position(2)}) == ()
    outcomes.publish(Ticket(assignment, 2), publication(b"2"))
    assert outcomes.collect() == ((), [])
    assert await outcomes.commit({0: Position(2)}) == ()
    fake.go_on.set()
    monkeypatch.setattr(module, "_WAIT_S", 30)
    # The first one ends, and what it sent is not sent again.
    assert await outcomes.commit({0: Position(3)}) == (0,)
    assert [[o.publication.value for o in job.outgoing] for job in fake.jobs] == [[b"1"], [b"2"]]


async def test_transactions_that_never_succeed_stop_the_stream(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes, fake = make(delivery_timeout_ms=1000)
    outcomes._patience_s = 0
    outcomes.publish(Ticket(Assignment(), 1), publication(b"1"))
    fake.results = [lambda job: Result(committed=False, why="UNKNOWN")] * 2
    await outcomes.commit({0: Position(2)})
    with pytest.raises(StreamStopped, match=r"no transaction was committed.*UNKNOWN"):
        await outcomes.commit({0: Position(2)})


async def test_a_decision_that_is_refused_alone_gives_way_to_its_dead_letter(make: Make) -> None:
    outcomes, fake = make()
    big, small, other = Ticket(Assignment(0), 1), Ticket(Assignment(0), 2), Ticket(Assignment(1), 1)
    small.partition = big.partition
    for ticket, value in ((big, b"big"), (small, b"small"), (other, b"other")):
        outcomes.publish(ticket, publication(value))
    outcomes.collect()
    record = big.record
    del big.record  # as the stream does with what is delivered

    def refuse(job: Job) -> Result:
        refused = [o for o in job.outgoing if o.publication.value == b"big"]
        return Result(committed=not refused, refused=refused)

    fake.results = [refuse] * 9
    # The other partition goes on; the position behind what was refused is not committed.
    assert await outcomes.commit({0: Position(3), 1: Position(2)}) == (1,)
    assert fake.sent() == [b"other"]
    assert outcomes.collect() == ([], [Refused(big, None)])
    assert big.record == record
    assert await outcomes.commit({0: Position(3)}) == ()
    letter = publication(b"letter", line=None)
    outcomes.publish(big, letter)
    assert outcomes.collect() == ([], [])
    assert await outcomes.commit({0: Position(3)}) == (0,)
    assert fake.sent() == [b"letter", b"small"]


async def test_a_dead_letter_that_is_refused_alone_comes_back_as_well(make: Make) -> None:
    outcomes, fake = make()
    ticket, letter = Ticket(Assignment(0), 1), publication(b"letter", line=None)
    outcomes.publish(ticket, letter)

    def refuse(job: Job) -> Result:
        return Result(committed=False, refused=job.outgoing)

    fake.results = [refuse] * 3
    assert await outcomes.commit({0: Position(2)}) == ()
    assert outcomes.collect() == ([ticket], [Refused(ticket, letter)])
    outcomes.publish(ticket, publication(None, line=None))
    fake.results = []
    assert await outcomes.commit({0: Position(2)}) == (0,)


async def test_closing_ends_what_is_under_way(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, fake = make()
    outcomes.publish(Ticket(Assignment(), 1), publication(b"1"))
    fake.go_on.clear()
    monkeypatch.setattr(module, "_WAIT_S", 0.01)
    assert await outcomes.commit({0: Position(2)}) == ()
    await outcomes.close()
    assert len(fake.jobs) == 1


@given(st.lists(st.sampled_from(["publish", "commit", "fail"]), max_size=40), st.permutations(range(10)))
async def test_whatever_fails_each_outcome_is_in_one_committed_transaction(
    steps: list[str], order: list[int]
) -> None:
    source, fake = Source(), Fake()
    outcomes = KafkaTransactions(
        KafkaSettings(),
        source,  # type: ignore[arg-type]
        transactional_id="x",
        transactor=fake,  # type: ignore[arg-type]
    )
    assignment, finished, committed = Assignment(), set[int](), list[bytes]()
    waiting = list(order)

    def position() -> int:
        return next(offset for offset in range(11) if offset not in finished)

    async def commit() -> None:
        at = position()
        taken = await outcomes.commit({0: Position(at)})
        if taken:
            committed.extend(fake.sent())

    for step in [*steps, *["publish"] * 10, "commit", "commit"]:
        if step == "publish" and waiting:
            offset = waiting.pop()
            outcomes.publish(Ticket(assignment, offset), publication(b"%d" % offset))
        elif step == "fail":
            fake.results = [lambda job: Result(committed=False, why="x")]
        if step != "publish":
            finished |= {ticket.record.offset for ticket in outcomes.collect()[0]}
            await commit()
    finished |= {ticket.record.offset for ticket in outcomes.collect()[0]}
    await commit()
    assert committed == [b"%d" % offset for offset in range(10)]
    await source.close()


class LoopSource(stream.Source):
    """The source that drives the loop, and what the transactions need of theirs."""

    def __init__(self, transactions: Source) -> None:
        super().__init__()
        self.transactions = transactions

    async def leave(self) -> None:
        await super().leave()
        await self.transactions.close()


def loop_over(source: stream.Source, outcomes: KafkaTransactions) -> StreamLoop:
    return StreamLoop(
        source=source,
        path=stream.Path(),
        outcomes=outcomes,
        window=stream.window_of(),
        outage=Outage(_never, RuntimeError),
        journal=NoJournal(),
        limits=LoopLimits(poll_s=0.001, commit_interval_s=0.001, drain_s=1.0),
        clock=stream.Clock(),
        observer=stream.Observer(),
    )


async def _never() -> None:
    raise AssertionError("the guard is up")


async def test_the_stream_runs_over_transactions_of_which_some_are_undone_and_one_refuses_a_record() -> None:
    """What the stream gives up when an outcome is ready must come back for the dead letter."""
    fake, inner = Fake(), Source()
    outcomes = KafkaTransactions(
        KafkaSettings(),
        inner,  # type: ignore[arg-type]
        transactional_id="x",
        transactor=fake,  # type: ignore[arg-type]
    )
    source = LoopSource(inner)
    values = [b"%d" % number for number in range(200)]
    source.queue += [Record("t", 0, n, b"k", value, None, 0) for n, value in enumerate(values)]
    committed: list[bytes] = []
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()

    def undone(job: Job) -> Result:
        return Result(committed=False, why="ILLEGAL_GENERATION")

    def run(job: Job) -> Result:
        refused = [outcome for outcome in job.outgoing if outcome.publication.value == b"77"]
        if not refused:
            committed.extend(outcome.publication.value or b"" for outcome in job.outgoing)
        if len(committed) == 200:
            loop.call_soon_threadsafe(stopping.set)
        return Result(committed=not refused, refused=refused)

    fake.results = [undone, run, run, undone, undone, *[run] * 10_000]
    async with asyncio.timeout(60):
        await loop_over(source, outcomes).run(stopping)
    assert committed == [*values[:77], b"letter", *values[78:]]
