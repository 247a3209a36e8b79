"""Every metric of the worker: kind, unit, meaning and the bounded sets of its labels.

Over 300 lines, once others add theirs: they are declared in one place. Their kinds are in `metric_kinds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from schemas.dead_letter import DeadLetterReason
from schemas.decision import Status
from schemas.identifiers import Action, Mode, Way
from schemas.verdict import UnjudgedReason
from workers.metric_kinds import (
    ANY,
    BoundedLabel,
    Fleet,
    Histogram,
    Info,
    LabelledHistogram,
    Lags,
    OldestOffsets,
    Row,
)
from workers.moderation.injection_signs import SIGNS
from workers.ports import Stage

STATUSES: Final[tuple[str, ...]] = get_args(Status)
ACTIONS: Final[tuple[str, ...]] = get_args(Action)
CACHE: Final = ("hit", "miss")
TIERS: Final = ("local", "shared")
ANSWERS: Final = ("verdict", "unjudged")
MODES: Final[tuple[str, ...]] = get_args(Mode)
WAYS: Final[tuple[str, ...]] = get_args(Way)
UNEXPECTED: Final = ("reading", "judging", "deciding")
OPERATIONS: Final = ("connect", "recall", "keep", "lease")
USES: Final = ("reading", "writing")
LEASES: Final = ("taken", "answered", "in_vain", "unavailable")
WHY_DISCARDED: Final = ("revoked", "lost", "rewound", "stopped")
COMMITS: Final = ("taken", "refused")
# An offset that waits for nothing: everything that was read is committed.
NOTHING: Final = "nothing"
STAGES: Final[tuple[str, ...]] = (*get_args(Stage), NOTHING)
LINKS: Final = ("kafka", "redis")
RENEWALS: Final = ("used", "refused")
SPANS: Final = ("exported", "failed", "dropped")
POLICY_RECORDS: Final = ("published", "retired", "refused")
RESTARTS: Final = ("answers", "failed")
UNNAMED: Final = "unnamed"
"""In place of a category where a decision acts on the overall score and the guard named none."""
# Codes of categories come from policies; a worker has a handful of policies with some ten each.
MOST_CATEGORIES: Final = 100
# Policies shown one by one; their fingerprint covers all.
MOST_POLICIES: Final = 100
# Seconds: a hit takes milliseconds, a rationale seconds, a held event minutes.
LATENCY_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# Seconds: those of the latency from what a round trip to a broker takes, and on to a backlog of hours. The
# bound of the service's objective, 5, is one of them.
AGE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600)
# p(unsafe). Finer at the ends: there a guard that is sure stands, and most thresholds.
SCORE_BUCKETS: Final = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)

Labels = tuple[str, Sequence[str]]


class Described(Protocol):
    """A metric that describes itself."""

    def rows(self) -> list[Row]: ...


Kind = TypeVar("Kind", bound=Described)


class Metrics:
    """The metrics of one worker, in its own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.rows: list[Row] = []
        """What is declared here, in this order."""

        def counter(name: str, documentation: str, *labels: Labels) -> Counter:
            made = Counter(name, documentation, [label for label, _ in labels], registry=registry)
            if len(labels) == 1:  # shown at zero from the start, so that rates have a beginning
                for value in labels[0][1]:
                    made.labels(value)
            self.rows.append(Row(name, "counter", dict(labels), documentation))
            return made

        def gauge(name: str, documentation: str, *labels: Labels) -> Gauge:
            self.rows.append(Row(name, "gauge", dict(labels), documentation))
            return Gauge(name, documentation, [label for label, _ in labels], registry=registry)

        def described(metric: Kind) -> Kind:
            self.rows.extend(metric.rows())
            return metric

        def histogram(name: str, documentation: str, bounds: Sequence[float] = LATENCY_BUCKETS) -> Histogram:
            return described(Histogram(name, documentation, bounds, registry))

        def labelled(
            name: str, documentation: str, label: Labels, bounds: Sequence[float] = LATENCY_BUCKETS
        ) -> LabelledHistogram:
            return described(LabelledHistogram(name, documentation, bounds, label, registry))

        def info(name: str, documentation: str, *labels: str) -> Info:
            return described(Info(name, documentation, labels, registry))

        self.decisions = counter(
            "rsafe_decisions_total",
            "Decisions made, by status, action and whether the verdict was remembered.",
            ("status", STATUSES),
            ("action", ACTIONS),
            ("cache", CACHE),
        )
        self.violations = counter(
            "rsafe_violations_total",
            "Judged decisions, by a category that is violated and by the action; one may have several. "
            f"`{UNNAMED}`: acted on by the overall score. Codes beyond {MOST_CATEGORIES}: `other`.",
            ("category", ANY),
            ("action", ACTIONS),
        )
        self.category = BoundedLabel(MOST_CATEGORIES)
        self.unjudged = counter(
            "rsafe_unjudged_total", "Unjudged decisions, by reason.", ("reason", get_args(UnjudgedReason))
        )
        self.dead_letters = counter(
            "rsafe_dead_letters_total",
            "Records that became dead letters, by reason.",
            ("reason", get_args(DeadLetterReason)),
        )
        self.injections = counter(
            "rsafe_injection_signs_total",
            "Messages with words of a guard's or a model's own format in them, by what was found.",
            ("sign", SIGNS),
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
        self.fleet = described(Fleet(registry))
        self.guard_seconds = labelled(
            "rsafe_guard_seconds",
            "Seconds from a question to the guard to its answer, by the mode in which it was asked.",
            ("mode", MODES),
        )
        self.scores = labelled(
            "rsafe_guard_score",
            "p(unsafe), raw, of the verdicts that the guard gave, by the way in which it answered.",
            ("answered_in", WAYS),
            SCORE_BUCKETS,
        )
        self.decision_seconds = histogram(
            "rsafe_decision_seconds", "Seconds from the read of an event to its decision."
        )
        self.event_seconds = histogram(
            "rsafe_event_seconds", "Seconds from the broker's timestamp of an event to its decision."
        )
        self.verdict_age_seconds = histogram(
            "rsafe_verdict_age_seconds",
            "Seconds from the broker's timestamp of an event to the broker's word that it has the outcome; "
            "exactly once, to the end of the transaction.",
            AGE_BUCKETS,
        )
        self.lags = described(Lags(registry))
        self.broker_silent = gauge(
            "rsafe_broker_silent_seconds",
            "For how many seconds no broker has answered; asked every few seconds, and once a minute after "
            "some failures.",
        )
        self.in_flight = gauge("rsafe_in_flight_records", "Records read whose outcome is not delivered yet.")
        self.window_records = gauge(
            "rsafe_window_records", "Records read and not yet committed: what a crash would repeat."
        )
        self.window_bytes = gauge("rsafe_window_bytes", "Bytes of the records read and not yet committed.")
        self.window_tokens = gauge(
            "rsafe_window_tokens", "Prompt tokens of questions not yet answered, estimated."
        )
        self.oldest_seconds = described(
            OldestOffsets(
                "rsafe_oldest_uncommitted_seconds",
                "Seconds since the oldest uncommitted record of a partition was read, and what it waits for.",
                STAGES,
                registry,
            )
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
        self.last_commit = gauge(
            "rsafe_last_commit_timestamp_seconds",
            "When the broker last took an offset of this worker, in Unix seconds; 0: not yet.",
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
        self.lookups = counter(
            "rsafe_cache_lookups_total",
            "Verdicts looked up, each question once a batch: in the process (local) and, where it is not, in "
            "Redis (shared).",
            ("tier", TIERS),
            ("result", CACHE),
        )
        self.local_entries = gauge("rsafe_local_cache_entries", "Verdicts that the process remembers.")
        self.local_bytes = gauge(
            "rsafe_local_cache_bytes", "Bytes of the verdicts that the process remembers, about."
        )
        self.cache_servers = gauge(
            "rsafe_cache_servers", "Servers of the shared cache that are known; 0: none."
        )
        self.cache_left_alone = gauge(
            "rsafe_cache_servers_left_alone",
            "Of these, the ones that kept failing and are tried only now and then, by what for.",
            ("use", USES),
        )
        self.leases = counter(
            "rsafe_cache_leases_total",
            "Questions that only one worker at a time asks, by what came of that.",
            ("outcome", LEASES),
        )
        self.policy_records = counter(
            "rsafe_policy_records_total",
            "Records of the topic of policies, by what they did; a refused one leaves the version before.",
            ("outcome", POLICY_RECORDS),
        )
        self.policies_age = gauge(
            "rsafe_policies_age_seconds",
            "Seconds since the policies in force were last changed, or loaded.",
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
        self.policies = gauge("rsafe_policies", "Policies that are loaded.")
        self.policy_set = info(
            "rsafe_policy_set_info",
            "Fingerprint of all policies in force: equal in all workers, or they judge by different ones.",
            "fingerprint",
        )
        self.policy = info(
            "rsafe_policy_info",
            f"Policies in force; of more than {MOST_POLICIES}, the first by their ids.",
            "policy",
            "version",
            "policy_hash",
        )
        self.checkpoint = info(
            "rsafe_checkpoint_info",
            "The guard in force, as decisions name it.",
            "model",
            "checkpoint_digest",
            "weights_digest",
            "template_version",
            "engine",
            "engine_version",
            "verified",
        )
        # Processor time, memory, open files and the start of the worker's process, as `process_*`.
        ProcessCollector(registry=registry)
