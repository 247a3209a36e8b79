"""Sends a load, each event at its time, whatever comes back: an open loop.

The times come from the rate and are kept. When the sender falls behind (its queue is full, or its core is
busy), events go as soon as they can and nothing is left out; their latency counts from when they should have
gone. At the rate `max` there is no such time: an event goes when the queue has room.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from threading import Event as Flag
from typing import Final, Protocol

# Shorter pauses cost more than they gain: above 1,000 events a second several go together, in seconds.
TICK_S: Final = 0.001
# How long the sender waits for room before it looks whether it shall stop, in seconds.
_ROOM_S: Final = 0.05
# Acknowledgements are taken in after so many events at the latest.
_SERVE_EVERY: Final = 100


class Sender(Protocol):
    def send(self, key: bytes, value: bytes) -> bool:
        """Queue an event; False when there is no room."""
        ...

    def serve(self, wait_s: float = 0) -> None:
        """Take in acknowledgements, the first of them for so long."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """When events are sent. `rate` None: as fast as possible. One of `count` and `duration_s` is given."""

    rate: float | None
    warm_up_s: float
    """Before what is measured, at the same rate; 0 where the rate is None."""
    count: int | None
    """Events that are measured."""
    duration_s: float | None
    """For how long what is measured is sent."""

    @property
    def warm_up_events(self) -> int:
        return 0 if self.rate is None else round(self.rate * self.warm_up_s)

    @property
    def events(self) -> int | None:
        """All events, the warm-up's too; None: the time decides."""
        if self.duration_s is None:
            assert self.count is not None
            return self.warm_up_events + self.count
        return None if self.rate is None else self.warm_up_events + max(1, round(self.rate * self.duration_s))


@dataclass(slots=True)
class Sent:
    """What was sent, by number; times are seconds of one clock."""

    at_s: array[float] = field(default_factory=lambda: array("d"))
    """When an event was handed over; of the pool too."""
    bytes: int = 0
    """Of their values."""
    pool: int = 0
    """Events of the pool."""
    begun_s: float | None = None
    """When the first event after the pool was due."""
    measured_from: int | None = None
    """Number of the first event that is measured; None: none was sent yet."""
    ended_s: float | None = None
    """When nothing more was sent."""
    queue_full: int = 0
    """How often there was no room."""

    def intended_s(self, rate: float, number: int) -> float:
        """When an event after the pool was due."""
        assert self.begun_s is not None
        return self.begun_s + (number - self.pool) / rate


class Driver:
    """Sends what a run is to send. `stop` ends it between two events."""

    def __init__(
        self,
        sender: Sender,
        sent: Sent,
        stop: Flag,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._sender, self._sent, self._stop = sender, sent, stop
        self._clock, self._sleep = clock, sleep

    def pool(self, events: Iterable[tuple[bytes, bytes]], outcomes: Callable[[], int], at_most: int) -> None:
        """Send the pool, no more than `at_most` without an outcome at a time: gentle with a slow guard."""
        sent = self._sent
        for key, value in events:
            while sent.pool - outcomes() >= at_most and not self._stop.is_set():
                self._sender.serve(TICK_S)
            if self._stop.is_set() or not self._put(key, value):
                return
            sent.pool += 1

    def events(self, events: Iterator[tuple[bytes, bytes]], pace: Pace) -> None:
        """Send the warm-up and what is measured."""
        self._sent.begun_s = self._clock()
        if pace.rate is None:
            self._fast(islice(events, pace.count), pace.duration_s)
        else:
            self._timed(islice(events, pace.events), pace.rate, pace.warm_up_events)
        self._sent.ended_s = self._clock()

    def _timed(self, events: Iterator[tuple[bytes, bytes]], rate: float, warm_up: int) -> None:
        sent, clock = self._sent, self._clock
        begun = sent.begun_s
        assert begun is not None
        tick = TICK_S if rate > 1 / TICK_S else 0.0
        for index, (key, value) in enumerate(events):
            due = begun + index / rate
            while (wait := due - clock()) > 0:
                self._sender.serve()
                if self._stop.is_set():
                    return
                self._sleep(min(max(wait, tick), _ROOM_S))
            if index == warm_up:
                sent.measured_from = sent.pool + index
            if not self._put(key, value):
                return

    def _fast(self, events: Iterator[tuple[bytes, bytes]], duration_s: float | None) -> None:
        sent, clock = self._sent, self._clock
        assert sent.begun_s is not None
        sent.measured_from = sent.pool
        until_s = math.inf if duration_s is None else sent.begun_s + duration_s
        for key, value in events:
            if clock() >= until_s or not self._put(key, value):
                return

    def _put(self, key: bytes, value: bytes) -> bool:
        """Hand an event over, as soon as there is room; False when the run shall stop."""
        sent, sender = self._sent, self._sender
        if len(sent.at_s) % _SERVE_EVERY == 0:
            sender.serve()
            if self._stop.is_set():
                return False
        while not sender.send(key, value):
            sent.queue_full += 1
            sender.serve(_ROOM_S)
            if self._stop.is_set():
                return False
        sent.at_s.append(self._clock())
        sent.bytes += len(value)
        return True
