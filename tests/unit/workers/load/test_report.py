"""The figures add up, and say nothing that was not measured."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.workers.load.worlds import plan
from workers.load.drive import Pace, Sent
from workers.load.figures import LoadReport, Phase
from workers.load.follow import DEAD_LETTER, HIT, MISS, UNJUDGED, Outcomes
from workers.load.report import spread_of, summarise

RATE = 100.0


def _sent(pool: int, warm_up: int, measured: int) -> Sent:
    sent = Sent(
        pool=pool, begun_s=50.0, measured_from=pool + warm_up, bytes=300 * (pool + warm_up + measured)
    )
    sent.at_s.extend([49.0] * pool)
    sent.at_s.extend(50.0 + index / RATE for index in range(warm_up + measured))
    sent.ended_s = sent.at_s[-1] if sent.at_s else 50.0
    return sent


def _summarise(
    sent: Sent, outcomes: Outcomes, rate: float | None = RATE, *, stamped: bool | None = True
) -> LoadReport:
    return summarise(
        plan(pool=max(2, sent.pool)),
        Pace(rate, 0.0 if rate is None else 1.0, 100, None),
        sent,
        outcomes,
        drain_timeout_s=5.0,
        events_stamped=stamped,
        interrupted=False,
    )


def _add(outcomes: Outcomes, number: int, kind: int, seen_s: float, reason: str | None = None) -> None:
    outcomes.add(number, kind, reason=reason, received_ms=1e6, stamp_ms=1e6 + 4 + number, seen_s=seen_s)


def _total(phase: Phase) -> int:
    judged = phase.hits + phase.misses + phase.not_applicable
    return judged + sum(phase.unjudged.values()) + sum(phase.dead_letters.values()) + phase.missing


@given(
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 30),
    st.lists(st.tuples(st.integers(0, 45), st.integers(0, 4))),
)
@settings(max_examples=60)
def test_every_event_that_was_sent_is_counted_once(
    pool: int, warm_up: int, measured: int, found: list[tuple[int, int]]
) -> None:
    sent, outcomes = _sent(pool, warm_up, measured), Outcomes()
    for number, kind in found:
        _add(outcomes, number, kind, 55.0, "word" if kind in (UNJUDGED, DEAD_LETTER) else None)
    report = _summarise(sent, outcomes)
    for phase, count in ((report.pool, pool), (report.warm_up, warm_up), (report.measured, measured)):
        assert (phase.sent, _total(phase)) == (count, count)
        assert phase.missing >= 0
    assert msgspec.json.decode(msgspec.json.encode(report), type=LoadReport) == report


def test_only_what_is_measured_is_in_the_figures() -> None:
    sent, outcomes = _sent(3, 100, 200), Outcomes()
    for number in range(3):
        _add(outcomes, number, MISS, 49.9)
    for index in range(300):
        slow = 0.25 if index < 100 else 0.010 if index % 10 else 0.200  # the warm-up; hits; misses
        _add(outcomes, 3 + index, HIT if index % 10 else MISS, 50.0 + index / RATE + slow)
    report = _summarise(sent, outcomes)
    assert report.hit_share == pytest.approx(0.9)
    assert (report.latency_ms.hits.count, report.latency_ms.misses.count) == (180, 20)
    assert report.latency_ms.hits.p99 == pytest.approx(10)
    assert report.latency_ms.misses.p50 == pytest.approx(200)
    assert report.latency_ms.all.p50 == pytest.approx(10)
    assert report.latency_ms.all.max == pytest.approx(200)
    assert report.throughput.consumed_per_s == pytest.approx(RATE, rel=0.1)
    assert report.sending.per_s == pytest.approx(RATE)
    assert report.sending.late_ms is not None
    assert report.sending.late_ms.max == pytest.approx(0, abs=1e-6)
    assert report.sending.mean_event_bytes == 300
    assert report.main_figure == "latency"


def test_brokers_times_count_only_where_both_are_the_brokers() -> None:
    sent, outcomes = _sent(0, 0, 3), Outcomes()
    for number in range(3):
        _add(outcomes, number, HIT, 51.0)
    found = _summarise(sent, outcomes).broker_ms
    assert found is not None
    assert (found.all.count, found.all.max) == (3, 6)
    assert _summarise(sent, outcomes, stamped=False).broker_ms is None
    outcomes.stamps_ms[:] = outcomes.stamps_ms[:0]
    outcomes.stamps_ms.extend([math.nan] * 3)
    report = _summarise(sent, outcomes)
    assert (report.broker_ms, report.throughput.broker_per_s) == (None, None)


def test_at_max_the_main_figure_is_throughput() -> None:
    sent, outcomes = _sent(0, 0, 100), Outcomes()
    for number in range(100):
        _add(outcomes, number, HIT, 60.0 + number / 50)
    report = _summarise(sent, outcomes, None)
    assert report.main_figure == "throughput"
    assert report.throughput.consumed_per_s == pytest.approx(50)
    assert report.throughput.broker_per_s == pytest.approx(1000)  # stamps are a millisecond apart
    assert report.sending.late_ms is None
    assert report.sending.outstanding_at_end == 100


def test_at_max_the_first_tenth_of_the_outcomes_is_no_throughput() -> None:
    sent, outcomes = _sent(0, 0, 100), Outcomes()
    for number in range(100):
        _add(outcomes, number, HIT, 60.0 if number < 10 else 100.0 + number / 50)
    report = _summarise(sent, outcomes, None)
    assert report.throughput.consumed_per_s == pytest.approx(50)


def test_over_time_every_event_is_in_one_stretch() -> None:
    sent, outcomes = _sent(4, 100, 900), Outcomes()
    for number in range(4, 1004):
        _add(outcomes, number, HIT, sent.at_s[number] + 0.3)
    points = _summarise(sent, outcomes).over_time
    begins = [point.at_s for point in points]
    widths = np.diff([*begins, 9.99 + 0.3])  # the last outcome came then
    assert sum(np.array([point.sent_per_s for point in points]) * widths) == pytest.approx(1000)
    assert sum(np.array([point.outcomes_per_s for point in points]) * widths) == pytest.approx(1000)
    assert {point.p50_ms is None or round(point.p50_ms) for point in points} == {300, True}


@given(st.lists(st.floats(0, 1e5), max_size=300))
def test_a_spread_rises(values: list[float]) -> None:
    found = spread_of(np.array(values))
    rising = [found.p50, found.p90, found.p95, found.p99, found.p99_9, found.max]
    given_ones = [value for value in rising if value is not None]
    assert given_ones == sorted(given_ones)
    assert (found.count, found.max) == (len(values), max(values, default=None))


def test_the_curve_rises_and_its_percents_do_too() -> None:
    sent, outcomes = _sent(0, 0, 500), Outcomes()
    for number in range(500):
        _add(outcomes, number, HIT if number % 2 else MISS, 60.0 + (number * 37 % 500) / 100)
    curve = _summarise(sent, outcomes).curve
    assert list(curve.percents) == sorted(set(curve.percents))
    assert 0 <= curve.percents[0] < curve.percents[-1] < 100
    for values in (curve.all_ms, curve.hits_ms, curve.misses_ms):
        assert len(values) == len(curve.percents)
        known = [value for value in values if value is not None]
        assert known == sorted(known)
        assert known


def test_a_run_of_nothing_has_a_report() -> None:
    report = _summarise(Sent(), Outcomes())
    assert (report.measured.sent, report.missing, report.hit_share, report.over_time) == (0, 0, None, ())
