"""The loop over fakes: a source in memory whose rebalances and failures the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest

from tests.unit.workers.stream import simulation
from workers.errors import StreamStopped
from workers.ports import (
    Journal,
    NoJournal,
    Pending,
    Position,
    Publication,
    RebalanceListener,
    Record,
    Refused,
    Report,
)
from workers.stream.loop import LoopLimits, StreamLoop
from workers.stream.outage import Outage
from workers.stream.partition import Ticket
from workers.stream.window import Caps, Load, Window

Rebalance = Callable[[RebalanceListener], Any]


class Source:
    def __init__(self) -> None:
        self.queue: list[Record | Rebalance] = []
        self.listener: RebalanceListener | None = None
        self.paused = False
        self.paused_alone: set[int] = set()
        self.fetches = 0
        self.owned: set[int] = set()
        self.left = False

    async def join(self, listener: RebalanceListener) -> None:
        self.listener = listener
        await listener.assigned({0: "", 1: ""})
        self.owned = {0, 1}

    async def fetch(self, limit: int, timeout_s: float) -> list[Record]:
        assert self.listener is not None
        self.fetches += 1
        records: list[Record] = []
        kept: list[Record | Rebalance] = []
        while self.queue and len(records) < limit:
            item = self.queue.pop(0)
            if not isinstance(item, Record):
                await item(self.listener)
            elif self.paused or item.partition in self.paused_alone:
                kept.append(item)
            else:
                records.append(item)
        self.queue = kept + self.queue
        if not records:
            await asyncio.sleep(0.001)
        return records

    async def pause(self, partitions: Collection[int] | None = None) -> None:
        if partitions is None:
            self.paused = True
        else:
            self.paused_alone |= set(partitions)

    async def resume(self, partitions: Collection[int] | None = None) -> None:
        if partitions is None:
            self.paused = False
            self.paused_alone.clear()
        else:
            self.paused_alone -= set(partitions)

    async def leave(self) -> None:
        assert self.listener is not None
        await self.listener.revoked(sorted(self.owned))
        self.left = True


class Outcomes:
    def __init__(self) -> None:
        self.sent: list[tuple[Ticket, Publication]] = []
        self.reported = 0
        self.deliver = True
        self.failure: str | None = None
        self.too_large: set[bytes] = set()
        self.commits: list[Mapping[int, Position]] = []
        self.refuse_commits = False
        self.commit_calls = 0
        self.broken = ""

    def publish(self, ticket: Any, publication: Publication) -> None:
        if self.broken == "publish":
            raise StreamStopped("the topic d does not exist")
        self.sent.append((ticket, publication))

    def collect(self) -> tuple[Sequence[Any], Sequence[Refused]]:
        if self.failure:
            raise StreamStopped(self.failure)
        if not self.deliver:
            return [], []
        new, self.reported = self.sent[self.reported :], len(self.sent)
        large = [p.value in self.too_large and p.topic == "d" for _, p in new]
        return (
            [ticket for (ticket, _), big in zip(new, large, strict=True) if not big],
            [Refused(ticket, None) for (ticket, _), big in zip(new, large, strict=True) if big],
        )

    async def commit(self, positions: Mapping[int, Position]) -> Collection[int]:
        self.commit_calls += 1
        if self.broken == "commit":
            raise StreamStopped("offsets cannot be committed")
        if self.refuse_commits:
            return ()
        self.commits.append(positions)
        return positions.keys()

    async def flush(self, timeout_s: float) -> None:
        pass

    def committed(self) -> dict[int, int]:
        return {number: at.offset for commit in self.commits for number, at in commit.items()}

    def values(self) -> list[bytes | None]:
        return [publication.value for _, publication in self.sent]


class Path:
    """Values that begin with `ask` are pending until the test lets them go."""

    def __init__(self) -> None:
        self.gates: dict[bytes, asyncio.Future[None]] = {}
        self.seen: list[Record] = []
        self.error: Exception | None = None

    async def moderate(self, records: Sequence[Record]) -> list[Publication | Pending]:
        self.seen.extend(records)
        if self.error:
            raise self.error
        return [self._result(record) for record in records]

    def _result(self, record: Record) -> Publication | Pending:
        assert record.value is not None
        publication = Publication("d", record.key, record.value, [], record.key)
        if not record.value.startswith(b"ask"):
            return publication
        gate = self.gates[record.value] = asyncio.get_running_loop().create_future()

        async def judge(report: Report) -> Publication:
            report("guard")
            await gate
            return publication

        assert record.key is not None
        return Pending(record.key, judge, tokens=10)

    def undeliverable(self, record: Record, letter: Publication | None) -> Publication:
        return Publication("x", record.key, b"letter", [])


class Observer:
    def __init__(self) -> None:
        self.given_up: list[tuple[int, int, str]] = []
        self.errors: list[BaseException] = []

    def beat(self, in_flight: int) -> None: ...
    def partitions(self, numbers: Collection[int]) -> None: ...

    def discarded(self, partition: int, records: int, why: str) -> None:
        self.given_up.append((partition, records, why))

    def committed(self, asked: int, taken: int) -> None: ...

    def failed(self, error: BaseException) -> None:
        self.errors.append(error)


class Clock:
    def now_ms(self) -> float:
        return 0.0

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


def window_of(
    *, records: int = 100, per_partition: int = 50, batch: int = 20, size: int = 1_000_000, tokens: int = 1000
) -> Window:
    return Window(Caps(records, size, tokens), Caps(per_partition, size, tokens), batch)


class World:
    def __init__(
        self,
        *,
        drain_s: float = 0.05,
        stall_s: float = 5.0,
        commit_s: float = 0.001,
        window: Window | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.source, self.outcomes, self.path, self.observer = Source(), Outcomes(), Path(), Observer()
        self.guard_back = asyncio.Event()
        self.outage = Outage(self._restart, OSError)
        self.stopping = asyncio.Event()
        self.loop = StreamLoop(
            source=self.source,
            path=self.path,
            outcomes=self.outcomes,
            window=window or window_of(),
            outage=self.outage,
            journal=journal or NoJournal(),
            limits=LoopLimits(poll_s=0.001, commit_interval_s=commit_s, drain_s=drain_s, stall_s=stall_s),
            clock=Clock(),
            observer=self.observer,
        )
        self.task = asyncio.create_task(self.loop.run(self.stopping))

    async def _restart(self) -> None:
        await self.guard_back.wait()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                if self.task.done():
                    await self.task
                await asyncio.sleep(0.001)

    async def stop(self) -> None:
        self.stopping.set()
        await asyncio.wait_for(self.task, 10)


def record(offset: int, value: bytes = b"known", partition: int = 0, key: bytes = b"k") -> Record:
    return Record("events", partition, offset, key, value, None, 0)


async def test_what_is_delivered_is_committed_and_nothing_behind_a_gap() -> None:
    world = World()
    world.source.queue += [record(0), record(1, b"ask", key=b"other"), record(2), record(0, partition=1)]
    await world.until(lambda: world.outcomes.committed() == {0: 1, 1: 1})
    assert world.outcomes.values() == [b"known"] * 3
    world.path.gates[b"ask"].set_result(None)
    await world.until(lambda: world.outcomes.committed() == {0: 3, 1: 1})
    await world.stop()


async def test_nothing_is_committed_before_its_delivery_is_reported() -> None:
    world = World()
    world.outcomes.deliver = False
    world.source.queue += [record(0), record(1)]
    await world.until(lambda: len(world.outcomes.sent) == 2)
    await asyncio.sleep(0.01)
    assert world.outcomes.commits == []
    world.outcomes.deliver = True
    await world.until(lambda: world.outcomes.committed() == {0: 2})
    await world.stop()


async def test_a_conversation_keeps_its_order_and_others_do_not_wait() -> None:
    world = World()
    world.source.queue += [
        record(0, b"ask-1", key=b"a"),
        record(1, b"known", key=b"a"),
        record(2, b"ask-2", key=b"a"),
        record(3, b"free", key=b"b"),
    ]
    await world.until(lambda: world.outcomes.values() == [b"free"])
    world.path.gates[b"ask-2"].set_result(None)
    await asyncio.sleep(0.01)
    assert world.outcomes.values() == [b"free"]
    world.path.gates[b"ask-1"].set_result(None)
    await world.until(lambda: len(world.outcomes.sent) == 4)
    assert world.outcomes.values() == [b"free", b"ask-1", b"known", b"ask-2"]
    await world.stop()


async def test_stopping_finishes_what_is_in_flight_commits_and_leaves() -> None:
    world = World(drain_s=5)
    world.source.queue += [record(0, b"ask"), record(1)]
    await world.until(lambda: b"ask" in world.path.gates)
    world.stopping.set()
    asyncio.get_running_loop().call_later(0.02, world.path.gates[b"ask"].set_result, None)
    await world.stop()
    assert world.outcomes.committed() == {0: 2}
    assert world.source.left
    assert world.observer.given_up == []


async def test_what_does_not_finish_in_the_drain_time_is_abandoned_uncommitted() -> None:
    world = World()
    world.source.queue += [record(0), record(1, b"ask"), record(2, key=b"other")]
    await world.until(lambda: len(world.outcomes.sent) == 2)
    await world.stop()
    assert world.outcomes.committed() == {0: 1}
    assert world.observer.given_up == [(0, 1, "stopped")]
    assert world.path.gates[b"ask"].cancelled()


async def test_a_revoked_partition_drains_and_the_others_go_on() -> None:
    world = World(drain_s=5)
    world.source.queue += [record(0, b"ask-0"), record(0, b"ask-1", partition=1)]
    await world.until(lambda: len(world.path.gates) == 2)
    asyncio.get_running_loop().call_later(0.02, world.path.gates[b"ask-0"].set_result, None)
    world.source.queue.append(lambda listener: listener.revoked([0]))
    await world.until(lambda: world.outcomes.committed() == {0: 1})
    assert world.observer.given_up == []
    world.path.gates[b"ask-1"].set_result(None)
    await world.until(lambda: world.outcomes.committed() == {0: 1, 1: 1})
    await world.stop()


@pytest.mark.parametrize("why", ["revoked", "lost"])
async def test_results_of_a_partition_that_is_gone_are_discarded(why: str) -> None:
    world = World()
    world.outcomes.deliver = False
    world.source.queue += [record(0), record(1, b"ask")]
    await world.until(lambda: world.outcomes.sent and b"ask" in world.path.gates)
    world.source.queue.append(lambda listener: getattr(listener, why)([0]))
    await world.until(lambda: world.observer.given_up == [(0, 2, why)])
    world.outcomes.deliver = True  # the report of the earlier assignment comes late
    world.source.queue += [lambda listener: listener.assigned({0: ""}), record(0, b"again")]
    await world.until(lambda: world.outcomes.committed() == {0: 1})
    assert world.outcomes.values() == [b"known", b"again"]
    await world.stop()


async def test_records_of_a_partition_that_went_within_the_fetch_are_left_to_the_next_owner() -> None:
    world = World()
    world.source.queue += [record(0), lambda listener: listener.lost([0]), record(0, partition=1)]
    await world.until(lambda: world.outcomes.committed() == {1: 1})
    assert [seen.partition for seen in world.path.seen] == [1]
    await world.stop()


async def test_going_back_starts_the_partition_anew() -> None:
    world = World()
    world.source.queue += [record(5), record(6, b"ask", key=b"other")]
    await world.until(lambda: world.outcomes.committed() == {0: 6})
    world.source.queue += [record(3), record(4)]
    await world.until(lambda: world.outcomes.committed() == {0: 5})
    assert (0, 1, "rewound") in world.observer.given_up
    await world.stop()


async def test_a_record_that_comes_twice_is_judged_once_and_what_stands_before_it_is_not_skipped() -> None:
    world = World()
    world.source.queue += [record(5, b"ask"), record(6, key=b"other"), record(7, b"ask-too", key=b"third")]
    await world.until(lambda: len(world.path.gates) == 2)
    world.source.queue += [record(6, key=b"other"), record(7, b"ask-too", key=b"third"), record(8, key=b"x")]
    await world.until(lambda: world.outcomes.values() == [b"known", b"known"])
    for gate in world.path.gates.values():
        gate.set_result(None)
    await world.until(lambda: world.outcomes.committed() == {0: 9})
    assert [seen.offset for seen in world.path.seen] == [5, 6, 7, 8]
    await world.stop()


@pytest.mark.parametrize("offset", [6, 7])
async def test_another_record_at_an_offset_in_flight_stops_the_stream(offset: int) -> None:
    world = World()
    world.source.queue += [record(5, b"ask"), record(7, key=b"other"), record(8, key=b"other")]
    await world.until(lambda: world.outcomes.sent)
    anew = Record("events", 0, offset, b"k", b"known", None, 1)
    world.source.queue.append(anew)
    with pytest.raises(StreamStopped, match="deleted and made anew"):
        await asyncio.wait_for(world.task, 10)
    assert world.outcomes.commits == []


async def test_a_decision_too_large_becomes_a_dead_letter_and_is_done() -> None:
    world = World()
    world.outcomes.too_large = {b"huge"}
    world.source.queue += [record(0, b"huge"), record(1)]
    await world.until(lambda: world.outcomes.committed() == {0: 2})
    assert [publication.topic for _, publication in world.outcomes.sent] == ["d", "d", "x"]
    await world.stop()


async def test_a_failed_delivery_stops_the_stream_uncommitted() -> None:
    world = World()
    world.source.queue += [record(0)]
    world.outcomes.deliver = False
    await world.until(lambda: world.outcomes.sent)
    world.outcomes.failure = "lost"
    with pytest.raises(StreamStopped, match="lost"):
        await asyncio.wait_for(world.task, 10)
    assert world.outcomes.commits == []
    assert world.source.left


@pytest.mark.parametrize("where", ["batch", "task"])
async def test_an_unexpected_error_stops_the_stream_and_is_not_quoted(where: str) -> None:
    world = World()
    error = RuntimeError("what somebody wrote")
    if where == "batch":
        world.path.error = error
    world.source.queue += [record(0, b"ask")]
    if where == "task":
        await world.until(lambda: b"ask" in world.path.gates)
        world.path.gates[b"ask"].set_exception(error)
    with pytest.raises(StreamStopped, match="RuntimeError") as stopped:
        await asyncio.wait_for(world.task, 10)
    assert "somebody" not in str(stopped.value)
    assert world.observer.errors == [error]
    assert world.outcomes.commits == []


async def test_a_refused_commit_is_tried_again() -> None:
    world = World()
    world.outcomes.refuse_commits = True
    world.source.queue += [record(0)]
    await world.until(lambda: world.outcomes.sent)
    await asyncio.sleep(0.01)
    world.outcomes.refuse_commits = False
    await world.until(lambda: world.outcomes.committed() == {0: 1})
    await world.stop()


async def test_a_full_window_is_not_overrun() -> None:
    world = World(window=window_of(records=10, per_partition=10, batch=4))
    world.source.queue += [record(n, b"ask-%d" % n, key=b"%d" % n) for n in range(30)]
    await world.until(lambda: len(world.path.gates) >= 8)
    await asyncio.sleep(0.03)
    assert len(world.path.gates) <= 10
    while len(world.outcomes.sent) < 30:
        for gate in world.path.gates.values():
            if not gate.done():
                gate.set_result(None)
        await asyncio.sleep(0.002)
    await world.until(lambda: world.outcomes.committed() == {0: 30})
    await world.stop()


async def test_while_an_event_holds_for_the_guard_nothing_is_read() -> None:
    world = World()
    world.source.queue += [record(0)]
    await world.until(lambda: world.outcomes.committed() == {0: 1})
    world.outage.begin()
    holder = asyncio.create_task(world.outage.hold())
    await world.until(lambda: world.source.paused)
    world.source.queue += [record(1)]
    await asyncio.sleep(0.02)
    assert len(world.path.seen) == 1
    world.guard_back.set()
    await holder
    await world.until(lambda: world.outcomes.committed() == {0: 2})
    assert not world.source.paused
    await world.stop()


async def test_stopping_does_not_wait_for_a_guard_that_is_down() -> None:
    world = World(drain_s=1000)
    world.source.queue += [record(0, b"ask")]
    await world.until(lambda: b"ask" in world.path.gates)
    world.outage.begin()
    holder = asyncio.create_task(world.outage.hold())
    await asyncio.sleep(0)
    await world.stop()
    assert world.outcomes.commits == []
    await world.outage.close()
    await asyncio.gather(holder, return_exceptions=True)


@pytest.mark.parametrize("window", [window_of(size=4000, batch=4), window_of(tokens=40, batch=4)])
async def test_bytes_and_tokens_in_flight_are_bounded_too(window: Window) -> None:
    world = World(window=window)
    world.source.queue += [record(n, b"ask-%02d" % n + b"." * 1000, key=b"%d" % n) for n in range(30)]
    await world.until(lambda: world.path.gates)
    await asyncio.sleep(0.03)
    assert len(world.path.gates) <= 8  # 4 of them fill it, and one batch may pass it
    done: set[bytes] = set()
    while len(world.outcomes.sent) < 30:
        for value, gate in world.path.gates.items():
            if value not in done:
                done.add(value)
                gate.set_result(None)
        await asyncio.sleep(0.002)
    await world.until(lambda: world.outcomes.committed() == {0: 30})
    assert world.loop.load == Load(0, 0, 0)
    await world.stop()


async def test_a_window_full_of_what_is_done_is_committed_without_waiting_for_the_interval() -> None:
    world = World(window=window_of(records=10, per_partition=10, batch=4), commit_s=1000)
    world.source.queue += [record(n) for n in range(60)]
    await world.until(lambda: len(world.outcomes.sent) == 60)
    assert len(world.outcomes.commits) < 30
    await world.stop()
    assert world.outcomes.committed() == {0: 60}


async def test_a_slow_partition_does_not_hold_back_the_others() -> None:
    world = World(window=window_of(records=100, per_partition=8, batch=4))
    world.source.queue += [record(n, b"ask-%d" % n, key=b"%d" % n) for n in range(20)]
    world.source.queue += [record(n, partition=1) for n in range(60)]
    await world.until(lambda: world.outcomes.committed() == {1: 60})
    assert world.source.paused_alone == {0}
    assert len(world.path.gates) <= 8
    while len(world.outcomes.sent) < 80:
        for gate in world.path.gates.values():
            if not gate.done():
                gate.set_result(None)
        await asyncio.sleep(0.002)
    await world.until(lambda: world.outcomes.committed() == {0: 20, 1: 60})
    assert world.source.paused_alone == set()
    await world.stop()


async def test_what_a_commit_frees_is_not_paused_even_after_a_slow_time() -> None:
    world = World(window=window_of(records=100, per_partition=8, batch=4), commit_s=1000)
    world.source.queue += [record(n, b"ask-%d" % n, key=b"%d" % n) for n in range(8)]
    await world.until(lambda: len(world.path.gates) == 8)
    world.source.queue += [record(0, partition=1)]
    await world.until(lambda: world.source.paused_alone == {0})
    for gate in world.path.gates.values():
        gate.set_result(None)
    paused: list[set[int]] = []
    pause = world.source.pause

    async def told(partitions: Collection[int] | None = None) -> None:
        paused.append(set(partitions or ()))
        await pause(partitions)

    world.source.pause = told  # type: ignore[method-assign]
    await world.until(lambda: world.outcomes.reported == 9)
    world.loop._commits._next_at = 0.0  # what was slow is committed, and the partition is read again
    await world.until(lambda: world.source.paused_alone == set())
    world.source.queue += [record(n) for n in range(8, 60)]
    await world.until(lambda: len(world.outcomes.sent) == 61)
    assert paused == []
    await world.stop()


async def test_while_the_guard_hangs_the_window_stays_and_the_source_is_polled() -> None:
    world = World(window=window_of(records=10, per_partition=10, batch=4), stall_s=0.01)
    world.source.queue += [record(n, b"ask-%d" % n, key=b"%d" % n) for n in range(500)]
    await world.until(lambda: world.source.paused)
    before = world.source.fetches
    world.source.queue.insert(0, lambda listener: listener.assigned({2: ""}))
    world.source.queue.insert(1, record(0, partition=2))
    world.source.queue.insert(2, lambda listener: listener.revoked([1]))
    await world.until(lambda: world.source.fetches > before + 20)
    assert len(world.path.gates) == len(world.path.seen) <= 10
    assert [oldest.partition for oldest in world.loop.oldest()] == [0, 2]
    for gate in world.path.gates.values():
        gate.set_result(None)
    await world.until(lambda: world.outcomes.committed().get(2) == 1)
    assert not world.source.paused
    await world.stop()


async def test_a_record_that_comes_in_spite_of_the_pause_is_taken() -> None:
    world = World(window=window_of(records=4, per_partition=4, batch=2), stall_s=0.01)
    world.source.queue += [record(n, b"ask-%d" % n, key=b"%d" % n) for n in range(4)]
    await world.until(lambda: world.source.paused)
    world.source.paused = False  # a partition that the pause did not reach
    world.source.queue += [record(0, b"ask-late", partition=1), record(1, b"ask-later", partition=1)]
    await world.until(lambda: b"ask-late" in world.path.gates)
    assert world.source.paused
    assert b"ask-later" not in world.path.gates
    await world.stop()


async def test_what_is_done_behind_a_slow_record_is_not_kept_in_memory() -> None:
    world = World()
    world.source.queue += [record(0, b"ask"), record(1, key=b"other")]
    await world.until(lambda: world.outcomes.sent)
    ticket, _ = world.outcomes.sent[0]
    await world.until(lambda: not hasattr(ticket, "record"))
    await world.stop()


async def test_the_oldest_offset_says_what_it_waits_for() -> None:
    world = World(commit_s=0.01)
    world.outcomes.deliver = False

    def stages() -> list[Any]:
        return [(oldest.offset, oldest.stage) for oldest in world.loop.oldest() if oldest.partition == 0]

    world.source.queue += [record(4, b"ask-1"), record(5, b"ask-2")]
    await world.until(lambda: stages() == [(4, "guard")])
    world.path.gates[b"ask-2"].set_result(None)
    world.path.gates[b"ask-1"].set_result(None)
    await world.until(lambda: stages() == [(4, "delivery")])
    world.outcomes.refuse_commits = world.outcomes.deliver = True
    await world.until(lambda: stages() == [(4, "commit")])
    world.outcomes.refuse_commits = False
    await world.until(lambda: stages() == [(6, None)])
    await world.stop()


async def test_a_message_behind_an_earlier_one_of_its_conversation_waits_for_order() -> None:
    world = World()
    world.source.queue += [record(0, b"ask-1"), record(1, b"ask-2"), record(2)]
    await world.until(lambda: len(world.path.gates) == 2)
    world.path.gates[b"ask-2"].set_result(None)
    tickets = [ticket for partition in world.loop._partitions.values() for ticket in partition.offsets._open]
    await world.until(lambda: [ticket.stage for ticket in tickets] == ["guard", "order", "order"])
    await world.stop()


class Notes(simulation.Notes):
    """Remembers what it was told besides."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, int, str]] = []

    def recall(self, partition: int, note: str) -> None:
        self.told.append(("recall", partition, note))
        super().recall(partition, note)

    def forget(self, partition: int) -> None:
        self.told.append(("forget", partition, ""))
        super().forget(partition)


