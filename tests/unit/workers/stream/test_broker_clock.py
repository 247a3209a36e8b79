from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.stream import broker_clock
from workers.stream.broker_clock import DRIFT_MS_PER_S, REPORT_EVERY_S, BrokerClock

HOUR_MS = 3_600_000.0
START_MS = 1_800_000_000_000.0


class World:
    """Real time passes; the broker shows it, our clock is off by `skew_ms`."""

    def __init__(self, skew_ms: float = 0.0) -> None:
        self.s = 1000.0
        self.skew_ms = skew_ms
        self.clock = BrokerClock(lambda: self.broker_ms + self.skew_ms, lambda: self.s)

    @property
    def broker_ms(self) -> float:
        return START_MS + 1000 * self.s

    @property
    def error_ms(self) -> float:
        return self.clock.now_ms() - self.broker_ms

    def publish(self, there_s: float = 0.002, back_s: float = 0.003) -> None:
        sent = self.s
        self.s += there_s
        stamp = self.broker_ms
        self.s += back_s
        self.clock.reported(stamp, sent)


@pytest.mark.parametrize("skew_ms", [-HOUR_MS, -5.0, 0.0, 5.0, HOUR_MS])
def test_one_acknowledged_outcome_sets_a_clock_right(skew_ms: float) -> None:
    world = World(skew_ms)
    world.publish()
    assert abs(world.error_ms) <= min(abs(skew_ms), 5.0) + 0.01
    world.s += 60
    assert abs(world.error_ms) <= 5.0 + 60 * DRIFT_MS_PER_S


def test_a_clock_that_is_behind_is_found_out_by_the_first_record() -> None:
    world = World(-HOUR_MS)
    world.clock.read(world.broker_ms - 20)
    assert world.error_ms == pytest.approx(-20, abs=0.01)


def test_a_backlog_is_as_old_as_it_is() -> None:
    world = World()
    world.clock.read(world.broker_ms - HOUR_MS)
    assert world.error_ms == 0
    world.publish()
    assert abs(world.error_ms) < 0.01


def test_a_clock_that_is_set_while_running_changes_nothing() -> None:
    world = World()
    world.publish()
    for skew in (HOUR_MS, -HOUR_MS):
        world.skew_ms = skew
        assert abs(world.error_ms) <= 5.01


def test_a_brokers_clock_that_is_set_is_followed() -> None:
    world = World()
    world.publish()
    for jump in (HOUR_MS, -2 * HOUR_MS):
        world.skew_ms -= jump  # ours stays what it was
        sent = world.s
        world.clock.reported(world.broker_ms + jump, sent)
        assert world.clock.now_ms() == pytest.approx(world.broker_ms + jump, abs=5.0)
        world.skew_ms += jump


def test_a_record_from_the_future_is_no_proof() -> None:
    world = World()
    world.publish()
    world.clock.read(world.broker_ms + HOUR_MS)
    assert abs(world.error_ms) <= 5.01


def test_a_broker_that_stamps_nothing_leaves_the_machines_clock_in_force() -> None:
    world = World(HOUR_MS)
    before = world.clock.sure
    world.clock.reported(None, world.s)
    assert (before, world.clock.sure, world.error_ms) == (False, True, HOUR_MS)


def test_reports_are_wanted_now_and_then() -> None:
    world = World()
    assert [world.clock.wants_report() for _ in range(3)] == [True, False, False]
    world.s += REPORT_EVERY_S
    assert world.clock.wants_report()


async def test_the_first_goes_ahead_and_the_others_wait_for_the_proof() -> None:
    world = World()
    await asyncio.wait_for(world.clock.become_sure(), 1)
    others = [asyncio.create_task(world.clock.become_sure()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in others)
    world.publish()
    await asyncio.wait_for(asyncio.gather(*others), 1)
    await asyncio.wait_for(world.clock.become_sure(), 1)


async def test_without_any_proof_the_machines_clock_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_clock, "PATIENCE_S", 0.01)
    world = World()
    await world.clock.become_sure()
    await asyncio.wait_for(world.clock.become_sure(), 5)
    assert world.clock.sure


SECONDS = st.floats(0.0, 5.0)
STEPS = st.one_of(
    st.tuples(st.just("read"), st.floats(0.0, 10_000_000.0)),
    st.tuples(st.just("publish"), st.floats(0.0, 0.5)),
    st.tuples(st.just("wait"), SECONDS),
    st.tuples(st.just("set"), st.floats(-HOUR_MS, HOUR_MS)),
)


@given(st.floats(-HOUR_MS, HOUR_MS), st.lists(STEPS, max_size=30))
def test_the_error_is_a_round_trip_and_a_little_drift(skew_ms: float, steps: list[tuple[str, float]]) -> None:
    world = World(skew_ms)
    bound_ms = None
    for what, size in steps:
        match what:
            case "read":
                world.clock.read(world.broker_ms - size)
                # No record is younger than now.
                assert world.error_ms >= -size - 0.01 or bound_ms is not None
            case "publish":
                world.publish(size, size / 2)
                took_ms = 1500 * size
                known_ms = took_ms if bound_ms is None else bound_ms + DRIFT_MS_PER_S * 1.5 * size
                bound_ms = min(took_ms, known_ms)
            case "wait":
                world.s += size
                if bound_ms is not None:
                    bound_ms += DRIFT_MS_PER_S * size
            case _:
                world.skew_ms = size
        if bound_ms is not None:
            assert abs(world.error_ms) <= bound_ms + 1.0
        elif world.skew_ms == 0:
            assert world.error_ms == 0


@given(st.lists(STEPS, max_size=30))
def test_a_clock_that_is_right_is_believed_whatever_is_seen(steps: list[tuple[str, float]]) -> None:
    world = World()
    for what, size in steps:
        if what == "read":
            world.clock.read(world.broker_ms - size)
        elif what == "publish":
            world.publish(size, size / 2)
        else:
            world.s += abs(size) / 1000
        assert abs(world.error_ms) < 0.01
