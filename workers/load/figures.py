"""The form of a run's figures: `LoadReport` is the schema of what `rsafe load --json` writes.

Times are milliseconds, rates per second, unless a name says otherwise. A percentile is the smallest measured
value that so many percent of the values do not exceed, and null where there are too few values for it.

`docs/reference/load-report.md` is made from these structs.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

FORM: Final = "rsafe-load-1"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    rate_per_s: float | None
    """Events a second; null: as fast as possible."""
    warm_up_s: float
    """Seconds before what is measured, at the same rate; 0 at the rate `max`."""
    count: int | None
    """Events that are measured; null: `duration_s` decides."""
    duration_s: float | None
    """Seconds for which what is measured is sent; null: `count` decides."""
    hits: float
    """Share of events whose text was asked before in this run."""
    pool: int
    """Texts that are asked first, unmeasured."""
    conversations: int
    """Conversations."""
    zipf: float
    """Exponent of the skew between conversations."""
    tenants: tuple[str, ...]
    """Tenants."""
    policy: str | None
    """Policy that the events name; null: the worker chooses."""
    lengths: str
    """Lengths of texts."""
    seed: int
    """Seed of everything that is drawn."""
    drain_timeout_s: float
    """Seconds without an outcome after which the rest counts as missing."""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the events of a part of the run; `missing` and all others add up to `sent`."""

    sent: int
    """Events that were handed to the producer."""
    hits: int
    """Judged, and the decision says that the verdict was remembered or shared."""
    misses: int
    """Judged, and the guard was asked."""
    not_applicable: int
    """Decided without a judgement, since the policy does not judge the role."""
    unjudged: dict[str, int]
    """Unjudged decisions, by reason."""
    dead_letters: dict[str, int]
    """Dead letters, by reason."""
    missing: int
    """Without an outcome when the run ended."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How values are spread."""

    count: int
    """How many values there are."""
    mean: float | None = None
    """Mean."""
    p50: float | None = None
    """Median."""
    p90: float | None = None
    """90 % are not above it."""
    p95: float | None = None
    """95 % are not above it."""
    p99: float | None = None
    """99 % are not above it."""
    p99_9: float | None = None
    """99.9 % are not above it."""
    max: float | None = None
    """Largest."""


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """How the load was sent."""

    per_s: float | None
    """Events a second that were handed to the producer, of what is measured."""
    late_ms: Spread | None
    """How long after they were due the measured events were handed over, which their latency includes; null
    at the rate `max`."""
    queue_full: int
    """How often the producer's queue had no room, in the whole run."""
    mean_event_bytes: float | None
    """Mean size of an event of the whole run, uncompressed."""
    outstanding_at_end: int
    """Events without an outcome when the last one was sent."""


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes a second of all events after the pool, from the end of the warm-up to the last outcome.

    At the rate `max` the first tenth of the outcomes is left out instead.
    """

    consumed_per_s: float | None
    """By the time at which they were consumed."""
    broker_per_s: float | None
    """By the broker's timestamps; null where the topics keep the sender's."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds; hits and misses are judged decisions, `all` has the others, too, but no dead letters."""

    all: Spread
    """Of all decisions."""
    hits: Spread
    """Of those whose verdict was remembered or shared."""
    misses: Spread
    """Of those for which the guard was asked."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the run."""

    at_s: float
    """Its beginning, in seconds from the first event after the pool; the warm-up is before `warm_up_s`."""
    sent_per_s: float
    """Events a second that were sent in it."""
    outcomes_per_s: float
    """Outcomes a second that came in it."""
    p50_ms: float | None
    """Median latency of the events that were due in it."""
    p99_ms: float | None
    """99 % of the latencies of the events that were due in it are not above this."""


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Latency by percentile; null where there are too few values."""

    percents: tuple[float, ...]
    """Percentiles from 0 on."""
    all_ms: tuple[float | None, ...]
    """Of all decisions."""
    hits_ms: tuple[float | None, ...]
    """Of hits."""
    misses_ms: tuple[float | None, ...]
    """Of misses."""


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run."""

    form: Literal["rsafe-load-1"] = FORM
    """Version of this form."""
    run: str
    """Name of the run; its event ids begin with `load-`, the name and `-`."""
    started_at: str
    """When it began, by this machine's clock."""
    interrupted: bool
    """Whether it was ended from the keyboard; what was in flight counts as missing then."""
    main_figure: Literal["latency", "throughput"]
    """`throughput` at the rate `max`: its latencies are those of a queue that fills."""
    asked: Asked
    """What was asked for."""
    pool: Phase
    """The texts that were asked first."""
    warm_up: Phase
    """Before what is measured."""
    measured: Phase
    """What the figures are about, unless they say otherwise."""
    duplicates: int
    """Outcomes of events that had one already, in all phases; the first counts."""
    hit_share: float | None
    """Share of hits among judged decisions."""
    sending: Sending
    """How the load was sent."""
    throughput: Throughput
    """How fast outcomes came."""
    latency_ms: Latency
    """From when an event was due (at the rate `max`: sent) to the consumption of its decision."""
    broker_ms: Latency | None
    """From the broker's timestamp of the event to that of its decision; null unless both are the broker's."""
    over_time: tuple[Point, ...]
    """The run in stretches of equal length, the warm-up first."""
    curve: Curve
    """Latency by percentile."""

    @property
    def missing(self) -> int:
        """In all phases."""
        return self.pool.missing + self.warm_up.missing + self.measured.missing
