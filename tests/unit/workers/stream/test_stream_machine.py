"""The whole stream under any interleaving: nothing skipped, nothing committed early, order kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.workers.stream.simulation import WINDOW, Broker, FakeTimeLoop, Kind, Life
from workers.errors import StreamStopped
from workers.ports import Position

PARTITIONS = st.sampled_from([0, 1])
KINDS: st.SearchStrategy[Kind] = st.sampled_from(["known", "known", "ask", "ask", "ask", "huge", "letter"])
LINES = st.sampled_from([b"a", b"b"])
BACKLOG = st.lists(KINDS, min_size=4, max_size=12)
# Rebalances, stalls, commits and drains are over within this time, in seconds of the clock of the test.
LONG_S = 60.0


class StreamMachine(RuleBasedStateMachine):
    """One worker at a time on a topic with two partitions; others work on what it does not own."""

    def __init__(self) -> None:
        super().__init__()
        self.events = FakeTimeLoop()
        self.broker = Broker()
        self.life: Life
        self._begin()

    # what the test may do with time and lives

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self.events.run_until_complete(work)

    def _begin(self) -> None:
        async def begin() -> None:
            self.life = Life(self.broker)
            for number, owner in self.broker.owners.items():
                if owner is None:
                    self.life.source.give(number)
            await asyncio.sleep(0.02)

        self._run(begin())

    def _pass(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))
        if self.life.task.done():
            self.life.task.result()
            raise AssertionError("the stream ended by itself")

    def _stops(self, why: str) -> None:
        """The stream must stop by itself, saying why; another life follows."""

        async def stop() -> None:
            with pytest.raises(StreamStopped, match=why):
                await asyncio.wait_for(asyncio.shield(self.life.task), LONG_S)
            await self.life.outage.close()

        self._run(stop())
        assert self.life.source.left
        self._begin()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(int(LONG_S)):
            if condition():
                return
            self._pass(1.0)
        raise AssertionError(f"{LONG_S:g} s went by without: {what}")

    # events and the world

    @initialize(kinds=st.tuples(BACKLOG, BACKLOG))
    def a_backlog_waits(self, kinds: tuple[list[Kind], list[Kind]]) -> None:
        for number in (0, 1):
            self.many_events_come(number, kinds[number])
        self._pass(0.3)

    @rule(number=PARTITIONS, kind=KINDS, line=LINES, gap=st.integers(1, 2))
    def event_comes(self, number: int, kind: Kind, line: bytes, gap: int) -> None:
        self.broker.append(number, kind, line, gap)

    @rule(number=PARTITIONS, kinds=BACKLOG)
    def many_events_come(self, number: int, kinds: list[Kind]) -> None:
        for turn, kind in enumerate(kinds):
            self.broker.append(number, kind, b"aba"[turn % 3 : turn % 3 + 1], 1)

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    @rule(what=st.sampled_from(["cache", "commits", "guard"]), well=st.booleans())
    def something_is_well_or_not(self, what: str, well: bool) -> None:
        if what == "cache":
            self.life.path.slow = not well
        elif what == "commits":
            self.broker.takes_commits = well
        elif well:
            self.life.guard_back.set()
        else:
            self._run(self._guard_dies())
        self._pass(0.3)

    async def _guard_dies(self) -> None:
        self.life.guard_back.clear()
        self.life.outage.begin()

    # outcomes

    @precondition(lambda self: self.life.path.gates)
    @rule(data=st.data(), meanwhile=st.sampled_from([0.0, 0.01]))
    def the_guard_answers(self, data: st.DataObject, meanwhile: float) -> None:
        self.life.path.gates[data.draw(st.sampled_from(sorted(self.life.path.gates)))].set_result(None)
        self._pass(meanwhile)

    @precondition(lambda self: self.life.path.gates)
    @rule()
    def the_guard_answers_all(self) -> None:
        for gate in list(self.life.path.gates.values()):
            gate.set_result(None)
        self._pass(0.01)

    @precondition(lambda self: any(self.life.outcomes.sending.values()))
    @rule(data=st.data(), report=st.booleans(), times=st.integers(1, 5))
    def the_broker_gets_outcomes(self, data: st.DataObject, report: bool, times: int) -> None:
        sending = self.life.outcomes.sending
        number = data.draw(st.sampled_from([number for number, queue in sending.items() if queue]))
        for _ in range(min(times, len(sending[number]))):
            self.life.outcomes.deliver(number, report=report)
        self._pass(0.01)

    @precondition(lambda self: self.life.outcomes.unreported)
    @rule()
    def late_reports_come(self) -> None:
        self.life.outcomes.report()
        self._pass(0.6)

    @precondition(lambda self: self.life.notes.wanted)
    @rule(data=st.data(), note=st.sampled_from(["", "one", "two"]))
    def a_note_is_to_be_kept(self, data: st.DataObject, note: str) -> None:
        self.life.notes.wanted[data.draw(st.sampled_from(sorted(self.life.notes.wanted)))] = note

    # rebalances

    @precondition(lambda self: self.life in self.broker.owners.values())
    @rule(data=st.data(), lost=st.booleans(), then=st.sampled_from([0.0, 0.01, 1.5]))
    def a_partition_goes(self, data: st.DataObject, lost: bool, then: float) -> None:
        owners, source = self.broker.owners, self.life.source
        number = data.draw(st.sampled_from([number for number in owners if owners[number] is self.life]))
        if lost:
            source.lose(number)
        else:
            source.revoke(number)
        self._pass(then)

    @precondition(lambda self: None in self.broker.owners.values())
    @rule(data=st.data(), count=st.integers(0, 4), then=st.sampled_from([0.0, 0.01, 1.5]))
    def a_partition_comes_back(self, data: st.DataObject, count: int, then: float) -> None:
        """Another worker has decided some events of it in the meantime, and committed them."""
        owners = self.broker.owners
        number = data.draw(st.sampled_from([number for number in owners if owners[number] is None]))
        start = self.broker.start_of(number)
        for event in [event for event in self.broker.log[number] if event.offset >= start][:count]:
            topic = "letters" if event.kind in ("huge", "letter") else "decisions"
            self.broker.written.append((topic, number, event.offset))
            note = self.broker.committed.get(number, Position(0)).note
            self.broker.committed[number] = Position(event.offset + 1, note)
        self.life.source.give(number)
        self._pass(then)

    @precondition(lambda self: self.life.source.positions)
    @rule(data=st.data(), back=st.integers(1, 6))
    def the_source_goes_back(self, data: st.DataObject, back: int) -> None:
        source = self.life.source
        source.go_back(data.draw(st.sampled_from(sorted(source.positions))), back)
        self._pass(0.1)

    # ends

    @rule(
        data=st.data(), how=st.sampled_from(["killed", "killed", "stopped", "failed", "broken", "cancelled"])
    )
    def the_life_ends(self, data: st.DataObject, how: str) -> None:
        gates = sorted(self.life.path.gates)
        if how == "killed":
            self._kill(data)
        elif how == "stopped":
            self._stop()
        elif how == "failed":
            self.life.outcomes.failure = "an outcome was not delivered"
            self._stops("an outcome was not delivered")
        elif gates:
            gate = self.life.path.gates[data.draw(st.sampled_from(gates))]
            if how == "cancelled":
                gate.cancel()
                self._stops("without an outcome")
            else:
                gate.set_exception(RuntimeError("what somebody wrote"))
                self._stops(r"unexpected error .*\(RuntimeError\)")

    def _kill(self, data: st.DataObject) -> None:
        sending = self.life.outcomes.sending
        # Some of what was on its way arrives. Drawn first, since a draw may end the example.
        arriving = {number: data.draw(st.integers(0, len(queue))) for number, queue in sending.items()}
        self._run(self.life.kill())
        for number, count in arriving.items():
            for _ in range(count):
                self.life.outcomes.deliver(number, report=False)
            if self.broker.owners[number] is self.life:
                self.broker.owners[number] = None
        self._begin()

    def _stop(self) -> None:
        self.life.stopping.set()
        self._run(asyncio.wait_for(asyncio.shield(self.life.task), LONG_S))
        self._run(self.life.outage.close())
        assert self.life.source.left
        self._begin()

    # what must hold at every moment; the broker itself checks every commit

    @invariant()
    def the_order_of_each_conversation_is_kept(self) -> None:
        assert self.broker.inversions() == []

    @invariant()
    def the_window_is_not_passed(self) -> None:
        assert self.life.loop.load.records <= WINDOW.total.records
        parts = [partition.load.records for partition in self.life.loop._partitions.values()]
        assert max(parts, default=0) <= WINDOW.partition.records

    @invariant()
    def tokens_are_given_back(self) -> None:
        assert self.life.loop.load.tokens <= 10 * len(self.life.path.gates) + 10 * len(
            [task for part in self.life.loop._partitions.values() for task in part.tasks]
        )

    @invariant()
    def the_oldest_offset_is_the_first_uncommitted(self) -> None:
        for oldest in self.life.loop.oldest():
            partition = self.life.loop._partitions[oldest.partition]
            first = partition.offsets.oldest
            if oldest.stage is None:
                assert partition.offsets.records == 0
            elif oldest.stage != "commit":
                assert first is not None
                assert (first.offset, first.stage) == (oldest.offset, oldest.stage)

    def _unwritten(self) -> list[int]:
        """Partitions whose note is not in their last commit, though something was read of them."""
        return [
            number
            for number, partition in self.life.loop._partitions.items()
            if partition.offsets.base is not None
            and self.broker.committed.get(number, Position(0)).note != self.life.notes.wanted[number]
        ]

    def teardown(self) -> None:
        """When all is well again, every event has an outcome and is committed, by this life alone."""
        life = self.life
        life.outcomes.at_once, life.path.slow = True, False
        life.guard_back.set()

        def finished() -> bool:
            for number, owner in self.broker.owners.items():
                if owner is None:
                    life.source.give(number)
            for gate in list(life.path.gates.values()):
                if not gate.done():
                    gate.set_result(None)
            return all(
                not log or self.broker.start_of(number) > log[-1].offset
                for number, log in self.broker.log.items()
            )

        try:
            finished()
            self._pass(2.0)  # so that a broker that takes no commits yet has refused what is finished
            self.broker.takes_commits = True
            self._until(finished, "everything is committed")
            assert [self.broker.undecided(number) for number in self.broker.log] == [[], []]
            self._until(lambda: not self._unwritten(), "all notes are written")
            for number in life.notes.wanted:  # nothing more comes that would be committed with it
                life.notes.wanted[number] = "last"
            self._until(lambda: not self._unwritten(), "the last notes are written")
            self._stop()
            assert self.broker.inversions() == []
        finally:
            self._run(self.life.kill())
            self.events.close()


TestStream = StreamMachine.TestCase
TestStream.settings = settings(
    max_examples=60, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)
