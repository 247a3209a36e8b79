"""The broker's time, from a clock of our own that may be wrong.

Deadlines count from the broker's timestamps, so "now" has to be the broker's as well: with a clock that is an
hour ahead every event would be late, with one that is an hour behind none ever. The machine's clock is
believed as far as it agrees with what is proven:

- No record is read before it was written, so the broker's time is at least that of any record that was read.
- An outcome of ours is stamped by the broker between its sending and its report. That bounds the broker's
  time from both sides, to within a round trip.

Between proofs a monotonic clock carries the bounds on. Pure, but for the two clocks that are passed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

# Two clocks part by less than half of this; bounds widen by so much, in milliseconds a second.
DRIFT_MS_PER_S: Final = 1.0
# A fresh report is asked for after so long, in seconds; until then the bounds have widened by a millisecond.
REPORT_EVERY_S: Final = 1.0
# An outcome is acknowledged within milliseconds. When none is for so long, in seconds, the machine's clock is
# believed.
PATIENCE_S: Final = 5.0


class BrokerClock:
    """A `Clock` in the broker's time. `wall_ms` gives Unix milliseconds, `monotonic_s` never goes back."""

    def __init__(self, wall_ms: Callable[[], float], monotonic_s: Callable[[], float]) -> None:
        self._wall_ms, self.monotonic_s = wall_ms, monotonic_s
        # The bounds are of the difference between broker's time and monotonic time, in milliseconds, as they
        # were at an instant.
        self._least: tuple[float, float] | None = None
        self._most: tuple[float, float] | None = None
        self._sure: asyncio.Event | None = None
        self._settled = False
        self._report_at = float("-inf")

    def now_ms(self) -> float:
        """Unix milliseconds of the broker, as well as is known."""
        at = self.monotonic_s()
        now = self._wall_ms()
        if self._least is not None:
            now = max(now, 1000 * at + self._at_least(at))
        if self._most is not None:
            now = min(now, 1000 * at + self._at_most(at))
        return now

    @property
    def sure(self) -> bool:
        """Whether a clock that is ahead would have been found out."""
        return self._settled

    async def become_sure(self) -> None:
        """Return at once to the first who asks, whose outcome brings the proof; to others, with the proof.

        Without a proof for some seconds the machine's clock is believed.
        """
        if self._settled:
            return
        if self._sure is None:
            self._sure = asyncio.Event()
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._sure.wait()
        except TimeoutError:
            self._settle()

    def read(self, timestamp_ms: float) -> None:
        """A record was read that the broker stamped so; 0: none was."""
        at = self.monotonic_s()
        least = timestamp_ms - 1000 * at
        # Above what an outcome of ours allows, it was not the broker's clock that stamped it.
        if (self._most is None or least <= self._at_most(at)) and (
            self._least is None or least > self._at_least(at)
        ):
            self._least = (least, at)

    def wants_report(self) -> bool:
        """Whether the next outcome should be reported; True at most once a second."""
        at = self.monotonic_s()
        if at < self._report_at:
            return False
        self._report_at = at + REPORT_EVERY_S
        return True

    def reported(self, timestamp_ms: float | None, sent_s: float) -> None:
        """An outcome, sent at a monotonic instant, is acknowledged; None: the broker does not stamp it."""
        at = self.monotonic_s()
        if timestamp_ms is not None:
            least, most = timestamp_ms - 1000 * at, timestamp_ms - 1000 * sent_s
            # Contradicted, the bounds are of a broker's clock that was set since, and the newest word counts.
            if self._most is None or not least <= self._at_most(at) <= most:
                self._most = (most, at)
            if self._least is None or not least <= self._at_least(at) <= most:
                self._least = (least, at)
        self._settle()

    def _at_least(self, at: float) -> float:
        assert self._least is not None
        return self._least[0] - DRIFT_MS_PER_S * (at - self._least[1])

    def _at_most(self, at: float) -> float:
        assert self._most is not None
        return self._most[0] + DRIFT_MS_PER_S * (at - self._most[1])

    def _settle(self) -> None:
        self._settled = True
        if self._sure is not None:
            self._sure.set()
