"""The page of the metrics lists every value that a label takes in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from prometheus_client import Counter, Gauge

from tests.unit.docs.pages import ROOT
from workers.conduct.metrics import ConductMetrics
from workers.metrics import Metrics

PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
WORKERS = ROOT / "workers"
REASONS = "see [Reason codes]"
# Calls that hand a label's value on to the observer: which argument it is, and of which metric.
HANDED_ON = {
    "unexpected": (0, "rsafe_unexpected_errors_total"),
    "_unexpected": (1, "rsafe_unexpected_errors_total"),
    "discarded": (2, "rsafe_discarded_records_total"),
    "_forget": (1, "rsafe_discarded_records_total"),
    "_give_up": (1, "rsafe_discarded_records_total"),
    "cache_failed": (0, "rsafe_cache_failures_total"),
    "ask": (0, "rsafe_cache_failures_total"),
    "_settle": (2, "rsafe_cache_leases_total"),
    "_renew": (0, "rsafe_link_renewals_total"),
    "link_not_renewed": (0, "rsafe_link_renewals_total"),
}


def labels_on_page(metric: str) -> dict[str, set[str]]:
    """Label → values, of the row of a metric."""
    row = re.search(rf"^\| `{metric}` \| \w+ \| (.*?) \|", PAGE, re.MULTILINE)
    assert row is not None, metric
    found = {}
    for part in row[1].split("; ") if row[1] else ():
        label, _, values = part.partition(": ")
        found[label.split("`")[1]] = {value.strip() for value in values.split(", ") if value.strip()}
    return found


def counters() -> dict[str, Counter]:
    made = vars(Metrics()) | vars(ConductMetrics())
    return {name: metric for name, metric in made.items() if isinstance(metric, Counter)}


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that an argument can be, where it is written out."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*literals(body), *literals(orelse))
        case _:
            pass


def used() -> Iterator[tuple[str, int, str]]:
    """Metric, place of the label, value: as written in the worker's code."""
    names = {name: f"{family.name}_total" for name, one in counters().items() for family in one.describe()}
    gauges = {
        name: one
        for name, one in (vars(Metrics()) | vars(ConductMetrics())).items()
        if isinstance(one, Gauge)
    }
    names |= {name: family.name for name, one in gauges.items() for family in one.describe()}
    for path in sorted(WORKERS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr == "labels" and isinstance(node.func.value, ast.Attribute):
                metric = names[node.func.value.attr]
                values = ((place, value) for place, one in enumerate(node.args) for value in literals(one))
                yield from ((metric, place, value) for place, value in values)
            elif node.func.attr in HANDED_ON:
                place, metric = HANDED_ON[node.func.attr]
                if len(node.args) > place:
                    yield from ((metric, 0, value) for value in literals(node.args[place]))


@pytest.mark.parametrize("metric", counters().values(), ids=counters().keys())
def test_the_page_lists_the_values_that_are_shown_from_the_start(metric: Counter) -> None:
    (family,) = metric.collect()
    shown = {value for sample in family.samples for value in sample.labels.values()}
    (listed,) = labels_on_page(f"{family.name}_total").values() if len(metric._labelnames) == 1 else (set(),)
    if "reason" in metric._labelnames:
        assert f"`{family.name}_total` | counter | `reason`, {REASONS}" in PAGE
    else:
        assert listed == shown


def test_every_value_that_the_code_uses_is_on_the_page() -> None:
    found = set(used())
    missing = [
        (metric, value)
        for metric, place, value in found
        if value not in [*labels_on_page(metric).values()][place]
    ]
    assert missing == []
    # The search sees what is there.
    assert {value for metric, _, value in found if metric == "rsafe_guard_restarts_total"} == {
        "answers",
        "failed",
    }
    assert {metric for metric, _, _ in found} >= {metric for _, metric in HANDED_ON.values()}
