"""The figures for people, and how far a run is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
from rich.console import Console

from workers.load.drive import Sent
from workers.load.figures import Latency, LoadReport, Phase, Spread
from workers.load.follow import Outcomes
from workers.load.join import join, percentile
from workers.progress import ProgressLine
from workers.terminal import harmless

# How often the progress is written where nothing moves, in seconds.
_PLAIN_S: Final = 1.0


def lines(report: LoadReport) -> Iterator[str]:
    """The report, a line each."""
    yield f"run {report.run}, seed {report.asked.seed}" + (", interrupted" if report.interrupted else "")
    if report.asked.pool:
        yield f"pool: {_phase(report.pool)}"
    if report.warm_up.sent:
        yield f"warm-up: {_phase(report.warm_up)}"
    yield f"measured: {_phase(report.measured)}"
    if report.duplicates:
        yield f"duplicates: {report.duplicates:,}"
    yield from _rates(report)
    if report.hit_share is not None:
        yield f"hits: {report.hit_share:.1%} of the judged (asked: {report.asked.hits:.1%})"
    if report.main_figure == "throughput":
        yield "the rate `max` is closed only by the producer's queue: latency (ms) says how long that got"
        yield from _table("consumed", report.latency_ms)
        return
    yield "latency in ms, from when an event was due"
    yield from _table("consumed", report.latency_ms)
    if report.broker_ms is not None:
        yield from _table("at the broker", report.broker_ms)
    if report.sending.late_ms is not None:
        yield _row("the sender's part of it", report.sending.late_ms)


def _phase(phase: Phase) -> str:
    parts = [
        f"{phase.sent:,} sent",
        f"{phase.hits + phase.misses:,} judged",
        *([f"{phase.not_applicable:,} not applicable"] if phase.not_applicable else []),
        *_by_reason("unjudged", phase.unjudged),
        *_by_reason("dead letters", phase.dead_letters),
        f"{phase.missing:,} missing",
    ]
    return ", ".join(parts)


def _by_reason(what: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    reasons = ", ".join(f"{harmless(reason)} {count:,}" for reason, count in sorted(counts.items()))
    return [f"{sum(counts.values()):,} {what} ({reasons})"]


def _rates(report: LoadReport) -> Iterator[str]:
    sending, throughput = report.sending, report.throughput
    if throughput.consumed_per_s is not None:
        broker = throughput.broker_per_s
        by_broker = "" if broker is None else f" ({broker:,.0f}/s by the broker's clock)"
        yield f"throughput: {throughput.consumed_per_s:,.0f} outcomes/s{by_broker}"
    if sending.per_s is not None:
        rate = report.asked.rate_per_s
        asked = "as fast as possible" if rate is None else f"asked: {rate:,.0f}/s"
        size = "" if sending.mean_event_bytes is None else f", {sending.mean_event_bytes:,.0f} bytes each"
        yield (
            f"sent: {sending.per_s:,.0f} events/s ({asked}){size}; "
            f"{sending.outstanding_at_end:,} without an outcome when the last was sent"
        )


def _table(title: str, latency: Latency) -> Iterator[str]:
    yield _row(f"{title}, all", latency.all)
    # With one of them alone the row says what the first says.
    if latency.hits.count and latency.misses.count:
        yield _row(f"{title}, hits", latency.hits)
        yield _row(f"{title}, misses", latency.misses)


def _row(title: str, spread: Spread) -> str:
    cells = {
        "p50": spread.p50,
        "p90": spread.p90,
        "p95": spread.p95,
        "p99": spread.p99,
        "p99.9": spread.p99_9,
        "max": spread.max,
    }
    values = "  ".join(
        f"{name} {'–' if value is None else format(value, '.1f'):>7}" for name, value in cells.items()
    )
    return f"  {title:<24} {values}"


class Progress(ProgressLine):
    """How far a run is, about once a second."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        super().__init__(console, clock, plain_s=_PLAIN_S)
        self._rows, self._sent = 0, 0

    def told(self, step: str, sent: Sent, outcomes: Outcomes, rate: float | None) -> None:
        """How far it is; does nothing when it was told a moment ago."""
        passed = self.passed_s()
        if passed is None:
            return
        came, count = len(outcomes), len(sent.at_s)
        newest = join(sent, outcomes, rate, events_stamped=False, first_row=self._rows).latency_ms
        newest = np.sort(newest[~np.isnan(newest)])
        parts = [
            f"{step}: {count:,} sent ({(count - self._sent) / passed:,.0f}/s)",
            f"{came:,} outcomes ({(came - self._rows) / passed:,.0f}/s)",
            f"{count - came:,} under way",
        ]
        if came:
            parts.append(f"hits {outcomes.hits / came:.0%}")
        values = ((percent, percentile(newest, percent)) for percent in (50, 99))
        parts += [f"p{percent} {value:,.0f} ms" for percent, value in values if value is not None]
        self._rows, self._sent = came, count
        self.show(", ".join(parts))
