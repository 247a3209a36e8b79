"""Outcomes at least once, without a broker."""

from __future__ import annotations

import asyncio
import time

import pytest

from workers.adapters.kafka_outcomes import KafkaOutcomes
from workers.errors import StreamStopped
from workers.ports import Publication, Refused
from workers.settings import KafkaSettings

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1", delivery_timeout_ms=1000, start_timeout_s=0.5)


def make() -> KafkaOutcomes:
    return KafkaOutcomes(NOWHERE, source=None)  # type: ignore[arg-type]


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
    outcomes.publish("one", Publication("d", b"k", b"1", [], b"k"))
    await asyncio.sleep(0.8)
    outcomes.publish("two", Publication("d", b"k", b"2", [], b"k"))
    until = time.monotonic() + 20
    while outcomes._failure is None and time.monotonic() < until:
        outcomes._producer.poll(0.01)
    with pytest.raises(StreamStopped, match=r"topic d did not acknowledge.*_MSG_TIMED_OUT"):
        outcomes.collect()
    assert outcomes._producer.flush(0.5) == 0, "the other one is thrown away, and does not wait for its time"
    with pytest.raises(StreamStopped, match="_MSG_TIMED_OUT"):
        outcomes.publish("three", Publication("d", b"k", b"3", [], b"k"))


async def test_closed_it_forgets_what_is_not_delivered() -> None:
    outcomes = make()
    outcomes.publish("one", Publication("d", b"k", b"1", [], b"k"))
    outcomes.close()
    assert len(outcomes._producer) == 0
