"""From a question to its answer: its deadline, a place at the guard, and what follows when the guard dies.

- Past its deadline a question is not asked. One that runs out of time at the guard is aborted there, unless
  somebody else waits for the same answer.
- A dead guard says nothing of a question. Policies that hold wait for it; a deadline that passes meanwhile
  does not count. The others are answered `unavailable` at once.
- Questions that were at the guard when it died, and are held, are asked again alone, one after another. What
  was alone at two deaths is not asked again.
- Whatever else goes wrong with one question is an answer as well, and never stops the stream.

A little over 300 lines: the ways in which a question can end are read in one piece.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Final, Protocol

import msgspec

from guard.errors import EngineDead
from guard.serving.call_trace import CallTrace, TracedCall
from guard.serving.question import Question
from schemas.decision import GuardUsed
from schemas.identifiers import Mode
from schemas.verdict import Unjudged, Verdict
from workers.moderation.ask_guard import SingleFlight, ask_guard, deadline_ms, question_of
from workers.moderation.keep_verdict import cacheable, keep_verdict, lifetime_s
from workers.moderation.make_decision import answer_of
from workers.moderation.outcome import Answer, Asked, Judgement, NotJudged, Source
from workers.moderation.recall_verdict import judged_before, use_of
from workers.moderation.spans import call_trace
from workers.ports import CachedVerdict, Clock, Guard, RationaleForm, Report, Stage, Turns, VerdictCache
from workers.stream.budget import Claim, GuardBudget
from workers.stream.outage import Outage
from workers.stream.suspects import Place, Suspects

# Outages whose deadlines do not count; a guard that fails more often than its backlog is worked off is rare.
_OUTAGES: Final = 16
# How a question may fail that says nothing of the question: the task or the program is told to end.
_ENDINGS: Final = (asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit)


class BrokersClock(Clock, Protocol):
    """A clock in the broker's time, which it learns."""

    @property
    def sure(self) -> bool:
        """Whether a wrong clock would have been found out."""
        ...

    async def become_sure(self) -> None:
        """Wait for that; at once for the first who asks, since somebody has to go ahead."""
        ...

    def read(self, timestamp_ms: float) -> None:
        """A record with this timestamp was read."""
        ...


class AskingObserver(Protocol):
    """Is told how asking goes; must not wait."""

    def asked(self, answer: Verdict | Unjudged, seconds: float, mode: Mode) -> None:
        """The guard was asked in this mode and answered after so long."""
        ...

    def suspected(self, deaths: int) -> None:
        """A question was at the guard when it died; `deaths` of these alone."""
        ...

    def unexpected(self, where: str, error: BaseException) -> None:
        """Something failed for one record that should not; the record has an outcome."""
        ...


class Replied(msgspec.Struct, frozen=True, gc=False):
    """An answer, its source, when the guard was asked (monotonic seconds), and how long it took."""

    answer: Answer
    source: Source
    asked_s: float
    guard_s: float = 0.0
    calls: tuple[TracedCall, ...] = ()


class Poisoned(msgspec.Struct, frozen=True, gc=False):
    """The guard died of this question, as far as one can tell; it is not asked again."""


class DiedAsking(EngineDead):
    """The guard died with the question in it."""


class _Inquiry:
    """A judgement in flight: its place at the guard, and who is told what it waits for."""

    __slots__ = ("claim", "reports", "stage", "trace")

    def __init__(self, claim: Claim, trace: CallTrace | None) -> None:
        self.claim, self.trace = claim, trace
        self.stage: Stage = "queue"
        self.reports: list[Report] = []

    def move(self, stage: Stage) -> None:
        self.stage = stage
        for report in self.reports:
            report(stage)


