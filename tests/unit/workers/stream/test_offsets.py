from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workers.stream.offsets import Opened, PartitionOffsets


class OffsetsMachine(RuleBasedStateMachine):
    """Against the obvious model: a sorted list of what was read, and a set of what is done."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets: PartitionOffsets[Opened] = PartitionOffsets()
        self.read: list[Opened] = []
        self.done: set[Opened] = set()
        self.asked: int | None = None
        self.committed: int | None = None

    @rule(gap=st.integers(1, 3), size=st.integers(0, 50))
    def read_next(self, gap: int, size: int) -> None:
        offset = (self.read[-1].offset if self.read else -1) + gap
        self.read.append(Opened(offset, size, float(len(self.read))))
        assert self.offsets.read(self.read[-1])

    @precondition(lambda self: self.read)
    @rule(data=st.data())
    def read_again(self, data: st.DataObject) -> None:
        before = self.offsets.in_flight, self.offsets.records
        again = Opened(data.draw(st.integers(0, self.read[-1].offset)), 1, 0.0)
        assert not self.offsets.read(again)
        assert (self.offsets.in_flight, self.offsets.records) == before

    @precondition(lambda self: len(self.done) < len(self.read))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from([o for o in self.read if o not in self.done]))
        self.offsets.done(item)
        self.done.add(item)

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def finish_twice(self, data: st.DataObject) -> None:
        with pytest.raises(ValueError, match="not in flight"):
            self.offsets.done(data.draw(st.sampled_from([o for o in self.read if o in self.done])))

    @rule(anyway=st.booleans())
    def ask(self, anyway: bool) -> None:
        prefix = self._prefix()
        again = self.committed if self.committed is not None else self.read[0].offset if self.read else None
        expected = prefix if prefix != self.committed else again if anyway else None
        assert self.offsets.ask(anyway=anyway) == expected
        self.asked = prefix

    @precondition(lambda self: self.asked is not None)
    @rule()
    def the_broker_takes_it(self) -> None:
        self.offsets.taken()
        self.committed = self.asked

    def _prefix(self) -> int | None:
        prefix = None
        for item in self.read:
            if item not in self.done:
                break
            prefix = item.offset + 1
        return prefix

    @invariant()
    def only_the_finished_prefix_may_be_committed(self) -> None:
        assert self.offsets.position == self._prefix()
        assert self.offsets.in_flight == len(self.read) - len(self.done)

    @invariant()
    def what_a_crash_would_repeat_is_counted(self) -> None:
        above = [item for item in self.read if item.offset >= (self.committed or 0)]
        finished = [item for item in above if item.offset < (self._prefix() or 0)]
        assert self.offsets.records == len(above)
        assert self.offsets.size == sum(item.size for item in above)
        assert self.offsets.finished == len(finished)
        assert self.offsets.finished_size == sum(item.size for item in finished)
        assert self.offsets.uncommitted_since == (finished[0].read_s if finished else None)

    @invariant()
    def what_was_read_is_found_until_it_is_finished(self) -> None:
        for item in self.read:
            open_still = item.offset >= (self._prefix() or 0)
            assert self.offsets.find(item.offset) is (item if open_still else None)
            before = [other for other in self.read if other.offset < item.offset]
            assert self.offsets.unfinished_before(item.offset) == any(o not in self.done for o in before)
        last = self.read[-1].offset if self.read else 0
        assert self.offsets.find(last + 1) is None

    @invariant()
    def the_oldest_is_the_first_that_is_not_done(self) -> None:
        assert self.offsets.oldest is next((item for item in self.read if item not in self.done), None)


TestOffsets = OffsetsMachine.TestCase


def test_a_record_that_was_never_read_is_refused() -> None:
    offsets: PartitionOffsets[Opened] = PartitionOffsets()
    offsets.read(Opened(5, 1, 0.0))
    for offset in (4, 5, 9):
        with pytest.raises(ValueError, match="not in flight"):
            offsets.done(Opened(offset, 1, 0.0))
