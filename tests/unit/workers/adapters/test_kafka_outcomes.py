"""Outcomes at least once, without a broker."""

from __future__ import annotations

import pytest

from workers.adapters.kafka_outcomes import KafkaOutcomes
from workers.errors import StreamStopped
from workers.ports import Publication
from workers.settings import KafkaSettings

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1", delivery_timeout_ms=1000, start_timeout_s=0.5)


async def test_an_outcome_that_is_not_delivered_in_time_stops_the_stream() -> None:
    outcomes = KafkaOutcomes(NOWHERE, source=None)  # type: ignore[arg-type]
    outcomes.publish("ticket", Publication("d", b"k", b"v", [], b"k"))
    await outcomes.flush(20)
    with pytest.raises(StreamStopped, match=r"topic d did not acknowledge.*_MSG_TIMED_OUT"):
        outcomes.collect()
    outcomes.close()


@pytest.mark.parametrize(("line", "stops"), [(b"k", False), (None, True)])
async def test_too_large_is_told_for_a_decision_and_fatal_for_a_dead_letter(
    line: bytes | None, stops: bool
) -> None:
    outcomes = KafkaOutcomes(NOWHERE, source=None)  # type: ignore[arg-type]
    outcomes.publish("ticket", Publication("d", b"k", b"v" * 100_000_001, [], line))
    if stops:
        with pytest.raises(StreamStopped, match=r"topic d takes.*max\.message\.bytes"):
            outcomes.collect()
    else:
        assert outcomes.collect() == ([], ["ticket"])
    outcomes.close()
