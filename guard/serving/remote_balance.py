"""Which server of a fleet gets a call, and which get none: counts and states, without any network."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

State = Literal["waiting", "serving", "ejected"]
STATES: Final = ("waiting", "serving", "ejected")

# Pauses between looks whether an ejected server is back grow up to so many times the first.
_LONGEST_BACK_OFF: Final = 16


@dataclass(eq=False, slots=True)
class Place:
    """One server as the balance sees it. Instants and durations in seconds, of one clock."""

    most_failures: int
    back_off_s: float
    state: State = "waiting"
    calls: int = 0
    tokens: int = 0
    """Of the calls at it: prompt and longest completion."""
    failures: int = 0
    """In a row; an answer sets them back."""
    busy_until_s: float = field(default=float("-inf"))
    """It said that it has too much to do."""
    why: str = ""
    """Why it is not serving; a sentence without anything of a message."""
    _pause_s: float = 0.0

    def begin(self, tokens: int) -> None:
        """A call is sent to it."""
        self.calls += 1
        self.tokens += tokens

    def end(self, tokens: int) -> None:
        """That call has ended, however it did."""
        self.calls -= 1
        self.tokens -= tokens

    def answered(self) -> None:
        self.failures = 0

    def failed(self) -> bool:
        """Count a failure; True when it was the last that is borne."""
        self.failures += 1
        return self.failures >= self.most_failures

    def admit(self) -> None:
        """It gets calls from now on."""
        self.state, self.failures, self.why = "serving", 0, ""
        self.busy_until_s = float("-inf")

    def steady(self) -> None:
        """It has served for a while: the next ejection begins with the first pause again."""
        self._pause_s = 0.0

    def eject(self, why: str) -> None:
        """It gets no calls from now on."""
        self.state, self.why = "ejected", why

    def pause_s(self) -> float:
        """How long to wait before the next look at it; longer each time."""
        longest = self.back_off_s * _LONGEST_BACK_OFF
        self._pause_s = min(longest, max(self.back_off_s, 2 * self._pause_s))
        return self._pause_s


Some = TypeVar("Some", bound=Place)


def choose(places: Iterable[Some], now_s: float, tried: Collection[Some] = ()) -> Some | None:
    """The serving one with the fewest outstanding tokens, of equals that with the fewest calls.

    Those that a call was at already come last; one that is busy comes not at all, nor does one that is not
    serving: None when there is no other.
    """
    able = [place for place in places if place.state == "serving" and place.busy_until_s <= now_s]
    return min(able, key=lambda place: (place in tried, place.tokens, place.calls), default=None)


def wait_s(places: Iterable[Place], now_s: float) -> float | None:
    """How long until a serving one is not busy any more; None when none is serving."""
    return min(
        (max(0.0, place.busy_until_s - now_s) for place in places if place.state == "serving"), default=None
    )