async def test_a_note_is_committed_at_once_even_when_nothing_is_finished() -> None:
    notes = Notes()
    world = World(journal=notes, commit_s=1000)
    world.source.queue += [record(7, b"ask")]
    await world.until(lambda: world.path.gates)
    notes.wanted[0] = "7"
    await world.until(lambda: world.outcomes.commits)
    assert world.outcomes.commits == [{0: Position(7, "7")}]
    assert notes.stale() == set()
    world.path.gates[b"ask"].set_result(None)
    await world.until(lambda: world.outcomes.sent)
    notes.wanted[0] = ""
    await world.until(lambda: len(world.outcomes.commits) == 2)
    await world.stop()
    assert world.outcomes.commits[-1] == {0: Position(8, "")}


async def test_a_note_of_a_partition_without_records_does_not_make_the_others_commit_all_the_time() -> None:
    notes = Notes()
    world = World(journal=notes, commit_s=1000, window=window_of(batch=2))
    world.source.queue += [record(n) for n in range(40)]
    await world.until(lambda: 1 in notes.wanted)
    notes.wanted[1] = "one"
    await world.until(lambda: len(world.outcomes.sent) == 40)
    await asyncio.sleep(0.02)
    assert world.outcomes.commit_calls <= 3  # to make room
    world.source.queue += [record(9, b"ask", partition=1)]
    await world.until(lambda: not notes.stale())
    assert world.outcomes.commits[-1][1] == Position(9, "one")
    await world.stop()


