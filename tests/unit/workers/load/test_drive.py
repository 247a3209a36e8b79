"""Sending: each event at its time, and late rather than never."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from threading import Event as Flag

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.load.worlds import Clock, FakeSender
from workers.load.drive import TICK_S, Driver, Pace, Sent


def _events() -> Iterator[tuple[bytes, bytes]]:
    return ((b"key", b"%d" % number) for number in count())


def _drive(pace: Pace, clock: Clock, sender: FakeSender, *, stop: Flag | None = None, pool: int = 0) -> Sent:
    sent = Sent(pool=pool)
    sent.at_s.extend([clock.at_s] * pool)
    Driver(sender, sent, stop or Flag(), clock=clock.now, sleep=clock.sleep).events(_events(), pace)
    return sent


@given(st.floats(0.5, 50_000), st.integers(1, 300))
def test_events_go_at_the_rate_never_early_and_at_most_a_tick_late(rate: float, number: int) -> None:
    clock = Clock()
    sender = FakeSender(clock)
    sent = _drive(Pace(rate, 0, number, None), clock, sender)
    assert len(sender.sent) == number
    for index, (at_s, _, _) in enumerate(sender.sent):
        late = at_s - sent.intended_s(rate, index)
        assert -1e-6 <= late <= TICK_S + 1e-6


@given(st.floats(1, 5_000), st.floats(0, 3), st.floats(0.01, 3))
def test_a_duration_is_so_many_events_and_the_warm_up_comes_first(
    rate: float, warm_up_s: float, duration_s: float
) -> None:
    pace = Pace(rate, warm_up_s, None, duration_s)
    clock = Clock()
    sent = _drive(pace, clock, FakeSender(clock), pool=7)
    assert sent.measured_from == 7 + round(rate * warm_up_s)
    assert len(sent.at_s) - sent.measured_from == max(1, round(rate * duration_s))
    assert len(sent.at_s) - 7 == pace.events


def test_times_are_kept_when_the_sender_falls_behind() -> None:
    clock = Clock()
    # No room for two seconds, from the fifth event on.
    sender = FakeSender(clock, full=lambda: len(sender.sent) == 5 and clock.at_s < 102.5)
    sent = _drive(Pace(10, 0, 40, None), clock, sender)
    assert len(sender.sent) == 40
    assert sent.queue_full > 0
    late = [at_s - sent.intended_s(10, index) for index, (at_s, _, _) in enumerate(sender.sent)]
    assert max(late[:5]) < 0.01
    assert late[5] == pytest.approx(2.0, abs=0.1)
    # What was missed goes at once, and then the old times are in force again.
    assert late[6] == pytest.approx(late[5] - 0.1, abs=0.01)
    assert max(late[-10:]) < 0.01


def test_max_goes_as_fast_as_there_is_room_and_all_of_it_is_measured() -> None:
    clock = Clock(look_s=0.001)
    sender = FakeSender(clock, full=lambda: len(sender.sent) == 50 and clock.at_s < 101)
    sent = _drive(Pace(None, 0, 200, None), clock, sender, pool=3)
    assert sent.measured_from == 3
    assert len(sender.sent) == 200
    assert sender.sent[49][0] < 100.3 < 101 <= sender.sent[50][0]
    assert sent.queue_full > 0


def test_max_for_a_time_ends_with_it() -> None:
    clock = Clock(look_s=0.001)
    sent = _drive(Pace(None, 0, None, 1.0), clock, FakeSender(clock))
    assert sent.at_s[-1] - sent.at_s[0] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("rate", [None, 1000.0, 0.01])
def test_a_run_that_is_stopped_sends_no_more(rate: float | None) -> None:
    clock, stop = Clock(look_s=0.001), Flag()
    stop.set()
    sender = FakeSender(clock)
    sent = _drive(Pace(rate, 0, 1_000_000, None), clock, sender, stop=stop)
    assert len(sender.sent) <= 1
    assert sent.ended_s is not None


def test_a_stop_is_heard_while_there_is_no_room() -> None:
    clock, stop = Clock(), Flag()

    def full() -> bool:
        if clock.at_s > 101:
            stop.set()
        return True

    assert len(_drive(Pace(None, 0, 5, None), clock, FakeSender(clock, full), stop=stop).at_s) == 0


def test_of_the_pool_only_so_many_are_under_way() -> None:
    clock, sent = Clock(), Sent()
    sender = FakeSender(clock)
    under_way: list[int] = []

    def outcomes() -> int:
        came = len(sender.sent) - (4 if clock.at_s % 1 < 0.5 else 0)  # in gusts
        under_way.append(sent.pool - came)
        return came

    Driver(sender, sent, Flag(), clock=clock.now, sleep=clock.sleep).pool(
        ((b"k", b"v") for _ in range(50)), outcomes, 4
    )
    assert (sent.pool, len(sent.at_s), sent.bytes) == (50, 50, 50)
    assert max(under_way) == 4


def test_a_pool_without_outcomes_waits_until_it_is_stopped() -> None:
    clock, sent, stop = Clock(), Sent(), Flag()
    sender = FakeSender(clock)

    def outcomes() -> int:
        if clock.at_s > 105:
            stop.set()
        return 0

    Driver(sender, sent, stop, clock=clock.now, sleep=clock.sleep).pool(
        ((b"k", b"v") for _ in range(50)), outcomes, 4
    )
    assert sent.pool == 4
