"""Answers that come too late to tell of a clock."""

from __future__ import annotations

import pytest

from tests.unit.workers.doctor.facts import good_redis
from workers.doctor.clock import clock_findings


@pytest.mark.parametrize(
    ("off_ms", "unsure_ms", "status"),
    [
        (1.0, 1.0, "ok"),
        (-1_900.0, 50.0, "ok"),
        (2_500.0, 10.0, "warning"),
        (-2_500.0, 10.0, "warning"),
        # A slow answer says nothing for certain: neither that all is well nor that it is not.
        (2_500.0, 2_500.0, "not_checked"),
        (0.0, 5_000.0, "not_checked"),
        (60_000.0, 5_000.0, "warning"),
    ],
)
def test_a_clock_is_told_of_as_surely_as_its_answer_allows(
    off_ms: float, unsure_ms: float, status: str
) -> None:
    facts = good_redis(clock_off_ms=off_ms, clock_unsure_ms=unsure_ms)
    assert [one.status for one in clock_findings(None, facts)] == [status]