async def test_notes_come_with_an_assignment_and_go_with_a_commit_of_what_is_finished() -> None:
    notes = Notes()
    world = World(journal=notes)
    world.source.queue += [
        lambda listener: listener.lost([0]),
        lambda listener: listener.assigned({0: "kept before"}),
        record(3),
    ]
    await world.until(lambda: world.outcomes.commits)
    assert world.outcomes.commits == [{0: Position(4, "kept before")}]
    assert notes.told[2:] == [("forget", 0, ""), ("recall", 0, "kept before")]
    await world.stop()
    assert sorted(notes.told[-2:]) == [("forget", 0, ""), ("forget", 1, "")]


async def test_a_note_that_the_broker_refuses_is_tried_again_after_the_interval() -> None:
    notes = Notes()
    world = World(journal=notes, commit_s=1000)
    world.outcomes.refuse_commits = True
    world.source.queue += [record(0, b"ask")]
    await world.until(lambda: world.path.gates)
    notes.wanted[0] = "kept"
    await world.until(lambda: world.outcomes.commit_calls)
    await asyncio.sleep(0.05)
    assert world.outcomes.commit_calls == 1
    world.outcomes.refuse_commits = False
    world.loop._commits._next_at = 0.0  # the interval is over
    await world.until(lambda: not notes.stale())
    await world.stop()


