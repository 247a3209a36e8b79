"""Every metric of the worker: kind, unit, meaning and the closed sets of its labels."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from guard.serving.fleet_view import EJECTIONS, FleetView
from schemas.dead_letter import DeadLetterReason
from schemas.decision import Status
from schemas.identifiers import Action, Mode, Way
from schemas.verdict import UnjudgedReason
from workers.ports import Oldest, Stage

STATUSES: Final[tuple[str, ...]] = get_args(Status)
ACTIONS: Final[tuple[str, ...]] = get_args(Action)
CACHE: Final = ("hit", "miss")
ANSWERS: Final = ("verdict", "unjudged")
MODES: Final[tuple[str, ...]] = get_args(Mode)
WAYS: Final[tuple[str, ...]] = get_args(Way)
UNEXPECTED: Final = ("reading", "judging", "deciding")
OPERATIONS: Final = ("connect", "recall", "keep", "lease")
LEASES: Final = ("taken", "answered", "in_vain", "unavailable")
WHY_DISCARDED: Final = ("revoked", "lost", "rewound", "stopped")
COMMITS: Final = ("taken", "refused")
# An offset that waits for nothing: everything that was read is committed.
NOTHING: Final = "nothing"
STAGES: Final[tuple[str, ...]] = (*get_args(Stage), NOTHING)
LINKS: Final = ("kafka", "redis")
RENEWALS: Final = ("used", "refused")
SPANS: Final = ("exported", "failed", "dropped")
RESTARTS: Final = ("answers", "failed")
# Seconds: a hit takes milliseconds, a rationale seconds, a held event minutes.
LATENCY_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Histogram(Collector):
    """A histogram without labels that costs a fraction of prometheus_client's: one per event is observed."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self._name, self._documentation = name, documentation
        self._counts = [0] * (len(LATENCY_BUCKETS) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self._sum += seconds

    def observe_many(self, seconds: float, times: int) -> None:
        """The same value, as often as given."""
        self._counts[bisect_left(LATENCY_BUCKETS, seconds)] += times
        self._sum += seconds * times

    def collect(self) -> Iterator[HistogramMetricFamily]:
        total, buckets = 0, []
        for bound, count in zip((*map(str, LATENCY_BUCKETS), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family = HistogramMetricFamily(self._name, self._documentation)
        family.add_metric([], buckets, self._sum)
        yield family


class OldestOffsets(Collector):
    """One sample for each assigned partition, asked for when it is shown, so that it is right while the loop
    waits."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self._name, self._documentation = name, documentation
        self.ask: Callable[[], Iterable[Oldest]] = tuple
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._documentation, labels=("partition", "waiting_for"))
        for oldest in self.ask():
            family.add_metric((str(oldest.partition), oldest.stage or NOTHING), oldest.seconds)
        yield family


class Fleet(Collector):
    """The servers of the engine `remote`, asked for when they are shown; all zero where there are none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ask: Callable[[], FleetView | None] = lambda: None
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        view = self.ask() or FleetView()
        states = GaugeMetricFamily(
            "rsafe_guard_servers",
            "Servers of the engine `remote`, by state; a serving one gets calls.",
            labels=("state",),
        )
        for state, count in view.states().items():
            states.add_metric((state,), count)
        yield states
        yield GaugeMetricFamily(
            "rsafe_guard_servers_outstanding_tokens",
            "Tokens of the calls at the servers: prompts and longest completions.",
            value=sum(one.tokens for one in view.endpoints),
        )
        yield CounterMetricFamily(
            "rsafe_guard_server_retries_total",
            "Calls that were sent to another server, or again, after a failure.",
            value=view.retries,
        )
        ejections = CounterMetricFamily(
            "rsafe_guard_server_ejections_total",
            "Servers that got no more calls, by why.",
            labels=("why",),
        )
        for why in EJECTIONS:
            ejections.add_metric((why,), view.ejections.get(why, 0))
        yield ejections


class Metrics:
    """The metrics of one worker, in its own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, documentation: str, *labels: tuple[str, Iterable[str]]) -> Counter:
            made = Counter(name, documentation, [label for label, _ in labels], registry=registry)
            if len(labels) == 1:  # shown at zero from the start, so that rates have a beginning
                for value in labels[0][1]:
                    made.labels(value)
            return made

        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, registry=registry)

        self.decisions = counter(
            "rsafe_decisions_total",
            "Decisions made, by status, action and whether the verdict was remembered.",
            ("status", STATUSES),
            ("action", ACTIONS),
            ("cache", CACHE),
        )
        self.unjudged = counter(
            "rsafe_unjudged_total", "Unjudged decisions, by reason.", ("reason", get_args(UnjudgedReason))
        )
        self.dead_letters = counter(
            "rsafe_dead_letters_total",
            "Records that became dead letters, by reason.",
            ("reason", get_args(DeadLetterReason)),
        )
        self.answers = counter(
            "rsafe_guard_answers_total", "Answers of the guard, by what they were.", ("answer", ANSWERS)
        )
        self.verdicts = counter(
            "rsafe_guard_verdicts_total",
            "Verdicts of the guard, by the mode in which it was asked and the way in which it answered.",
            ("mode", MODES),
            ("answered_in", WAYS),
        )
        self.prompt_tokens = counter("rsafe_guard_prompt_tokens_total", "Tokens that the guard read.")
        self.cached_prompt_tokens = counter(
            "rsafe_guard_cached_prompt_tokens_total",
            "Of the tokens that the guard read, those that its prefix cache held.",
        )
        self.completion_tokens = counter(
            "rsafe_guard_completion_tokens_total", "Tokens that the guard wrote."
        )
        self.guard_calls = gauge(
            "rsafe_guard_calls", "Calls at the engine, running or queued in it; a question may have several."
        )
        self.guard_waiting = gauge(
            "rsafe_guard_waiting_questions", "Questions read that wait for a place at the guard."
        )
        self.fleet = Fleet(registry)
        self.guard_seconds = Histogram(
            "rsafe_guard_seconds", "Seconds from a question to the guard to its answer.", registry
        )
        self.decision_seconds = Histogram(
            "rsafe_decision_seconds", "Seconds from the read of an event to its decision.", registry
        )
        self.event_seconds = Histogram(
            "rsafe_event_seconds",
            "Seconds from the broker's timestamp of an event to its decision.",
            registry,
        )
        self.in_flight = gauge("rsafe_in_flight_records", "Records read whose outcome is not delivered yet.")
        self.window_records = gauge(
            "rsafe_window_records", "Records read and not yet committed: what a crash would repeat."
        )
        self.window_bytes = gauge("rsafe_window_bytes", "Bytes of the records read and not yet committed.")
        self.window_tokens = gauge(
            "rsafe_window_tokens", "Prompt tokens of questions not yet answered, estimated."
        )
        self.oldest_seconds = OldestOffsets(
            "rsafe_oldest_uncommitted_seconds",
            "Seconds since the oldest uncommitted record of a partition was read, and what it waits for.",
            registry,
        )
        self.partitions = gauge("rsafe_assigned_partitions", "Partitions that this worker reads.")
        self.guard_up = gauge("rsafe_guard_up", "1 while the guard answers, 0 while it is down.")
        self.guard_down_seconds = gauge(
            "rsafe_guard_down_seconds", "For how many seconds the guard has been down; 0 while it answers."
        )
        self.guard_restarts = counter(
            "rsafe_guard_restarts_total",
            "Starts of the guard, the first included, by how they ended.",
            ("outcome", RESTARTS),
        )
        self.commits = counter(
            "rsafe_commits_total",
            "Partition offsets committed, by what the broker said.",
            ("outcome", COMMITS),
        )
        self.discarded = counter(
            "rsafe_discarded_records_total",
            "Records read whose outcome was given up; another reads them again.",
            ("why", WHY_DISCARDED),
        )
        self.suspects = counter(
            "rsafe_suspects_total",
            "Questions that were at the guard when it died, and are judged again alone.",
        )
        self.unexpected = counter(
            "rsafe_unexpected_errors_total",
            "Errors of the worker's own code that one record brought up; the record has an outcome.",
            ("where", UNEXPECTED),
        )
        self.cache_failures = counter(
            "rsafe_cache_failures_total",
            "Failures of the shared cache; each is a miss.",
            ("operation", OPERATIONS),
        )
        self.leases = counter(
            "rsafe_cache_leases_total",
            "Questions that only one worker at a time asks, by what came of that.",
            ("outcome", LEASES),
        )
        self.link_renewals = counter(
            "rsafe_link_renewals_total",
            "Changed passwords and certificates: put into use, or refused and tried again.",
            ("link", LINKS),
            ("outcome", RENEWALS),
        )
        self.spans = counter(
            "rsafe_spans_total",
            "Spans: taken by the collector, not taken by it, or dropped before they were sent.",
            ("outcome", SPANS),
        )
