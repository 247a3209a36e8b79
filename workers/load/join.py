"""What was sent and what came back, put together by the number of the event."""

from __future__ import annotations

import math
from array import array
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from workers.load.drive import Sent
from workers.load.follow import DEAD_LETTER, Outcomes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PERCENTS: Final = (50.0, 90.0, 95.0, 99.0, 99.9)


class Joined(NamedTuple):
    """Outcomes in the order in which they came, one row each; arrays of one length."""

    numbers: Ints
    kinds: npt.NDArray[np.uint8]
    reasons: Ints
    """Index into the words of the outcomes; -1: none."""
    intended_s: Floats
    """When the event was due; at the rate `max`, and of the pool, when it was sent."""
    seen_s: Floats
    latency_ms: Floats
    """From there to the consumption of the decision; nan of a dead letter."""
    broker_ms: Floats
    """From the broker's timestamp of the event to that of the decision; nan where there is none."""
    stamps_ms: Floats

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Joined:
        """The chosen rows."""
        return Joined._make(column[chosen] for column in self)

    def between(self, first: int, end: int) -> Joined:
        """The rows of the events from number `first` to before `end`."""
        return self.rows((self.numbers >= first) & (self.numbers < end))


def join(
    sent: Sent, outcomes: Outcomes, rate: float | None, *, events_stamped: bool | None, first_row: int = 0
) -> Joined:
    """The outcomes from `first_row` on, as far as they have come. May be called while rows are added.

    `events_stamped`: whether the broker's timestamps of events are its own.
    """
    rows = slice(first_row, len(outcomes))
    at_s = _floats(sent.at_s)
    numbers = _ints(outcomes.numbers[rows])
    # An outcome may come before its event is noted; it is in the next look.
    known = numbers < len(at_s)
    numbers = numbers[known]
    kinds = np.array(outcomes.kinds[rows], dtype=np.uint8)[known]
    intended = at_s[numbers]
    if rate is not None and sent.begun_s is not None:
        due = sent.begun_s + (numbers - sent.pool) / rate
        intended = np.where(numbers < sent.pool, intended, due)
    seen = _floats(outcomes.seen_s[rows])[known]
    stamps = _floats(outcomes.stamps_ms[rows])[known]
    received = _floats(outcomes.received_ms[rows])[known]
    latency = np.where(kinds == DEAD_LETTER, np.nan, (seen - intended) * 1000)
    broker = stamps - received if events_stamped else np.full(len(numbers), np.nan)
    reasons = _ints(outcomes.reasons[rows])[known]
    return Joined(numbers, kinds, reasons, intended, seen, latency, broker, stamps)


def late_ms(sent: Sent, rate: float) -> Floats:
    """How long after they were due the measured events were handed over."""
    if sent.measured_from is None or sent.begun_s is None:
        return np.empty(0)
    numbers = np.arange(sent.measured_from, len(sent.at_s))
    due = sent.begun_s + (numbers - sent.pool) / rate
    return np.asarray(
        (_floats(sent.at_s)[sent.measured_from : len(numbers) + sent.measured_from] - due) * 1000
    )


def percentile(ordered: Floats, percent: float) -> float | None:
    """The smallest of the values, in ascending order, that so many percent of them do not exceed.

    It is one that was measured. None when there are too few: when the largest alone would be above it.

    >>> percentile(np.arange(1.0, 101.0), 50)
    50.0
    >>> percentile(np.arange(1.0, 101.0), 99.9)
    """
    # Rounded: what is lost in floating point must not move it by a value.
    if round(len(ordered) * (100 - percent), 6) < 100:
        return None
    rank = math.ceil(round(len(ordered) * percent / 100, 6))
    return float(ordered[max(rank, 1) - 1])


def _floats(column: array[float]) -> Floats:
    # Of a copy: an array whose memory is lent out, if only for a moment, cannot grow meanwhile.
    return np.array(column[:], dtype=np.float64)


def _ints(column: array[int]) -> Ints:
    return np.array(column, dtype=np.int64)
