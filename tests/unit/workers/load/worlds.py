"""A plan, a clock that is moved by hand, and a Kafka that is a list."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.event import Event
from workers.adapters.load_topics import Arrival
from workers.load.lengths import read_lengths
from workers.load.plan import LoadPlan

SENT_AT = datetime(2026, 1, 5, tzinfo=UTC)
EVENTS = msgspec.json.Decoder(Event)


def plan(**changes: Any) -> LoadPlan:
    settings: dict[str, Any] = {
        "run": "r1",
        "seed": 1,
        "hits": 0.5,
        "pool": 20,
        "conversations": 50,
        "zipf": 1.0,
        "tenants": ("acme", "globex"),
        "policy": None,
        "lengths": read_lengths("uniform:20:60"),
        "longest_text": 1000,
        "sent_at": SENT_AT,
    }
    return LoadPlan(**(settings | changes))


class Clock:
    """Stands still; each look at it may take some time."""

    def __init__(self, look_s: float = 0.0) -> None:
        self.at_s = 100.0
        self._look_s = look_s

    def now(self) -> float:
        self.at_s += self._look_s
        return self.at_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.at_s += seconds


class FakeSender:
    """Remembers what was sent and when; `full` says whether there is no room."""

    def __init__(self, clock: Clock, full: Callable[[], bool] = lambda: False) -> None:
        self.sent: list[tuple[float, bytes, bytes]] = []
        self.stamped: bool | None = True
        self._clock, self._full = clock, full

    def send(self, key: bytes, value: bytes) -> bool:
        if self._full():
            return False
        self.sent.append((self._clock.at_s, key, value))
        return True

    def serve(self, wait_s: float = 0) -> None:
        self._clock.at_s += wait_s

    def finish(self) -> None:
        pass


def decision(event_id: str, *, hit: bool = False, stamp_ms: float = math.nan, **changes: Any) -> Arrival:
    """A decision, as far as the harness reads it; stamped by the broker when `stamp_ms` is given."""
    body = {
        "event_id": event_id,
        "received_at": "2026-01-05T00:00:00.000Z",
        "status": "judged",
        "cache": {"hit": hit},
        "text": "ignored",
    } | changes
    return Arrival(msgspec.json.encode(body), stamp_ms, None)
