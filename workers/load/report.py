"""The figures of a run, from what was sent and what came back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from workers.load.drive import Pace, Sent
from workers.load.figures import (
    Asked,
    Curve,
    Latency,
    LoadReport,
    Phase,
    Point,
    Sending,
    Spread,
    Throughput,
)
from workers.load.follow import DEAD_LETTER, HIT, MISS, NOT_APPLICABLE, UNJUDGED, Outcomes
from workers.load.join import PERCENTS, Floats, Joined, join, late_ms, percentile
from workers.load.plan import LoadPlan

# At most so many points over the time of a run, of one of these widths, in seconds.
_POINTS: Final = 120
_WIDTHS_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
# At the rate `max` the first tenth of the outcomes is no throughput: the queue has to fill first.
_LEFT_OUT: Final = 10
# Of the percentile curve: evenly to 90, then each tenth of the rest as closely as the one before.
_CURVE: Final = (
    *(float(percent) for percent in range(0, 90, 2)),
    *(round(100 - 10 / 10**nines * (1 - step / 20), 6) for nines in range(4) for step in range(18)),
)


def summarise(
    plan: LoadPlan,
    pace: Pace,
    sent: Sent,
    outcomes: Outcomes,
    *,
    drain_timeout_s: float,
    events_stamped: bool | None,
    interrupted: bool,
) -> LoadReport:
    """The figures of a run that has ended."""
    joined = join(sent, outcomes, pace.rate, events_stamped=events_stamped)
    total = len(sent.at_s)
    first = total if sent.measured_from is None else sent.measured_from
    measured = joined.between(first, total)
    words = outcomes.words
    phase = _phase(measured, total - first, words)
    judged = phase.hits + phase.misses
    return LoadReport(
        run=plan.run,
        started_at=plan.sent_at.isoformat(timespec="seconds"),
        interrupted=interrupted,
        main_figure="throughput" if pace.rate is None else "latency",
        asked=_asked(plan, pace, drain_timeout_s),
        pool=_phase(joined.between(0, sent.pool), sent.pool, words),
        warm_up=_phase(joined.between(sent.pool, first), first - sent.pool, words),
        measured=phase,
        duplicates=outcomes.duplicates,
        hit_share=phase.hits / judged if judged else None,
        sending=_sending(sent, pace.rate, joined, first),
        throughput=_throughput(sent, pace, joined.between(sent.pool, total)),
        latency_ms=_latency(measured, measured.latency_ms),
        broker_ms=_broker(measured),
        over_time=_over_time(sent, joined),
        curve=_curve(measured),
    )


def _asked(plan: LoadPlan, pace: Pace, drain_timeout_s: float) -> Asked:
    return Asked(
        rate_per_s=pace.rate,
        warm_up_s=pace.warm_up_s,
        count=pace.count,
        duration_s=pace.duration_s,
        hits=plan.hits,
        pool=plan.pool,
        conversations=plan.conversations,
        zipf=plan.zipf,
        tenants=plan.tenants,
        policy=plan.policy,
        lengths=plan.lengths.name,
        seed=plan.seed,
        drain_timeout_s=drain_timeout_s,
    )


def _phase(rows: Joined, sent: int, words: Sequence[str]) -> Phase:
    counts = np.bincount(rows.kinds, minlength=DEAD_LETTER + 1).tolist()

    def by_reason(kind: int) -> dict[str, int]:
        reasons = np.bincount(rows.reasons[rows.kinds == kind], minlength=len(words)).tolist()
        return {word: count for word, count in zip(words, reasons, strict=True) if count}

    return Phase(
        sent=sent,
        hits=counts[HIT],
        misses=counts[MISS],
        not_applicable=counts[NOT_APPLICABLE],
        unjudged=by_reason(UNJUDGED),
        dead_letters=by_reason(DEAD_LETTER),
        missing=sent - len(rows.kinds),
    )


def spread_of(values: Floats) -> Spread:
    """How the values are spread."""
    if not len(values):
        return Spread(count=0)
    ordered = np.sort(values)
    p50, p90, p95, p99, p99_9 = (percentile(ordered, percent) for percent in PERCENTS)
    return Spread(
        count=len(values),
        mean=float(ordered.mean()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        p99_9=p99_9,
        max=float(ordered[-1]),
    )


def _latency(rows: Joined, values: Floats) -> Latency:
    def of(kinds: Sequence[int]) -> Spread:
        chosen = values[np.isin(rows.kinds, kinds)]
        return spread_of(chosen[~np.isnan(chosen)])

    return Latency(all=of((HIT, MISS, UNJUDGED, NOT_APPLICABLE)), hits=of((HIT,)), misses=of((MISS,)))


def _broker(rows: Joined) -> Latency | None:
    latency = _latency(rows, rows.broker_ms)
    return latency if latency.all.count else None


def _sending(sent: Sent, rate: float | None, joined: Joined, first: int) -> Sending:
    total = len(sent.at_s)
    ended = np.inf if sent.ended_s is None else sent.ended_s
    return Sending(
        per_s=_per_s(np.array(sent.at_s[first:])),
        late_ms=None if rate is None else spread_of(late_ms(sent, rate)),
        queue_full=sent.queue_full,
        mean_event_bytes=sent.bytes / total if total else None,
        outstanding_at_end=total - int(np.count_nonzero(joined.seen_s <= ended)),
    )


def _throughput(sent: Sent, pace: Pace, rows: Joined) -> Throughput:
    # Not of the measured events: where a queue has filled, those of a quiet partition come long before
    # those of a busy one, and others in between.
    if pace.rate is None or sent.begun_s is None:
        counted = np.arange(len(rows.numbers)) >= len(rows.numbers) // _LEFT_OUT
    else:
        counted = rows.seen_s >= sent.begun_s + pace.warm_up_s
    return Throughput(
        consumed_per_s=_per_s(rows.seen_s[counted]), broker_per_s=_per_s(rows.stamps_ms[counted] / 1000)
    )


def _per_s(times_s: Floats) -> float | None:
    """How many a second between the first and the last of them."""
    if len(times_s) < 2 or np.isnan(times_s).any():
        return None
    span = float(times_s.max() - times_s.min())
    return (len(times_s) - 1) / span if span > 0 else None


def _over_time(sent: Sent, joined: Joined) -> tuple[Point, ...]:
    begun = sent.begun_s
    if begun is None or len(sent.at_s) == sent.pool:
        return ()
    rows = joined.between(sent.pool, len(sent.at_s))
    sent_s = np.array(sent.at_s[sent.pool :]) - begun
    seen_s, due_s = rows.seen_s - begun, rows.intended_s - begun
    end = float(max(sent_s.max(), seen_s.max(initial=0.0)))
    width = next((width for width in _WIDTHS_S if end / width < _POINTS), _WIDTHS_S[-1])
    bins = max(1, round(end / width))
    widths = [*[width] * (bins - 1), end - (bins - 1) * width or width]  # the last one as long as it was
    sent_in, seen_in, due_in = (
        np.clip(times / width, 0, bins - 1).astype(np.int64) for times in (sent_s, seen_s, due_s)
    )
    sent_counts, seen_counts = (np.bincount(found, minlength=bins).tolist() for found in (sent_in, seen_in))
    points = []
    for number in range(bins):
        latencies = rows.latency_ms[due_in == number]
        latencies = np.sort(latencies[~np.isnan(latencies)])
        points.append(
            Point(
                at_s=round(number * width, 3),
                sent_per_s=sent_counts[number] / widths[number],
                outcomes_per_s=seen_counts[number] / widths[number],
                p50_ms=percentile(latencies, 50),
                p99_ms=percentile(latencies, 99),
            )
        )
    return tuple(points)


def _curve(rows: Joined) -> Curve:
    def of(chosen: Floats) -> tuple[float | None, ...]:
        values = np.sort(chosen[~np.isnan(chosen)])
        return tuple(percentile(values, percent) for percent in _CURVE)

    return Curve(
        percents=_CURVE,
        all_ms=of(rows.latency_ms),
        hits_ms=of(rows.latency_ms[rows.kinds == HIT]),
        misses_ms=of(rows.latency_ms[rows.kinds == MISS]),
    )
