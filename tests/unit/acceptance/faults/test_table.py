from __future__ import annotations

from tests.acceptance.faults.table import ROWS, row_of
from workers.settings import load_settings


def test_names_are_file_names_and_given_once() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() for name in names)


def test_every_setting_of_a_row_is_a_setting_of_the_worker() -> None:
    for row in ROWS:
        load_settings(dict(row.settings))


def test_rows_about_the_engine_run_on_vllm_and_leave_nothing_unjudged_that_a_policy_must_hold() -> None:
    for row in ROWS:
        assert (row.engine == "vllm") == row.name.startswith("engine-")
        assert set(row.unjudged) <= ({"unparseable"} if row.engine == "vllm" else {"late"})


def test_only_a_clock_that_is_ahead_may_make_one_event_late_and_clock_rows_have_deadlines() -> None:
    for row in ROWS:
        assert (row.deadline_ms is not None) == row.name.startswith("clock-")
        assert ("late" in row.unjudged) == (row.name == "clock-ahead")
    assert row_of("clock-ahead").unjudged == {"late": 1}


def test_only_who_ends_by_force_or_loses_partitions_may_decide_twice() -> None:
    assert {row.name for row in ROWS if row.most_duplicates(100)} == {
        "worker-killed",
        "worker-killed-slow-head",
        "worker-killed-before-commit",
        "worker-killed-in-rebalance",
        "broker-killed",
        "broker-frozen",
        "output-deleted",
    }
    assert max(row.most_duplicates(100) for row in ROWS) == 100


def test_worker_and_broker_rows_are_there_again_without_any_duplicate() -> None:
    for row in ROWS:
        if row.name.startswith(("worker", "broker")) and row.delivery == "at-least-once":
            again = row_of(f"{row.name}-exactly-once")
            assert again.repeats == row.repeats
            other_moment = row.name in ("worker-killed-slow-head", "worker-killed-before-commit")
            assert (again.fault != row.fault) == other_moment
            assert again.most_duplicates(100) == 0
            assert not any("COMMIT_INTERVAL" in name for name in again.settings)
