"""What is told of clocks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.workers.doctor.facts import good_kafka, good_redis
from workers.doctor.clock import clock_findings


@pytest.mark.parametrize(
    ("ahead_ms", "off_ms", "expected"),
    [
        (-1000.0, 3.0, ["ok", "ok"]),
        (60_000.0, 3.0, ["warning", "ok"]),
        (None, -60_000.0, ["warning"]),
        (None, None, ["not_checked"]),
    ],
)
def test_clocks_that_part_are_a_warning(
    ahead_ms: float | None, off_ms: float | None, expected: list[str]
) -> None:
    kafka, redis = replace(good_kafka(), ahead_ms=ahead_ms), good_redis(clock_off_ms=off_ms)
    assert [one.status for one in clock_findings(kafka, redis)] == expected


def test_no_clock_to_compare_with_is_said() -> None:
    assert [one.status for one in clock_findings(None, None)] == ["not_checked"]


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
