"""How much may be at the guard at a time, and who goes next when it is full.

- Without a deadline: first come, first served, and every second place while both kinds wait, so that nobody
  waits for ever.
- With a deadline: the nearest deadline first, as long as everybody who waits can still be answered in time.
  When somebody cannot, more comes in than the guard can take. Then the newest goes first, of those that can
  still be answered in time: first come, first served would ask about each message just before its deadline,
  and throw the work away.
- Whoever cannot be answered in time any more, as far as one can tell, goes when nobody else wants the place.
  So a wrong estimate never keeps the guard idle, and corrects itself.

No clock of its own decides when a claim is given up: whoever waits leaves at its deadline.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

# Share of the newest answer in what is taken as usual: the last ten or twenty count.
_NEWEST_SHARE: Final = 0.1


class Duration:
    """How long the guard usually takes, in seconds: a running mean and mean deviation. Pure."""

    __slots__ = ("_deviation", "_mean")

    def __init__(self) -> None:
        self._mean: float | None = None
        self._deviation = 0.0

    def learn(self, seconds: float, *, answered: bool = True) -> None:
        """From a call; one that was broken off counts when it had taken longer than usual already."""
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
        elif answered or seconds > self._mean:
            error = seconds - self._mean
            self._mean += _NEWEST_SHARE * error
            self._deviation += _NEWEST_SHARE * (abs(error) - self._deviation)

    @property
    def likely_s(self) -> float:
        """Most calls are over by then; 0 while nothing is known."""
        return 0.0 if self._mean is None else self._mean + self._deviation


class Claim:
    """A question that wants a place at the guard. `deadline_s` is an instant on the budget's clock."""

    __slots__ = ("admitted", "deadline_s", "granted", "kind", "number", "tokens")

    def __init__(self, tokens: int, *, deadline_s: float | None = None, kind: str = "") -> None:
        self.tokens, self.deadline_s, self.kind = tokens, deadline_s, kind
        self.admitted = False
        """Whether it was at the guard, or is."""
        self.granted: asyncio.Future[None] | None = None
        self.number = 0


