from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, KafkaError

from workers.adapters.kafka_outcomes import KafkaOutcomes
from workers.adapters.kafka_stamps import stamp_of, with_stamp
from workers.ports import Publication
from workers.settings import KafkaSettings

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1", delivery_timeout_ms=1000, start_timeout_s=0.5)


class Message:
    def __init__(self, kind: int, timestamp_ms: int) -> None:
        self._stamp = kind, timestamp_ms

    def timestamp(self) -> tuple[int, int]:
        return self._stamp


class Clock:
    def __init__(self) -> None:
        self.now = 7.0
        self.reports: list[tuple[float | None, float]] = []
        self.wanted = 0

    @property
    def monotonic_s(self) -> Callable[[], float]:
        return lambda: self.now

    def wants_report(self) -> bool:
        self.wanted += 1
        return True

    def reported(self, timestamp_ms: float | None, sent_s: float) -> None:
        self.reports.append((timestamp_ms, sent_s))


def test_only_the_brokers_own_time_is_a_stamp() -> None:
    assert stamp_of(Message(TIMESTAMP_LOG_APPEND_TIME, 5)) == 5.0
    assert stamp_of(Message(TIMESTAMP_CREATE_TIME, 5)) is None


@pytest.mark.parametrize("error", [None, KafkaError(KafkaError._MSG_TIMED_OUT)])
def test_a_delivery_tells_the_clock_when_it_began_and_a_failure_does_not(error: KafkaError | None) -> None:
    clock, told = Clock(), list[Any]()
    report = with_stamp(clock, lambda *given: told.append(given))
    clock.now = 9.0
    message = Message(TIMESTAMP_LOG_APPEND_TIME, 5)
    report(error, message)
    assert told == [(error, message)]
    assert clock.reports == ([] if error else [(5.0, 7.0)])


async def test_the_clock_is_asked_for_each_outcome() -> None:
    clock = Clock()
    outcomes = KafkaOutcomes(NOWHERE, source=None, clock=clock)  # type: ignore[arg-type]
    for _ in range(2):
        outcomes.publish("ticket", Publication("d", b"k", b"v", [], b"k"))
    assert (clock.wanted, clock.reports) == (2, [])
    outcomes.close()