class Asking:
    """Answers questions that nobody answered before. One per worker."""

    def __init__(
        self,
        *,
        guards: Mapping[Mode, GuardUsed],
        guard: Guard,
        cache: VerdictCache,
        budget: GuardBudget,
        outage: Outage,
        suspects: Suspects,
        clock: BrokersClock,
        observer: AskingObserver,
        rationale: RationaleForm,
        ttl_s: int,
        turns: Turns | None = None,
    ) -> None:
        self._guards, self._guard, self._cache, self._budget = guards, guard, cache, budget
        self._outage, self._suspects, self._clock, self._observer = outage, suspects, clock, observer
        self._rationale, self._ttl_s, self._turns = rationale, ttl_s, turns
        self._flights: SingleFlight[_Inquiry, Judgement] = SingleFlight()
        self._held: deque[tuple[float, float]] = deque(maxlen=_OUTAGES)

    def deadline(self, ask: Asked) -> float | None:
        """Until when an answer is of use, in Unix ms of the broker; None: always.

        A deadline that passed while the guard was down does not count where the policy holds.
        """
        until = deadline_ms(ask)
        if until is not None and self._held and ask.chosen.policy.on_unavailable == "hold":
            return None if any(begun <= until <= ended for begun, ended in self._held) else until
        return until

    def expect(self, ask: Asked) -> int:
        """A question that will be asked was read. Its prompt tokens, as estimated."""
        self._suspects.recognise(ask.cache_key, _place(ask))
        return self._guard.estimate_tokens(question_of(ask))

    async def answer(self, ask: Asked, tokens: int, report: Report) -> Replied | Poisoned:
        """The answer, whatever happens. `tokens` as `expect` gave them.

        Raises what a restart of the guard raised when it cannot be brought back.
        """
        place = _place(ask)
        try:
            reply = await self._reply(ask, place, tokens, report)
        except BaseException:  # told to stop, or the guard is gone for good; passed on
            self._suspects.leave(ask.cache_key, place)
            raise
        self._suspects.acquit(ask.cache_key, place)
        return reply

    async def _reply(self, ask: Asked, place: Place, tokens: int, report: Report) -> Replied | Poisoned:
        key, late_ms = ask.cache_key, self.deadline(ask)
        while True:
            if self._suspects.convicted(key):
                return Poisoned()
            if late_ms is not None and self._clock.now_ms() >= late_ms:
                await self._clock.become_sure()
                if self._clock.now_ms() >= late_ms:
                    return Replied(late("not asked"), Source(), self._clock.monotonic_s())
            try:
                return await self._share(ask, tokens, late_ms, report)
            except EngineDead as error:
                self._outage.begin()
                if ask.chosen.policy.on_unavailable != "hold":
                    unavailable = NotJudged(Unjudged(reason="unavailable"))
                    return Replied(unavailable, Source(), self._clock.monotonic_s())
                if isinstance(error, DiedAsking):
                    self._suspects.accuse(key, place)
                    self._observer.suspected(self._suspects.deaths(key))
                if not self._suspects.convicted(key):
                    report("hold")
                    await self._hold()
                    late_ms = None  # what waited for the guard is judged late rather than not at all

    async def _hold(self) -> None:
        begun_ms = self._clock.now_ms()
        await self._outage.hold()
        now_ms = self._clock.now_ms()
        if self._held and begun_ms <= self._held[-1][1]:
            before = self._held.pop()
            begun_ms, now_ms = min(before[0], begun_ms), max(before[1], now_ms)
        self._held.append((begun_ms, now_ms))

    async def _share(self, ask: Asked, tokens: int, late_ms: float | None, report: Report) -> Replied:
        """One judgement for all who ask the same at the same time. Raises `EngineDead`."""
        begun_s, used = self._clock.monotonic_s(), self._guards[ask.chosen.policy.mode]
        left_s = None if late_ms is None else (late_ms - self._clock.now_ms()) / 1000
        deadline_s = None if left_s is None else begun_s + left_s
        flight, shared = self._flights.board(
            ask.cache_key,
            lambda: _Inquiry(
                Claim(tokens, deadline_s=deadline_s, kind=ask.chosen.policy.mode), call_trace(ask.trace)
            ),
            partial(self._judge, ask),
        )
        inquiry = flight.subject
        self._budget.postpone(inquiry.claim, deadline_s)
        inquiry.reports.append(report)
        report(inquiry.stage)
        try:
            judgement = await self._flights.wait(flight, left_s)
        except TimeoutError:
            if not inquiry.claim.admitted:
                return Replied(late("not asked"), Source(), begun_s)
            waited_s = self._clock.monotonic_s() - begun_s
            return Replied(late("no answer in time", used), Source(), begun_s, waited_s)
        finally:
            inquiry.reports.remove(report)
        kept = judgement.kept
        if judgement.elsewhere and isinstance(kept, CachedVerdict):
            remembered = judged_before(ask, kept, used, self._rationale)
            return Replied(remembered, Source(use_of(kept, self._clock.now_ms())), judgement.asked_s)
        answer, source = answer_of(judgement, used, shared=shared)
        return Replied(answer, source, judgement.asked_s, judgement.guard_s, judgement.calls)

    async def _judge(self, ask: Asked, inquiry: _Inquiry) -> Judgement:
        """One question to the guard, whoever waits for the answer. Raises `EngineDead`."""
        asked_s = self._clock.monotonic_s()
        guard_s = 0.0
        kept: CachedVerdict | Unjudged
        try:
            known = await self._wait_for_others(ask, inquiry)
            if known is not None:
                return Judgement(ask.decision_id, known, asked_s, 0.0, elsewhere=True)
            answer, asked_s, guard_s = await self._ask(ask, inquiry)
            kept = await self._keep(ask, answer)
        except (EngineDead, *_ENDINGS):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic in Rust is no Exception; it is an answer
            self._observer.unexpected("judging", error)
            kept = Unjudged(reason="engine_failed", detail=type(error).__name__)
        finally:
            if self._turns is not None:
                self._turns.end(ask.cache_key)
        calls = () if inquiry.trace is None else tuple(inquiry.trace.calls)
        return Judgement(ask.decision_id, kept, asked_s, guard_s, calls=calls)

    async def _wait_for_others(self, ask: Asked, inquiry: _Inquiry) -> CachedVerdict | None:
        """What another worker, which asks the same now, is told; None: ask here."""
        key = ask.cache_key
        if self._turns is None or not lifetime_s(ask, self._ttl_s) or self._suspects.suspected(key):
            return None
        until_s = inquiry.claim.deadline_s
        inquiry.move("cache")
        # Of what is left until the deadline, half is kept for asking.
        verdict = await self._turns.take(
            key, None if until_s is None else (until_s - self._clock.monotonic_s()) / 2
        )
        inquiry.move("queue")
        return verdict

    async def _ask(self, ask: Asked, inquiry: _Inquiry) -> tuple[Verdict | Unjudged, float, float]:
        """The answer, when the guard was asked, and how long it took."""
        key, question = ask.cache_key, question_of(ask)
        if not self._suspects.suspected(key):
            async with self._budget.hold(inquiry.claim):
                return await self._put(question, inquiry)
        async with self._budget.alone():
            self._require_guard()
            inquiry.claim.admitted = True
            inquiry.move("commit")
            async with self._suspects.alone(key):
                try:
                    return await self._put(question, inquiry)
                except DiedAsking:
                    self._suspects.died(key)
                    raise

    async def _put(self, question: Question, inquiry: _Inquiry) -> tuple[Verdict | Unjudged, float, float]:
        self._require_guard()
        inquiry.move("guard")
        asked_s = self._clock.monotonic_s()
        try:
            answer = await ask_guard(question, self._guard, inquiry.trace)
        except EngineDead as error:
            raise DiedAsking("the guard died with the question in it") from error
        except asyncio.CancelledError:  # out of time, mostly
            self._budget.took(question.mode, self._clock.monotonic_s() - asked_s, answered=False)
            raise
        guard_s = self._clock.monotonic_s() - asked_s
        failed = isinstance(answer, Unjudged) and answer.reason == "engine_failed"
        self._budget.took(question.mode, guard_s, answered=not failed)
        self._observer.asked(answer, guard_s, question.mode)
        return answer, asked_s, guard_s

    def _require_guard(self) -> None:
        # What is not asked is no suspect.
        if self._outage.down or not self._guard.alive:
            raise EngineDead("the guard is down")

    async def _keep(self, ask: Asked, answer: Verdict | Unjudged) -> CachedVerdict | Unjudged:
        if isinstance(answer, Unjudged):
            return answer
        used = self._guards[ask.chosen.policy.mode]
        kept = cacheable(ask, answer, used, self._rationale, self._clock.now_ms(), self._ttl_s)
        await keep_verdict(ask, kept, self._cache, self._ttl_s)
        return kept


def late(detail: str, used: GuardUsed | None = None) -> NotJudged:
    """The answer to a question whose deadline has passed; `used` when the guard was asked."""
    return NotJudged(Unjudged(reason="late", detail=detail), used)


def _place(ask: Asked) -> Place:
    return Place(ask.record.partition, ask.record.offset)
