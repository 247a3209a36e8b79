"""What the broker's stamp on an outcome tells of the broker's time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError

Published = Callable[[Sequence[int]], None]
"""Told the broker's timestamps (Unix ms) of the records whose outcomes the broker has now. Never waits."""


class Stamped(Protocol):
    """Learns the broker's time from outcomes."""

    @property
    def monotonic_s(self) -> Callable[[], float]: ...

    def wants_report(self) -> bool:
        """Whether the next outcome shall be reported."""
        ...

    def reported(self, timestamp_ms: float | None, sent_s: float) -> None:
        """The broker stamped an outcome that was sent at a monotonic instant; None: it stamps none."""
        ...


def stamp_of(message: Any) -> float | None:
    """The broker's time in a delivery report, in Unix milliseconds; None where the producer's stands."""
    kind, timestamp_ms = message.timestamp()
    return float(timestamp_ms) if kind == TIMESTAMP_LOG_APPEND_TIME else None


def with_stamp(clock: Stamped, told: Callable[[KafkaError | None, Any], None]) -> Callable[..., None]:
    """The callback of a delivery that begins now, which tells the clock as well."""
    sent_s = clock.monotonic_s()

    def report(error: KafkaError | None, message: Any) -> None:
        if error is None:
            clock.reported(stamp_of(message), sent_s)
        told(error, message)

    return report
