"""The path of an event, top to bottom:

    read event → choose policy → recall verdict → ask guard → keep verdict → make decision → publish

A batch takes the first three steps together, with one round trip to the cache. What is known by then is
decided within the batch; each question for the guard becomes a task and takes the last four steps alone.

A little over 300 lines: the path is read in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, Protocol

from schemas.decision import Decision, GuardUsed, Origin, decision_id
from schemas.identifiers import Action, Mode, Role
from schemas.keys import record_key
from workers.moderation.asking import Asking, AskingObserver, BrokersClock, Poisoned, Replied, late
from workers.moderation.choose_policy import PolicyBook
from workers.moderation.fingerprint import TenantFingerprints
from workers.moderation.injection_signs import Sign, injection_sign
from workers.moderation.make_decision import make_decision, weigh
from workers.moderation.normalise_event import as_read
from workers.moderation.outcome import (
    Answer,
    Asked,
    ChosenPolicy,
    DeadLettered,
    Decided,
    NotApplicable,
    Rejection,
    Source,
    Took,
    Violated,
    violated_of,
)
from workers.moderation.publish import (
    Topics,
    dead_letter,
    publication_of,
    publication_of_decision,
    without_record,
)
from workers.moderation.read_event import EventLimits, decode_event
from workers.moderation.recall_verdict import VerdictKeys, judged_before, recall_verdicts
from workers.moderation.spans import PathSpans
from workers.moderation.trace import Trace, read_trace
from workers.moderation.write_remembered import in_common, write_remembered
from workers.ports import (
    CachedVerdict,
    Guard,
    Pending,
    Publication,
    RationaleForm,
    Record,
    Report,
    Turns,
    VerdictCache,
)
from workers.stream.budget import GuardBudget
from workers.stream.outage import Outage
from workers.stream.suspects import Place, Suspects

# Entries are two kilobytes; beyond, what is remembered is weighed anew, ten microseconds each.
_MOST_KNOWN: Final = 2_048
_POISONED: Final = (
    "the guard ended twice while it was alone with this message, or with one that asks the same"
)
_FAILED: Final = "an unexpected error came up in the worker"


class PathObserver(AskingObserver, Protocol):
    """Is told what became of events; must not wait."""

    def decided(self, decision: Decision) -> None: ...

    def remembered(
        self,
        actions: Sequence[Action],
        lags_ms: Sequence[float],
        total_ms: float,
        violated: Sequence[Violated],
    ) -> None:
        """Decisions of one batch from remembered verdicts: of each its action and `Timings.lag_ms`; of all
        their `Timings.total_ms`; of those that act, what is violated."""

    def signed(self, sign: Sign) -> None:
        """A message holds words of a guard's or a model's own format."""

    def dead_lettered(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class PathOptions:
    """What a worker is told of its path. `ttl_s`: how long a verdict is kept, unless its policy says."""

    limits: EventLimits
    topics: Topics
    rationale: RationaleForm
    ttl_s: int


class _InCommon(NamedTuple):
    """What the decisions about all events with a remembered verdict have in common, under one policy."""

    cached: CachedVerdict
    chosen: ChosenPolicy
    role: Role
    written: bytes
    action: Action
    violated: Violated | None


class ModerationPath:
    """Makes a publication of every record, at once or later. One per worker."""

    def __init__(
        self,
        *,
        options: PathOptions,
        policies: PolicyBook,
        fingerprints: TenantFingerprints,
        keys: VerdictKeys,
        guards: Mapping[Mode, GuardUsed],
        guard: Guard,
        cache: VerdictCache,
        budget: GuardBudget,
        outage: Outage,
        suspects: Suspects,
        clock: BrokersClock,
        observer: PathObserver,
        turns: Turns | None = None,
        spans: PathSpans | None = None,
    ) -> None:
        """`spans`: where the way of an event is recorded; None: it is not."""
        self._spans = spans
        self._read_trace = read_trace if spans is None else spans.begin
        self._options, self._limits, self._topics = options, options.limits, options.topics
        self._policies, self._fingerprints, self._keys = policies, fingerprints, keys
        self._guards, self._cache, self._suspects = guards, cache, suspects
        self._clock, self._observer = clock, observer
        self._asking = Asking(
            guards=guards,
            guard=guard,
            cache=cache,
            budget=budget,
            outage=outage,
            suspects=suspects,
            clock=clock,
            observer=observer,
            rationale=options.rationale,
            ttl_s=options.ttl_s,
            turns=turns,
        )
        self._known: dict[int, _InCommon] = {}

    def use(self, policies: PolicyBook) -> None:
        """Judge what is read from now on by another snapshot of policies."""
        self._policies = policies

    async def moderate(self, records: Sequence[Record]) -> list[Publication | Pending]:
        """One result per record, same order."""
        self._clock.read(max((record.timestamp_ms for record in records if record.stamped), default=0))
        read_at, policies = self._clock.now_ms(), self._policies
        batch = [self._read(record, policies, read_at) for record in records]
        questions = [ask for ask in batch if type(ask) is Asked and _applies(ask)]
        recalled = iter(await recall_verdicts(questions, self._cache))
        now = self._clock.now_ms()
        took = Took(total_ms=max(0.0, now - read_at))
        results: list[Publication | Pending] = []
        actions: list[Action] = []
        lags: list[float] = []
        spans = self._spans
        violated: list[Violated] = []
        for ask in batch:
            if type(ask) is DeadLettered:
                results.append(self._dead_letter(ask, read_at))
                continue
            assert type(ask) is Asked
            cached = next(recalled) if _applies(ask) else None
            try:
                if cached is None:
                    results.append(self._decide_at_once(ask, now, took))
                    continue
                common = self._in_common(ask, cached)
                decision = write_remembered(ask, cached, common.written, now, took)
                publication = publication_of_decision(ask, decision, self._topics)
                if spans is not None:
                    publication = spans.remembered(ask, publication, common.action, now)
                results.append(publication)
            except Exception as error:  # noqa: BLE001 - an outcome of this record, told and counted
                results.append(self._unexpected(ask.record, "deciding", error))
                continue
            actions.append(common.action)
            if common.violated is not None:
                violated.append(common.violated)
            lags.append(read_at - ask.record.timestamp_ms)
        if actions:
            self._observer.remembered(actions, lags, took.total_ms, violated)
        if self._suspects.any:
            self._clear(records, results)
        return results

    def _clear(self, records: Sequence[Record], results: Sequence[Publication | Pending]) -> None:
        """What was a suspect in a worker before, and is decided without being asked, is none any more."""
        for record, result in zip(records, results, strict=True):
            if not isinstance(result, Pending):
                self._suspects.clear(Place(record.partition, record.offset))

    def _decide_at_once(self, ask: Asked, now: float, took: Took) -> Publication | Pending:
        """What becomes of an event without a remembered verdict, which alone is never late."""
        if not _applies(ask):
            return self._publish(ask, NotApplicable(), Source(), took)
        until = self._asking.deadline(ask)
        if until is not None and now >= until and self._clock.sure:
            return self._publish(ask, late("not asked"), Source(), took)
        tokens = self._asking.expect(ask)
        return Pending(ask.line, partial(self._judge, ask, tokens), tokens)

    def _publish(
        self,
        ask: Asked,
        answer: Answer,
        source: Source,
        took: Took,
        reply: Replied | None = None,
        begun_s: float | None = None,
    ) -> Publication:
        decision = make_decision(ask, weigh(answer, ask.chosen, _role(ask)), source, took)
        publication = publication_of(Decided(decision, ask), self._topics)
        self._observer.decided(decision)
        if self._spans is None:
            return publication
        if reply is None:
            return self._spans.decided(ask, publication, decision)
        return self._spans.decided(
            ask, publication, decision, begun_s=begun_s, asked_s=reply.asked_s, calls=reply.calls
        )

    def undeliverable(self, record: Record, letter: Publication | None) -> Publication:
        """The dead letter of a record whose decision does not fit its topic, or a refused one, shortened.

        Raises `StreamStopped` when it was shortened before.
        """
        if letter is not None:
            return without_record(letter)
        sentence = "the decision is larger than its topic takes"
        return self._dead_letter(dead_letter(record, "undeliverable", "$", sentence))

    def _read(self, record: Record, policies: PolicyBook, read_at: float) -> Asked | DeadLettered:
        try:
            return self._asked(record, policies, read_at)
        except Exception as error:  # noqa: BLE001 - an outcome of this record, told and counted
            self._observer.unexpected("reading", error)
            return _failed(record, error)

    def _asked(self, record: Record, policies: PolicyBook, read_at: float) -> Asked | DeadLettered:
        event = decode_event(record.value, self._limits)
        if isinstance(event, Rejection):
            return dead_letter(record, event.reason, event.field, event.sentence)
        chosen = policies.choose(event)
        if isinstance(chosen, Rejection):
            return dead_letter(record, chosen.reason, chosen.field, chosen.sentence)
        read = as_read(event)
        if (sign := injection_sign(read.message.text)) is not None:
            self._observer.signed(sign)
        fingerprints = self._fingerprints.of(event.tenant)
        content_mac = read_mac = fingerprints.text(event.message.text)
        if read.message is not event.message:
            read_mac = fingerprints.text(read.message.text)
        context = read.context
        context_digest = fingerprints.context(context) if context else fingerprints.empty_context
        origin = Origin(topic=record.topic, partition=record.partition, offset=record.offset)
        return Asked(
            record,
            event,
            chosen,
            origin,
            decision_id(origin=origin, event_id=event.event_id),
            record_key(event.tenant, event.conversation_id),
            content_mac,
            context_digest,
            self._keys.key(read, chosen, read_mac, context_digest),
            read_at,
            self._read_trace(record.headers),
            read,
        )

    def _in_common(self, ask: Asked, cached: CachedVerdict) -> _InCommon:
        """Of a remembered verdict under the policy; made once for as long as both are the same objects."""
        role, known = _role(ask), self._known.get(id(cached))
        if known is not None and known.cached is cached and known.chosen is ask.chosen and known.role == role:
            return known
        guard = self._guards[ask.chosen.policy.mode]
        weighed = weigh(judged_before(ask, cached, guard, self._options.rationale), ask.chosen, role)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        violated = violated_of(weighed.action, weighed.categories)
        made = _InCommon(cached, ask.chosen, role, in_common(ask, weighed), weighed.action, violated)
        self._known[id(cached)] = made
        return made

    def _dead_letter(
        self, outcome: DeadLettered, read_at_ms: float | None = None, trace: Trace | None = None
    ) -> Publication:
        """Its way is recorded where it is known when it was read, and ends here."""
        self._observer.dead_lettered(outcome.letter.reason)
        publication, record = publication_of(outcome, self._topics), outcome.record
        if self._spans is None or read_at_ms is None:
            return publication
        trace = trace or self._spans.begin(record.headers)
        return self._spans.dead_lettered(record, trace, publication, outcome.letter.reason, read_at_ms)

    def _unexpected(self, record: Record, where: str, error: Exception) -> Publication:
        self._observer.unexpected(where, error)
        return self._dead_letter(_failed(record, error))

    async def _judge(self, ask: Asked, tokens: int, report: Report) -> Publication:
        """The last four steps of a question that nobody answered before."""
        begun_s = self._clock.monotonic_s()
        reply = await self._asking.answer(ask, tokens, report)
        if isinstance(reply, Poisoned):
            letter = dead_letter(ask.record, "poisoned", "$", _POISONED)
            return self._dead_letter(letter, ask.read_at_ms, ask.trace)
        try:
            return self._decide(ask, reply, begun_s)
        except Exception as error:  # noqa: BLE001 - an outcome of this record, told and counted
            return self._unexpected(ask.record, "deciding", error)

    def _decide(self, ask: Asked, reply: Replied, begun_s: float) -> Publication:
        took = Took(
            queue_ms=max(0.0, reply.asked_s - begun_s) * 1000,
            guard_ms=reply.guard_s * 1000,
            total_ms=max(0.0, self._clock.now_ms() - ask.read_at_ms),
        )
        return self._publish(ask, reply.answer, reply.source, took, reply, begun_s)


def _applies(ask: Asked) -> bool:
    return ask.event.message.role in ask.chosen.surfaces


def _role(ask: Asked) -> Role:
    return ask.event.message.role


def _failed(record: Record, error: Exception) -> DeadLettered:
    """What cannot be an outcome of this version; the bytes are kept. Names of errors are names of code."""
    return dead_letter(record, "poisoned", "$", f"{_FAILED} ({type(error).__name__})")
