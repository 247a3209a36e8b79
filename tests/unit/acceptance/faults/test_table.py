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


def test_only_rows_about_the_engine_run_on_vllm_and_may_leave_events_unjudged() -> None:
    for row in ROWS:
        assert (row.engine == "vllm") == row.unjudged == row.name.startswith("engine-")


def test_worker_and_broker_rows_are_there_again_without_any_duplicate() -> None:
    for row in ROWS:
        if row.name.startswith(("worker", "broker")) and row.delivery == "at-least-once":
            again = row_of(f"{row.name}-exactly-once")
            assert (again.fault, again.repeats) == (row.fault, row.repeats)
            assert again.most_duplicates(100) == 0
            assert not any("COMMIT_INTERVAL" in name for name in again.settings)
