"""The path of an event, top to bottom:

    read event → choose policy → recall verdict → ask guard → keep verdict → make decision → publish

A batch takes the first three steps together, with one round trip to the cache. What is known by then is
decided within the batch; each question for the guard becomes a task and takes the last four steps alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from guard.errors import EngineDead
from schemas.decision import Decision, GuardUsed, Origin, decision_id
from schemas.identifiers import Mode
from schemas.keys import record_key
from schemas.verdict import Unjudged, Verdict
from workers.moderation.ask_guard import SingleFlight, ask_guard, deadline_ms, question_of
from workers.moderation.choose_policy import PolicyBook
from workers.moderation.fingerprint import TenantFingerprints
from workers.moderation.keep_verdict import cacheable, keep_verdict
from workers.moderation.make_decision import answer_of, make_decision, weigh
from workers.moderation.outcome import (
    Answer,
    Asked,
    ChosenPolicy,
    DeadLettered,
    Decided,
    Judgement,
    NotApplicable,
    NotJudged,
    RationaleForm,
    Rejection,
    Source,
    Took,
    Weighed,
)
from workers.moderation.publish import Topics, dead_letter, publication_of
from workers.moderation.read_event import EventLimits, decode_event
from workers.moderation.recall_verdict import VerdictKeys, judged_before, recall_verdicts, use_of
from workers.moderation.trace import read_trace
from workers.ports import CachedVerdict, Clock, Guard, Pending, Publication, Record, Report, VerdictCache
from workers.stream.outage import Outage
from workers.stream.window import GuardBudget

# Entries are a kilobyte; beyond, what is remembered is weighed anew, a few microseconds each.
_MOST_WEIGHED: Final = 8192


class PathObserver(Protocol):
    """Is told what became of events; must not wait."""

    def decided(self, decisions: Sequence[Decision]) -> None: ...
    def dead_lettered(self, reason: str) -> None: ...
    def asked(self, answer: Verdict | Unjudged, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class PathOptions:
    """What a worker is told of its path. `ttl_s`: how long a verdict is kept, unless its policy says."""

    limits: EventLimits
    topics: Topics
    rationale: RationaleForm
    ttl_s: int


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
        clock: Clock,
        observer: PathObserver,
    ) -> None:
        self._options, self._policies, self._fingerprints, self._keys = options, policies, fingerprints, keys
        self._guards, self._guard, self._cache, self._budget = guards, guard, cache, budget
        self._outage, self._clock, self._observer = outage, clock, observer
        self._flights: SingleFlight[Judgement] = SingleFlight()
        self._weighed: dict[int, tuple[CachedVerdict, ChosenPolicy, Weighed]] = {}

    def use(self, policies: PolicyBook) -> None:
        """Judge what is read from now on by another snapshot of policies."""
        self._policies = policies

    async def moderate(self, records: Sequence[Record]) -> list[Publication | Pending]:
        """One result per record, same order."""
        read_at, policies = self._clock.now_ms(), self._policies
        batch = [self._read(record, policies, read_at) for record in records]
        questions = [ask for ask in batch if isinstance(ask, Asked) and _applies(ask)]
        recalled = iter(await recall_verdicts(questions, self._cache))
        now = self._clock.now_ms()
        took = Took(total_ms=max(0.0, now - read_at))
        results: list[Publication | Pending] = []
        decisions: list[Decision] = []
        for ask in batch:
            if isinstance(ask, DeadLettered):
                results.append(self._dead_letter(ask))
                continue
            if not _applies(ask):
                decision = make_decision(ask, weigh(NotApplicable(), ask.chosen), Source(), took)
            elif (cached := next(recalled)) is not None:
                decision = make_decision(ask, self._weigh(ask, cached), Source(use_of(cached, now)), took)
            else:
                tokens = self._guard.estimate_tokens(question_of(ask))
                results.append(Pending(ask.line, partial(self._judge, ask), tokens))
                continue
            decisions.append(decision)
            results.append(publication_of(Decided(decision, ask), self._options.topics))
        self._observer.decided(decisions)
        return results

    def undeliverable(self, record: Record) -> Publication:
        """The dead letter of a record whose decision does not fit its topic."""
        sentence = "the decision is larger than its topic takes"
        return self._dead_letter(dead_letter(record, "undeliverable", "$", sentence))

    def _read(self, record: Record, policies: PolicyBook, read_at: float) -> Asked | DeadLettered:
        event = decode_event(record.value, self._options.limits)
        if isinstance(event, Rejection):
            return dead_letter(record, event.reason, event.field, event.sentence)
        chosen = policies.choose(event)
        if isinstance(chosen, Rejection):
            return dead_letter(record, chosen.reason, chosen.field, chosen.sentence)
        fingerprints = self._fingerprints.of(event.tenant)
        content_mac = fingerprints.text(event.message.text)
        context_digest = fingerprints.context(event.context)
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
            self._keys.key(event, chosen, content_mac, context_digest),
            read_at,
            read_trace(record.headers),
        )

    def _weigh(self, ask: Asked, cached: CachedVerdict) -> Weighed:
        """A remembered verdict under the policy; worked out once for as long as both are the same objects."""
        known = self._weighed.get(id(cached))
        if known is not None and known[0] is cached and known[1] is ask.chosen:
            return known[2]
        guard = self._guards[ask.chosen.policy.mode]
        weighed = weigh(judged_before(ask, cached, guard, self._options.rationale), ask.chosen)
        if len(self._weighed) >= _MOST_WEIGHED:
            self._weighed.clear()
        self._weighed[id(cached)] = (cached, ask.chosen, weighed)
        return weighed

    def _dead_letter(self, outcome: DeadLettered) -> Publication:
        self._observer.dead_lettered(outcome.letter.reason)
        return publication_of(outcome, self._options.topics)

    async def _judge(self, ask: Asked, report: Report) -> Publication:
        """The last four steps of a question that nobody answered before."""
        begun_s = self._clock.monotonic_s()
        answer, source, asked_s, guard_s = await self._answer(ask, report)
        took = Took(
            queue_ms=max(0.0, asked_s - begun_s) * 1000,
            guard_ms=guard_s * 1000,
            total_ms=max(0.0, self._clock.now_ms() - ask.read_at_ms),
        )
        decision = make_decision(ask, weigh(answer, ask.chosen), source, took)
        self._observer.decided([decision])
        return publication_of(Decided(decision, ask), self._options.topics)

    async def _answer(self, ask: Asked, report: Report) -> tuple[Answer, Source, float, float]:
        """The answer, when the guard was asked (monotonic seconds), and how long it took."""
        late_ms, used = deadline_ms(ask), self._guards[ask.chosen.policy.mode]
        while True:
            now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
            if late_ms is not None and now_ms >= late_ms:
                return NotJudged(Unjudged(reason="late", detail="not asked")), Source(), now_s, 0.0
            report("queue")
            try:
                judgement, shared = await self._flights.join(
                    ask.cache_key,
                    partial(self._ask_and_keep, ask, report),
                    None if late_ms is None else (late_ms - now_ms) / 1000,
                )
            except TimeoutError:
                waited_s = self._clock.monotonic_s() - now_s
                return (
                    NotJudged(Unjudged(reason="late", detail="no answer in time"), used),
                    Source(),
                    now_s,
                    waited_s,
                )
            except EngineDead:
                self._outage.begin()
                if ask.chosen.policy.on_unavailable != "hold":
                    return NotJudged(Unjudged(reason="unavailable")), Source(), now_s, 0.0
                report("hold")
                await self._outage.hold()
                late_ms = None  # what waited for the guard is judged late rather than not at all
                continue
            return *answer_of(judgement, used, shared=shared), judgement.asked_s, judgement.guard_s

    async def _ask_and_keep(self, ask: Asked, report: Report) -> Judgement:
        """One question to the guard, whoever waits for the answer."""
        question = question_of(ask)
        async with self._budget.hold(self._guard.estimate_tokens(question)):
            if self._outage.down:
                raise EngineDead("the guard is being brought back")
            asked_s = self._clock.monotonic_s()
            report("guard")
            answer = await ask_guard(question, self._guard)
            guard_s = self._clock.monotonic_s() - asked_s
        self._observer.asked(answer, guard_s)
        kept: CachedVerdict | Unjudged
        if isinstance(answer, Verdict):
            used = self._guards[ask.chosen.policy.mode]
            kept = cacheable(ask, answer, used, self._options.rationale, self._clock.now_ms())
            report("cache")
            await keep_verdict(ask, kept, self._cache, self._options.ttl_s)
        else:
            kept = answer
        return Judgement(ask.decision_id, kept, asked_s, guard_s)


def _applies(ask: Asked) -> bool:
    return ask.event.message.role in ask.chosen.surfaces
