"""Outcomes at least once, without a broker."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from workers.adapters.kafka_outcomes import KafkaOutcomes
from workers.errors import StreamStopped
from workers.ports import Publication, Refused
from workers.settings import KafkaSettings

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1", delivery_timeout_ms=1000, start_timeout_s=0.5)


def make() -> KafkaOutcomes:
    return KafkaOutcomes(NOWHERE, source=None)  # type: ignore[arg-type]


class Reports:
    """The names of the errors that the producer reports, in order."""

    def __init__(self, outcomes: KafkaOutcomes) -> None:
        self.names: list[str] = []
        self._producer, self._pass_on = outcomes._producer, outcomes._report
        outcomes._report = self._report  # type: ignore[method-assign]

    def _report(
        self, ticket: Any, topic: str, letter: Publication | None, error: KafkaError | None, _: Any
    ) -> None:
        self.names.append("" if error is None else error.name())
        self._pass_on(ticket, topic, letter, error, _)

    def await_number(self, number: int) -> None:
        until = time.monotonic() + 20
        while len(self.names) < number and time.monotonic() < until:
            self._producer.poll(0.01)
        assert len(self.names) == number


async def test_an_outcome_that_is_not_delivered_in_time_stops_the_stream() -> None:
    outcomes = make()
    outcomes.publish("ticket", Publication("d", b"k", b"v", [], b"k"))
    await outcomes.flush(20)
    with pytest.raises(StreamStopped, match=r"topic d did not acknowledge.*_MSG_TIMED_OUT"):
        outcomes.collect()
    outcomes.close()


@pytest.mark.parametrize("line", [b"k", None])
async def test_too_large_is_told_with_the_dead_letter_that_was_refused(line: bytes | None) -> None:
    outcomes = make()
    publication = Publication("d", b"k", b"v" * 100_000_001, [], line)
    outcomes.publish("ticket", publication)
    assert outcomes.collect() == ([], [Refused("ticket", None if line else publication)])
    outcomes.close()


async def test_after_a_failure_nothing_more_is_delivered() -> None:
    """What came later would stand before what failed, once the next owner publishes that."""
    outcomes = make()
    reports = Reports(outcomes)
    outcomes.publish("two", Publication("d", b"k", b"2", [], b"k"))
    outcomes._report("one", "d", None, KafkaError(KafkaError._MSG_TIMED_OUT), None)
    reports.await_number(2)
    assert reports.names[1].startswith("_PURGE"), "thrown away, without waiting for its time"
    with pytest.raises(StreamStopped, match=r"topic d did not acknowledge.*_MSG_TIMED_OUT"):
        outcomes.collect()
    with pytest.raises(StreamStopped, match="_MSG_TIMED_OUT"):
        outcomes.publish("three", Publication("d", b"k", b"3", [], b"k"))


async def test_closed_it_forgets_what_is_not_delivered() -> None:
    outcomes = make()
    reports = Reports(outcomes)
    outcomes.publish("one", Publication("d", b"k", b"1", [], b"k"))
    outcomes.close()
    reports.await_number(1)
    assert reports.names[0].startswith("_PURGE")


async def test_delivered_outcomes_are_told_with_the_stamps_of_their_records() -> None:
    told: list[list[int]] = []
    outcomes = KafkaOutcomes(NOWHERE, source=None, published=lambda stamps: told.append(list(stamps)))  # type: ignore[arg-type]
    for stamp in (5, 7):
        outcomes._report(SimpleNamespace(timestamp_ms=stamp), "d", None, None, None)
    outcomes._report("too large", "d", None, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), None)
    outcomes.collect()
    outcomes.collect()
    assert told == [[5, 7]]
    outcomes.close()
