"""Takes in what became of a run's events: decisions and dead letters, each once, by the number of its event.

Written by one thread and read by another: rows are only added, the last column last.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from threading import Event as Flag
from typing import Final, Protocol

import msgspec

from schemas.dead_letter import read_dead_letter
from schemas.identifiers import Timestamp
from schemas.redrive import read_mark
from workers.adapters.load_topics import Arrival

HIT, MISS, UNJUDGED, NOT_APPLICABLE, DEAD_LETTER = range(5)
# How long a look for outcomes waits before it looks whether it shall stop, in seconds.
_WAIT_S: Final = 0.1


class Reader(Protocol):
    def take(self, wait_s: float) -> Sequence[Arrival]:
        """What has come; waits so long for the first."""
        ...


class _Cache(msgspec.Struct):
    hit: bool


class _Decision(msgspec.Struct):
    """What of a decision is needed; the rest is not decoded."""

    event_id: str
    received_at: Timestamp
    status: str
    cache: _Cache
    reason: str | None = None
    lane: str = "live"
    epoch: int = 0


class _Event(msgspec.Struct):
    event_id: str


class Outcomes:
    """The outcomes of a run, in the order in which they came. One row each; columns of one length."""

    def __init__(self) -> None:
        self.kinds = bytearray()
        """`HIT`, `MISS`, …: what became of the event."""
        self.reasons = array("h")
        """Of unjudged decisions and dead letters: index into `words`, else -1."""
        self.words: list[str] = []
        """Reasons, as they turned up."""
        self.received_ms = array("d")
        """The broker's timestamp of the event, Unix milliseconds; nan of a dead letter."""
        self.stamps_ms = array("d")
        """The broker's time of the outcome, Unix milliseconds; nan where the topic has the sender's."""
        self.seen_s = array("d")
        """When it was consumed, by our clock."""
        self.numbers = array("q")
        """The event. The last column: as long as the shortest."""
        self.duplicates = 0
        """Outcomes of events that had one."""
        self.hits = 0
        """Rows of the kind `HIT`."""
        self.newest_s = -math.inf
        """When the last row came."""
        self._seen = bytearray()

    def __len__(self) -> int:
        return len(self.numbers)

    def add(
        self,
        number: int,
        kind: int,
        *,
        reason: str | None,
        received_ms: float,
        stamp_ms: float,
        seen_s: float,
    ) -> None:
        """A row, unless the event has one."""
        seen = self._seen
        if number >= len(seen):
            seen.extend(bytes(number + 1 - len(seen) + 65_536))
        if seen[number]:
            self.duplicates += 1
            return
        seen[number] = 1
        self.kinds.append(kind)
        self.reasons.append(-1 if reason is None else self._index(reason))
        self.received_ms.append(received_ms)
        self.stamps_ms.append(stamp_ms)
        self.seen_s.append(seen_s)
        self.hits += kind == HIT
        self.newest_s = seen_s
        self.numbers.append(number)

    def _index(self, reason: str) -> int:
        if reason not in self.words:
            self.words.append(reason)
        return self.words.index(reason)


class Follower:
    """Fills the outcomes of the run whose event ids begin with `prefix`; other runs' are passed over."""

    def __init__(
        self,
        reader: Reader,
        outcomes: Outcomes,
        prefix: str,
        *,
        sent: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._reader, self._outcomes, self._prefix = reader, outcomes, prefix
        self._sent, self._clock = sent, clock
        self._decision = msgspec.json.Decoder(_Decision).decode
        self._event = msgspec.json.Decoder(_Event).decode

    def until(self, stop: Flag) -> None:
        """Take in what comes until it shall stop."""
        while not stop.is_set():
            arrivals = self._reader.take(_WAIT_S)
            seen_s = self._clock()
            for arrival in arrivals:
                if arrival.headers is None:
                    self._add_decision(arrival, seen_s)
                else:
                    self._add_dead_letter(arrival, seen_s)

    def _add_decision(self, arrival: Arrival, seen_s: float) -> None:
        try:
            decision = self._decision(arrival.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return  # nothing that a worker writes, so of no run
        number = self._number(decision.event_id)
        if number is None or decision.lane != "live" or decision.epoch:
            return
        kind, reason = MISS, None
        if decision.status == "unjudged":
            kind, reason = UNJUDGED, decision.reason or ""
        elif decision.status == "not_applicable":
            kind = NOT_APPLICABLE
        elif decision.cache.hit:
            kind = HIT
        received_ms = decision.received_at.timestamp() * 1000
        self._outcomes.add(
            number, kind, reason=reason, received_ms=received_ms, stamp_ms=arrival.stamp_ms, seen_s=seen_s
        )

    def _add_dead_letter(self, arrival: Arrival, seen_s: float) -> None:
        if read_mark(arrival.headers) is not None:
            return
        try:
            number = self._number(self._event(arrival.value or b"").event_id)
            reason = read_dead_letter(arrival.headers).reason
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return  # somebody else's: all that a run sends are events
        if number is not None:
            self._outcomes.add(
                number,
                DEAD_LETTER,
                reason=reason,
                received_ms=math.nan,
                stamp_ms=arrival.stamp_ms,
                seen_s=seen_s,
            )

    def _number(self, event_id: str) -> int | None:
        """The number of an event of this run that was sent, else None."""
        if not event_id.startswith(self._prefix):
            return None
        digits = event_id[len(self._prefix) :]
        # An outcome may come before the sender has noted its event.
        return int(digits) if digits.isdecimal() and int(digits) <= self._sent() else None