class GuardBudget:
    """Calls and prompt tokens that may be at the guard at a time.

    A question larger than the whole budget goes when nothing else is at the guard.
    """

    def __init__(self, *, calls: int, tokens: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls, self._tokens, self._clock = calls, tokens, clock
        self._used_calls = self._used_tokens = self._waiting_tokens = 0
        self._patient: dict[Claim, None] = {}  # no deadline, in order of arrival
        self._urgent: dict[Claim, None] = {}  # with a deadline, in order of arrival
        self._by_deadline: list[tuple[float, int, Claim]] = []  # heap; entries of who left remain for a while
        self._numbers = itertools.count()
        self._patient_was_last = False
        self._solos: deque[asyncio.Future[None]] = deque()
        self._solo = False
        self._durations: dict[str, Duration] = {}

    @property
    def tokens(self) -> int:
        """Tokens at the guard."""
        return self._used_tokens

    @property
    def waiting(self) -> int:
        """Questions that wait for a place."""
        return len(self._patient) + len(self._urgent) + len(self._solos)

    @property
    def waiting_tokens(self) -> int:
        """Tokens of the questions that wait."""
        return self._waiting_tokens

    @asynccontextmanager
    async def hold(self, claim: Claim) -> AsyncIterator[None]:
        """Take a call and the claim's tokens, waiting for them if need be; given back at the end."""
        if self._solo or self.waiting or not self._fits(claim.tokens):
            claim.granted = asyncio.get_running_loop().create_future()
            self._enter(claim)
            try:
                await claim.granted
            except asyncio.CancelledError:
                if claim.admitted:  # given its place and cancelled in the same moment
                    self._give_back(claim.tokens)
                else:
                    self._leave(claim)
                    self._admit()
                raise
        else:
            self._take(claim)
        try:
            yield
        finally:
            self._give_back(claim.tokens)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Take the whole guard: nobody is admitted until what is there has left, and nobody beside it.

        Several go one after another, before anybody who waits in `hold`.
        """
        if self._solo or self._solos or self._used_calls:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._solos.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._end_solo()
                else:
                    with suppress(ValueError):  # passed over already
                        self._solos.remove(turn)
                    self._admit()
                raise
        else:
            self._solo = True
        try:
            yield
        finally:
            self._end_solo()

    def postpone(self, claim: Claim, deadline_s: float | None) -> None:
        """Somebody who can wait until then, or for ever, asks the same."""
        if claim.deadline_s is None or (deadline_s is not None and deadline_s <= claim.deadline_s):
            return
        waits = claim in self._urgent
        if waits:
            self._leave(claim)
        claim.deadline_s = deadline_s
        if waits:
            self._enter(claim)

    def took(self, kind: str, seconds: float, *, answered: bool = True) -> None:
        """The guard was busy so long with a question of this kind; `answered`: and gave an answer."""
        self._durations.setdefault(kind, Duration()).learn(seconds, answered=answered)

    def _enter(self, claim: Claim) -> None:
        self._waiting_tokens += claim.tokens
        if claim.deadline_s is None:
            self._patient[claim] = None
            return
        claim.number = next(self._numbers)
        self._urgent[claim] = None
        heapq.heappush(self._by_deadline, (claim.deadline_s, claim.number, claim))
        if len(self._by_deadline) > 2 * len(self._urgent) + 16:
            self._by_deadline = [entry for entry in self._by_deadline if self._stands(entry)]
            heapq.heapify(self._by_deadline)

    def _leave(self, claim: Claim) -> None:
        for waiting in (self._patient, self._urgent):
            if claim in waiting:
                del waiting[claim]
                self._waiting_tokens -= claim.tokens

    def _stands(self, entry: tuple[float, int, Claim]) -> bool:
        return entry[2] in self._urgent and entry[2].number == entry[1]

    def _admit(self) -> None:
        while not self._solo:
            if self._solos:
                if self._used_calls:
                    return
                turn = self._solos.popleft()
                if not turn.cancelled():
                    self._solo = True
                    turn.set_result(None)
                continue
            claim = self._next()
            if claim is None or not self._fits(claim.tokens):
                return
            self._leave(claim)
            assert claim.granted is not None
            if not claim.granted.cancelled():
                self._patient_was_last = claim.deadline_s is None
                self._take(claim)
                claim.granted.set_result(None)

    def _next(self) -> Claim | None:
        """Who is to go next, whether it fits or not."""
        first = next(iter(self._patient), None)
        if not self._urgent or (first is not None and not self._patient_was_last):
            return first
        now = self._clock()
        while not self._stands(self._by_deadline[0]):
            heapq.heappop(self._by_deadline)
        nearest = self._by_deadline[0][2]
        if self._can_make_it(nearest, now):
            return nearest
        newest = next(reversed(self._urgent))
        for claim in reversed(self._urgent):
            if self._can_make_it(claim, now):
                return claim
        return first or newest

    def _can_make_it(self, claim: Claim, now: float) -> bool:
        assert claim.deadline_s is not None
        duration = self._durations.get(claim.kind)
        return claim.deadline_s - now > (duration.likely_s if duration is not None else 0.0)

    def _fits(self, tokens: int) -> bool:
        if self._used_calls == 0:
            return True
        return self._used_calls < self._calls and self._used_tokens + tokens <= self._tokens

    def _take(self, claim: Claim) -> None:
        claim.admitted = True
        self._used_calls += 1
        self._used_tokens += claim.tokens

    def _give_back(self, tokens: int) -> None:
        self._used_calls -= 1
        self._used_tokens -= tokens
        self._admit()

    def _end_solo(self) -> None:
        self._solo = False
        self._admit()
