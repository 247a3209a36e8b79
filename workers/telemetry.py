"""Logs and metrics of the worker. A line is a constant sentence with ids beside it, never message text.

Over 300 lines: all that is told of a worker is read in one place, and most of it is one line a fact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, Literal, Protocol

import structlog

from guard.serving.fleet_view import FleetView
from schemas.dead_letter import DeadLetter
from schemas.decision import Decision, GuardUsed, PolicyUsed
from schemas.identifiers import Action, Mode
from schemas.verdict import Unjudged, Verdict
from workers.health import Health
from workers.logs import places
from workers.metrics import MOST_POLICIES, UNNAMED, USES, Metrics
from workers.moderation.choose_policy import PolicyBook
from workers.moderation.injection_signs import Sign
from workers.moderation.outcome import Violated, violated_of
from workers.ports import Lag, Oldest
from workers.stream.window import Load

# Trouble that repeats with every batch is told this often, in seconds.
_REPEAT_S: Final = 10.0
# From when on a partition's oldest uncommitted record is worth a line, in seconds: by its default settings a
# judgement has ended by then.
SLOW_S: Final = 30.0


class StreamView(Protocol):
    """What can be seen of a stream at any moment."""

    @property
    def load(self) -> Load: ...
    def oldest(self) -> Sequence[Oldest]: ...


class Telemetry:
    """Hears what path, stream and cache have to tell, and keeps metrics, health and log of it."""

    def __init__(self, metrics: Metrics, health: Health, clock: Callable[[], float]) -> None:
        self._metrics, self._health, self._clock = metrics, health, clock
        self._log: Any = structlog.get_logger("rsafe.worker")
        self._told: dict[str, float] = {}
        self._stream: StreamView | None = None
        self._guard_down_at: float | None = clock()
        metrics.guard_down_seconds.set_function(self._guard_down_s)
        self._policies_at = clock()
        metrics.policies_age.set_function(lambda: self._clock() - self._policies_at)

    # the path

    def decided(self, decision: Decision) -> None:
        metrics, timings = self._metrics, decision.timings
        cache = "hit" if decision.cache.hit else "miss"
        metrics.decisions.labels(decision.status, decision.action, cache).inc()
        metrics.event_seconds.observe((timings.lag_ms + timings.total_ms) / 1000)
        metrics.decision_seconds.observe(timings.total_ms / 1000)
        if decision.status == "unjudged" and decision.reason is not None:
            metrics.unjudged.labels(decision.reason).inc()
        elif decision.status == "judged":
            violated = violated_of(decision.action, decision.categories)
            if violated is not None:
                self._violated(violated, 1)
        self._log.debug(
            "An event was decided.",
            decision_id=decision.decision_id,
            event_id=decision.event_id,
            partition=decision.origin.partition,
            offset=decision.origin.offset,
            status=decision.status,
            action=decision.action,
            reason=decision.reason,
            remembered=decision.cache.hit,
            total_ms=round(timings.total_ms, 1),
            trace_id=decision.trace_id,
        )

    def remembered(
        self,
        actions: Sequence[Action],
        lags_ms: Sequence[float],
        total_ms: float,
        violated: Sequence[Violated] = (),
    ) -> None:
        """Count a batch; a lookup of labels an action, and a look for the bucket a lag, of which the broker
        stamps few."""
        metrics = self._metrics
        for action, count in Counter(actions).items():
            metrics.decisions.labels("judged", action, "hit").inc(count)
        for lag_ms, count in Counter(lags_ms).items():
            metrics.event_seconds.observe_many((lag_ms + total_ms) / 1000, count)
        metrics.decision_seconds.observe_many(total_ms / 1000, len(actions))
        for what, count in Counter(violated).items():
            self._violated(what, count)
        self._log.debug(
            "Events were decided by remembered verdicts.", events=len(actions), total_ms=round(total_ms, 1)
        )

    def _violated(self, violated: Violated, times: int) -> None:
        metrics = self._metrics
        for code in violated.codes or (UNNAMED,):
            label = code if code == UNNAMED else metrics.category(code)
            metrics.violations.labels(label, violated.action).inc(times)

    def signed(self, sign: Sign) -> None:
        self._metrics.injections.labels(sign).inc()

    def published(self, timestamps_ms: Sequence[int], now_ms: float) -> None:
        """Outcomes of records with these timestamps are with the broker; `now_ms` in its time."""
        observe = self._metrics.verdict_age_seconds.observe_many
        for stamp, count in Counter(timestamps_ms).items():
            observe(max(0.0, now_ms - stamp) / 1000, count)

    def dead_lettered(self, reason: str) -> None:
        self._metrics.dead_letters.labels(reason).inc()
        self._log.debug("A record became a dead letter.", reason=reason)

    def asked(self, answer: Verdict | Unjudged, seconds: float, mode: Mode) -> None:
        self._metrics.answers.labels("verdict" if isinstance(answer, Verdict) else "unjudged").inc()
        if isinstance(answer, Verdict):
            self._metrics.verdicts.labels(answer.mode, answer.way).inc()
            if answer.score is not None:
                self._metrics.scores.of[answer.way].observe(answer.score)
        self._metrics.guard_seconds.of[mode].observe(seconds)
        self._metrics.prompt_tokens.inc(sum(step.prompt_tokens for step in answer.steps))
        self._metrics.cached_prompt_tokens.inc(sum(step.cached_tokens for step in answer.steps))
        self._metrics.completion_tokens.inc(sum(step.completion_tokens for step in answer.steps))

    def suspected(self, deaths: int) -> None:
        self._metrics.suspects.inc()
        if self._may_tell("suspects"):
            self._log.warning(
                "The guard died with messages in it; they are judged one at a time.", deaths_alone=deaths
            )

    def unexpected(self, where: str, error: BaseException) -> None:
        self._metrics.unexpected.labels(where).inc()
        if self._may_tell(f"unexpected {where} {type(error).__name__}"):
            self._log.error(
                "An unexpected error; the record has an outcome all the same.",
                where=where,
                error=type(error).__name__,
                places=places(error.__traceback__),
            )

    # the stream

    def watch(self, stream: StreamView) -> None:
        """Show what this stream has in flight."""
        metrics, self._stream = self._metrics, stream
        metrics.oldest_seconds.ask = stream.oldest
        self._health.slow = lambda: [
            f"partition {slow.partition}: offset {slow.offset} has waited {slow.seconds:.0f} s: {slow.stage}"
            for slow in stream.oldest()
            if slow.seconds >= SLOW_S
        ]
        metrics.window_records.set_function(lambda: stream.load.records)
        metrics.window_bytes.set_function(lambda: stream.load.size)
        metrics.window_tokens.set_function(lambda: stream.load.tokens)

    def watch_guard(self, calls: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Show how many calls are at the engine, and how many questions wait before the guard."""
        self._metrics.guard_calls.set_function(calls)
        self._metrics.guard_waiting.set_function(waiting)

    def watch_lags(self, lags: Callable[[], Sequence[Lag]], silent_s: Callable[[], float]) -> None:
        """Show how far behind the partitions are, and for how many seconds no broker has answered."""
        self._metrics.lags.ask = lags
        self._metrics.broker_silent.set_function(silent_s)

    def watch_local_cache(self, entries: Callable[[], int], size: Callable[[], int]) -> None:
        """Show how much the process remembers; `size` in bytes."""
        self._metrics.local_entries.set_function(entries)
        self._metrics.local_bytes.set_function(size)

    def watch_shared_cache(self, servers: Callable[[], Sequence[tuple[bool, bool]]]) -> None:
        """Show the servers of the shared cache: of each whether it is left alone for reading, for writing."""
        self._metrics.cache_servers.set_function(lambda: len(servers()))
        for place, use in enumerate(USES):
            gauge = self._metrics.cache_left_alone.labels(use)
            gauge.set_function(partial(_left_alone, servers, place))

    def guard_in_force(self, guard: GuardUsed) -> None:
        """This guard answers from now on."""
        verified = "yes" if guard.verified else "no"
        self._metrics.checkpoint.show(
            [
                (
                    guard.model,
                    guard.checkpoint_digest,
                    guard.weights_digest,
                    guard.template_version,
                    guard.engine,
                    guard.engine_version,
                    verified,
                )
            ]
        )

    def policies_in_force(self, fingerprint: str, policies: Sequence[PolicyUsed]) -> None:
        """What is read from now on is judged by these, in the order of their ids."""
        self._metrics.policies.set(len(policies))
        self._metrics.policy_set.show([(fingerprint,)])
        shown = policies[:MOST_POLICIES]
        self._metrics.policy.show([(one.id, one.version, one.policy_hash) for one in shown])

    def looked(self, tier: str, hits: int, misses: int) -> None:
        """Verdicts were looked up in a tier of the cache."""
        if hits:
            self._metrics.lookups.labels(tier, "hit").inc(hits)
        if misses:
            self._metrics.lookups.labels(tier, "miss").inc(misses)

    def watch_fleet(self, fleet: Callable[[], FleetView | None]) -> None:
        """Show the servers of the engine `remote`; None: it has none."""
        self._metrics.fleet.ask = fleet
        self._health.servers = lambda: [
            f"server {one.name}: {one.state}: {one.why}"
            for one in (fleet() or FleetView()).endpoints
            if one.state != "serving"
        ]

    def endpoint_changed(self, name: str, state: str, why: str) -> None:
        """A server of the engine `remote` gets calls now, or none any more."""
        if state == "serving":
            self._log.info("A server of the guard answers.", server=name)
        else:
            self._log.warning("A server of the guard gets no calls.", server=name, why=why)

    def beat(self, in_flight: int) -> None:
        self._health.beat()
        self._metrics.in_flight.set(in_flight)
        if self._stream is not None and self._may_tell("oldest"):
            for oldest in self._stream.oldest():
                if oldest.seconds >= SLOW_S:
                    self._log.warning(
                        "An offset keeps its partition waiting.",
                        partition=oldest.partition,
                        offset=oldest.offset,
                        waiting_for=oldest.stage,
                        seconds=round(oldest.seconds),
                    )

    def partitions(self, numbers: Collection[int]) -> None:
        self._health.joined = True
        self._metrics.partitions.set(len(numbers))
        self._log.info("The partitions of this worker changed.", partitions=sorted(numbers))

    def discarded(self, partition: int, records: int, why: str) -> None:
        self._metrics.discarded.labels(why).inc(records)
        self._log.warning("Records in flight were given up.", partition=partition, records=records, why=why)

    def committed(self, asked: int, taken: int) -> None:
        self._metrics.commits.labels("taken").inc(taken)
        if taken:
            self._metrics.last_commit.set_to_current_time()
        if taken < asked:
            self._metrics.commits.labels("refused").inc(asked - taken)
            if self._may_tell("commit"):
                self._log.warning("The broker did not take all offsets; they are tried again.", asked=asked)

    def failed(self, error: BaseException) -> None:
        name = type(error).__name__
        self._log.error(
            "An unexpected error stops the stream.", error=name, places=places(error.__traceback__)
        )

    # guard and cache

    def guard_changed(self, down: bool) -> None:
        self._health.guard_ready = not down
        self._metrics.guard_up.set(0 if down else 1)
        was_down_s, self._guard_down_at = self._guard_down_s(), self._clock() if down else None
        if down:
            self._log.error("The guard is down; it is being brought back.")
        else:
            self._metrics.guard_restarts.labels("answers").inc()
            self._log.info("The guard answers.", after_s=round(was_down_s, 1))

    def guard_not_back(self, error: Exception, pause_s: float) -> None:
        self._metrics.guard_restarts.labels("failed").inc()
        # Errors of the guard are one sentence for a person and hold no message text.
        self._log.error("The guard did not come back; it is tried again.", why=str(error), pause_s=pause_s)

    def _guard_down_s(self) -> float:
        return 0.0 if self._guard_down_at is None else self._clock() - self._guard_down_at

    def cache_failed(self, operation: str, kind: str) -> None:
        self._metrics.cache_failures.labels(operation).inc()
        if self._may_tell("cache"):
            self._log.warning(
                "The shared cache failed; its verdicts are misses.", operation=operation, error=kind
            )

    def leased(self, outcome: str) -> None:
        self._metrics.leases.labels(outcome).inc()

    # the policies

    def policy_record(self, outcome: str) -> None:
        self._metrics.policy_records.labels(outcome).inc()

    def policy_refused(self, letter: DeadLetter) -> None:
        self.dead_lettered(letter.reason)
        self._log.error(
            "A record of the topic of policies is refused; the version before stays in force.",
            partition=letter.partition,
            offset=letter.offset,
            field=letter.field,
            why=letter.sentence,
        )

    def policies_changed(self, book: PolicyBook) -> None:
        """Another snapshot is in force, or the first one."""
        self._policies_at = self._clock()
        self.policies_in_force(book.fingerprint, book.used())
        self._log.info(
            "The policies in force changed.",
            policies=len(book.policies.all),
            fingerprint=book.fingerprint,
        )

    def policies_not_followed(self, why: str) -> None:
        if self._may_tell("policies"):
            self._log.warning("The topic of policies is not followed now; it is tried again.", why=why)

    # the links

    def link_renewed(self, link: str) -> None:
        self._metrics.link_renewals.labels(link, "used").inc()
        self._log.info("A changed password or certificate is in use.", link=link)

    def link_not_renewed(self, link: str, why: str) -> None:
        self._metrics.link_renewals.labels(link, "refused").inc()
        if self._may_tell(f"link {link}"):
            self._log.warning(
                "A changed password or certificate cannot be used yet; the old one stays.", link=link, why=why
            )

    # traces; told by the thread that sends them

    def spans_exported(self, spans: int) -> None:
        self._metrics.spans.labels("exported").inc(spans)

    def spans_lost(self, outcome: Literal["failed", "dropped"], spans: int, why: str) -> None:
        self._metrics.spans.labels(outcome).inc(spans)
        if self._may_tell(f"spans {outcome}"):
            self._log.warning("Spans are lost; no event is held up.", spans=spans, outcome=outcome, why=why)

    def say(self, sentence: str, **facts: object) -> None:
        """A line for the operator, at level info."""
        self._log.info(sentence, **facts)

    def warn(self, sentence: str, **facts: object) -> None:
        self._log.warning(sentence, **facts)

    def _may_tell(self, what: str) -> bool:
        now = self._clock()
        if now < self._told.get(what, float("-inf")) + _REPEAT_S:
            return False
        self._told[what] = now
        return True


def _left_alone(servers: Callable[[], Sequence[tuple[bool, bool]]], place: int) -> int:
    return sum(server[place] for server in servers())
