"""Metrics of `rsafe conduct`: closed sets of labels, and a row of the reference for each."""

from __future__ import annotations

from prometheus_client import generate_latest

from workers.conduct.engine import Step
from workers.conduct.metrics import RESULTS, ConductMetrics


def test_each_metric_has_a_row_and_each_row_a_metric() -> None:
    made = ConductMetrics()
    shown = {family.name for family in made.registry.collect()}
    assert {row.name.removesuffix("_total") for row in made.rows} == shown
    assert all(row.name.startswith("rsafe_conduct_") for row in made.rows)


def test_every_result_of_the_engine_is_shown_from_the_start() -> None:
    text = generate_latest(ConductMetrics().registry).decode()
    for result in RESULTS:
        assert f'rsafe_conduct_entries_total{{result="{result}"}} 0.0' in text
    assert Step("revised", None).result in RESULTS


def test_two_processes_do_not_share_a_registry() -> None:
    one, other = ConductMetrics(), ConductMetrics()
    one.conduct_partitions.set(3)
    assert "rsafe_conduct_partitions 0.0" in generate_latest(other.registry).decode()