@pytest.mark.parametrize("broken", ["publish", "commit"])
@pytest.mark.parametrize("value", [b"known", b"ask"])
async def test_a_topic_that_is_gone_and_a_commit_that_fails_stop_the_stream_and_say_why(
    broken: str, value: bytes
) -> None:
    world = World()
    world.source.queue += [record(0, value)]
    world.outcomes.broken = broken
    if value == b"ask":
        await world.until(lambda: world.path.gates)
        world.path.gates[b"ask"].set_result(None)
    with pytest.raises(StreamStopped, match=r"does not exist|cannot be committed"):
        await asyncio.wait_for(world.task, 10)
    assert world.outcomes.commits == []
    assert world.source.left


async def test_a_failed_commit_of_a_revoked_partition_stops_the_stream() -> None:
    world = World(commit_s=1000)
    world.source.queue += [record(0)]
    await world.until(lambda: world.outcomes.sent)
    world.outcomes.broken = "commit"
    world.source.queue.append(lambda listener: listener.revoked([0]))
    with pytest.raises(StreamStopped, match="cannot be committed"):
        await asyncio.wait_for(world.task, 10)
    assert world.outcomes.commits == []


async def test_a_judgement_that_somebody_cancelled_stops_the_stream_instead_of_being_forgotten() -> None:
    world = World()
    world.source.queue += [record(0, b"ask")]
    await world.until(lambda: world.path.gates)
    world.path.gates[b"ask"].cancel()
    with pytest.raises(StreamStopped, match="ended without an outcome"):
        await asyncio.wait_for(world.task, 10)
    assert world.outcomes.commits == []


async def test_a_partition_assigned_twice_is_read_anew() -> None:
    world = World()
    world.source.queue += [record(0, b"ask")]
    await world.until(lambda: world.path.gates)
    before = world.path.gates[b"ask"]
    world.source.queue += [lambda listener: listener.assigned({0: ""}), record(0)]
    await world.until(lambda: world.outcomes.committed() == {0: 1})
    assert before.cancelled()
    await world.stop()
