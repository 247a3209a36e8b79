"""Every metric of `rsafe conduct`: kind, unit, meaning and the closed sets of its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from schemas.conduct import Recommendation
from schemas.escalation import Change
from workers.conduct.engine import Result
from workers.metric_kinds import Row

SOURCES: Final = ("decisions", "reviews", "entries")
OUTCOMES: Final = ("counts", "nothing", "dead_letter")
RESULTS: Final[tuple[str, ...]] = get_args(Result)
CHANGES: Final[tuple[str, ...]] = get_args(Change)
RECOMMENDATIONS: Final[tuple[str, ...]] = get_args(Recommendation)


class ConductMetrics:
    """The metrics of one process, in its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rows: list[Row] = []
        self.conduct_records = self._counter(
            "rsafe_conduct_records_total",
            "Records that `rsafe conduct` read, by topic and by what came of them.",
            {"source": SOURCES, "outcome": OUTCOMES},
        )
        self.conduct_entries = self._counter(
            "rsafe_conduct_entries_total",
            "Entries taken into the state, by what they did; `late` ones were beyond the allowed lateness.",
            {"result": RESULTS},
        )
        self.conduct_escalations = self._counter(
            "rsafe_conduct_escalations_total",
            "Escalations published.",
            {"change": CHANGES, "recommend": RECOMMENDATIONS},
        )
        self.conduct_partitions = self._gauge(
            "rsafe_conduct_partitions", "Partitions of the conduct app's state that are in this process."
        )
        self.conduct_behind = self._gauge(
            "rsafe_conduct_behind_seconds",
            "Age of the last decision when it was read, by the record's timestamp; stays while none comes.",
        )

    def _counter(self, name: str, text: str, labels: Mapping[str, Sequence[str]]) -> Counter:
        made = Counter(name, text, tuple(labels), registry=self.registry)
        if len(labels) == 1:  # pairs of labels are shown from their first count on, as with the worker
            (only,) = labels.values()
            for value in only:
                made.labels(value)
        self.rows.append(Row(name, "counter", dict(labels), text))
        return made

    def _gauge(self, name: str, text: str) -> Gauge:
        self.rows.append(Row(name, "gauge", {}, text))
        return Gauge(name, text, registry=self.registry)
