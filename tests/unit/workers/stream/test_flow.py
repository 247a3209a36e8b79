from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from workers.stream.flow import GRACE_S, SLOW_S, WAIT, Flow
from workers.stream.window import Caps, Load, Window

WINDOW = Window(total=Caps(1000, 10**6, 10**6), partition=Caps(100, 10**5, 10**5), batch=50)
FULL, HALF, FREE = Load(100), Load(50), Load(0)


def test_without_partitions_a_whole_batch_is_asked_for() -> None:
    assert Flow(WINDOW).plan({}, 0.0).limit == 50


def test_a_full_partition_is_waited_for_a_moment_and_then_paused_alone() -> None:
    flow = Flow(WINDOW)
    assert flow.plan({0: FULL, 1: FREE}, 10.0) == WAIT
    assert flow.plan({0: FULL, 1: FREE}, 10.0 + GRACE_S / 2) == WAIT
    plan = flow.plan({0: FULL, 1: FREE}, 10.0 + GRACE_S)
    assert (plan.limit, plan.pause, plan.resume) == (50, {0}, set())
    assert flow.plan({0: FULL, 1: FREE}, 10.0 + GRACE_S).pause == set()


def test_one_that_is_free_again_in_time_is_not_paused() -> None:
    flow = Flow(WINDOW)
    flow.plan({0: FULL, 1: FREE}, 0.0)
    assert flow.plan({0: FREE, 1: FREE}, 0.1).limit == 50
    assert flow.plan({0: FULL, 1: FREE}, GRACE_S) == WAIT


def test_a_paused_partition_is_read_again_when_half_of_its_window_is_free() -> None:
    flow = Flow(WINDOW)
    flow.plan({0: FULL, 1: FREE}, 0.0)
    flow.plan({0: FULL, 1: FREE}, GRACE_S)
    assert flow.plan({0: Load(51), 1: FREE}, 1.0).resume == set()
    assert flow.plan({0: HALF, 1: FREE}, 1.0).resume == {0}
    assert flow.paused == set()


def test_a_slow_partition_is_paused_at_once_the_next_time() -> None:
    flow = Flow(WINDOW)
    flow.plan({0: FULL, 1: FREE}, 0.0)
    flow.plan({0: FULL, 1: FREE}, GRACE_S)
    flow.plan({0: HALF, 1: FREE}, 1.0)
    assert flow.plan({0: FULL, 1: FREE}, 2.0).pause == {0}
    flow.plan({0: HALF, 1: FREE}, 3.0)
    assert flow.plan({0: FULL, 1: FREE}, 3.0 + SLOW_S) == WAIT


def test_nothing_is_paused_when_nobody_gains_by_it() -> None:
    flow = Flow(WINDOW)
    for now in (0.0, GRACE_S, 10.0):
        assert flow.plan({0: FULL, 1: FULL}, now) == WAIT
        assert flow.plan({0: FULL}, now) == WAIT
    assert flow.paused == set()
    full_worker = dict.fromkeys(range(11), Load(91))
    assert Flow(WINDOW).plan(full_worker | {11: FREE}, 0.0) == WAIT


def test_a_paused_partition_does_not_count_as_full() -> None:
    flow = Flow(WINDOW)
    assert flow.full({0: FULL, 1: FREE})
    flow.plan({0: FULL, 1: FREE}, 0.0)
    flow.plan({0: FULL, 1: FREE}, GRACE_S)
    assert not flow.full({0: FULL, 1: FREE})
    assert flow.full({0: FULL, 1: Load(99)})
    assert flow.full({0: FULL, 1: Load(50), 2: Load(850)})


def test_a_batch_is_smaller_when_records_are_heavy() -> None:
    flow = Flow(WINDOW)
    flow.weigh(Load(10, size=100_000))
    assert flow.plan({0: FREE}, 0.0).limit == 10
    for _ in range(50):  # and larger again when they are not
        flow.weigh(Load(10, size=100))
    assert flow.plan({0: FREE}, 0.0).limit == 50


class FlowMachine(RuleBasedStateMachine):
    """Whatever the loads do: no partition is starved for good, none is read beyond its cap."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = Flow(WINDOW)
        self.now = 0.0
        self.loads: dict[int, Load] = {}
        self.paused: set[int] = set()

    @rule(number=st.integers(0, 3), records=st.integers(0, 100))
    def load(self, number: int, records: int) -> None:
        self.loads[number] = Load(records)

    @rule(number=st.integers(0, 3))
    def leave(self, number: int) -> None:
        self.loads.pop(number, None)
        self.paused.discard(number)
        self.flow.forget(number)

    @rule(seconds=st.floats(0, 2 * SLOW_S))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def plan(self) -> None:
        plan = self.flow.plan(self.loads, self.now)
        self.paused = (self.paused - plan.resume) | plan.pause
        read = self.loads.keys() - self.paused
        if plan.limit:
            assert all(self.loads[number].records + plan.limit <= 100 for number in read)
            assert read or not self.loads
        else:
            assert not plan.pause
            assert not plan.resume

    @rule()
    def everything_is_done(self) -> None:
        self.loads = dict.fromkeys(self.loads, FREE)
        self.plan()
        assert not self.paused

    @invariant()
    def what_is_paused_is_known(self) -> None:
        assert self.paused == set(self.flow.paused)


TestFlow = FlowMachine.TestCase
