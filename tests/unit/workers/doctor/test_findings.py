"""One line for people, one object for machines."""

from __future__ import annotations

from typing import Literal

import pytest

from workers.doctor.findings import Finding, has_problems, not_checked, ok, problem, report, summary, warning


def test_a_line_has_status_area_finding_and_remedy() -> None:
    assert problem("kafka", "no broker", "start one").line() == "problem      kafka: no broker → start one"
    assert not_checked("redis", "no URL").line() == "not checked  redis: no URL"


def test_several_lines_of_an_error_become_one() -> None:
    assert problem("settings", "one\n two\n", "mend").line() == "problem      settings: one; two → mend"


@pytest.mark.parametrize("status", ["problem", "warning"])
def test_what_has_to_be_mended_says_how(status: Literal["problem", "warning"]) -> None:
    with pytest.raises(ValueError, match="without a remedy"):
        Finding(area="kafka", status=status, what="wrong")


def test_only_problems_are_unhealthy() -> None:
    fine = [ok("kafka", "a"), warning("kafka", "b", "c"), not_checked("redis", "d")]
    assert not has_problems(fine)
    assert has_problems([*fine, problem("redis", "e", "f")])
    assert summary(fine) == "1 ok, 1 warning, 1 not checked"


def test_the_report_counts_and_repeats_every_finding() -> None:
    found = report([ok("kafka", "a"), problem("redis", "e", "f")])
    assert found["healthy"] is False
    assert found["counts"] == {"ok": 1, "warning": 0, "problem": 1, "not_checked": 0}
    assert found["findings"] == [
        {"area": "kafka", "status": "ok", "what": "a"},
        {"area": "redis", "status": "problem", "what": "e", "remedy": "f"},
    ]
