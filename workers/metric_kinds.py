"""Kinds of metrics beside those of prometheus_client: cheaper ones, and ones that are asked when shown."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from guard.serving.fleet_view import EJECTIONS, FleetView
from guard.serving.remote_balance import STATES
from workers.ports import Lag, Oldest

OTHER: Final = "other"
"""Stands for every value of a label that came when the label had as many as it may have."""
ANY: Final[tuple[str, ...]] = ()
"""Values of a label that are not known beforehand; their number is bounded all the same."""


class Row(NamedTuple):
    """A metric as the reference page describes it; `labels` with their values, or `ANY`."""

    name: str
    kind: str
    labels: Mapping[str, Sequence[str]]
    documentation: str


class Buckets:
    """Counts by ascending upper bounds. One per event is observed, and prometheus_client's cost much more."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_many(self, value: float, times: int) -> None:
        """The same value, as often as given."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str] = ()) -> None:
        total, buckets = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets, self._sum)


class Histogram(Buckets, Collector):
    """A histogram without labels."""

    def __init__(
        self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        super().__init__(bounds)
        self._name, self._documentation = name, documentation
        registry.register(self)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._documentation)
        self.add_to(family)
        yield family

    def rows(self) -> list[Row]:
        return [Row(self._name, "histogram", {}, f"{self._documentation} {_bounds(self._bounds)}")]


class LabelledHistogram(Collector):
    """A histogram with one label of a closed set; `of[value]` observes."""

    def __init__(
        self,
        name: str,
        documentation: str,
        bounds: Sequence[float],
        label: tuple[str, Sequence[str]],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._documentation, self._bounds, self._label = name, documentation, bounds, label
        self.of: Final = {value: Buckets(bounds) for value in label[1]}
        registry.register(self)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label[0]])
        for value, buckets in self.of.items():
            buckets.add_to(family, [value])
        yield family

    def rows(self) -> list[Row]:
        documentation = f"{self._documentation} {_bounds(self._bounds)}"
        return [Row(self._name, "histogram", {self._label[0]: self._label[1]}, documentation)]


def _bounds(bounds: Sequence[float]) -> str:
    return f"Buckets up to {', '.join(f'{bound:g}' for bound in bounds)}."


class BoundedLabel:
    """The values of a label that come from outside the code: the first so many, then `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, or `other`."""
        if value in self._known:
            return value
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(value)
        return value


class Info(Collector):
    """What is in force, in labels of samples that are 1; shown rows replace the ones before."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._rows: tuple[tuple[str, ...], ...] = ()
        registry.register(self)

    def show(self, rows: Iterable[Sequence[str]]) -> None:
        """Each row has a value for every label, in their order."""
        self._rows = tuple(map(tuple, rows))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labels)
        for row in self._rows:
            family.add_metric(row, 1)
        yield family

    def rows(self) -> list[Row]:
        return [Row(self._name, "gauge", dict.fromkeys(self._labels, ANY), self._documentation)]


class OldestOffsets(Collector):
    """One sample for each assigned partition, asked for when it is shown, so that it is right while the loop
    waits. `stages` are the values of `waiting_for`, the last one for an offset that waits for nothing."""

    def __init__(
        self, name: str, documentation: str, stages: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation, self._stages = name, documentation, stages
        self.ask: Callable[[], Iterable[Oldest]] = tuple
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._documentation, labels=("partition", "waiting_for"))
        for oldest in self.ask():
            family.add_metric((str(oldest.partition), oldest.stage or self._stages[-1]), oldest.seconds)
        yield family

    def rows(self) -> list[Row]:
        labels = {"partition": ANY, "waiting_for": self._stages}
        return [Row(self._name, "gauge", labels, self._documentation)]


class Lags(Collector):
    """How far behind each assigned partition is; no sample where that is not known."""

    _RECORDS = "rsafe_lag_records", "Records of a partition that are not committed, read or not."
    _SECONDS = (
        "rsafe_lag_seconds",
        "Age of the oldest record of a partition that is read and has no outcome; where there is none and "
        "records are unread, of the last one read: they are no older. 0: nothing is behind.",
    )

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ask: Callable[[], Iterable[Lag]] = tuple
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        records, seconds = (
            GaugeMetricFamily(name, documentation, labels=("partition",))
            for name, documentation in (self._RECORDS, self._SECONDS)
        )
        for lag in self.ask():
            if lag.records is not None:
                records.add_metric((str(lag.partition),), lag.records)
            if lag.seconds is not None:
                seconds.add_metric((str(lag.partition),), lag.seconds)
        yield from (records, seconds)

    def rows(self) -> list[Row]:
        return [Row(name, "gauge", {"partition": ANY}, text) for name, text in (self._RECORDS, self._SECONDS)]


class Fleet(Collector):
    """The servers of the engine `remote`, asked for when they are shown; all zero where there are none."""

    _LABELS: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
        "rsafe_guard_servers": {"state": STATES},
        "rsafe_guard_server_ejections": {"why": EJECTIONS},
    }

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ask: Callable[[], FleetView | None] = lambda: None
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        view = self.ask() or FleetView()
        states = GaugeMetricFamily(
            "rsafe_guard_servers",
            "Servers of the engine `remote`, by state; a serving one gets calls.",
            labels=("state",),
        )
        for state, count in view.states().items():
            states.add_metric((state,), count)
        yield states
        yield GaugeMetricFamily(
            "rsafe_guard_servers_outstanding_tokens",
            "Tokens of the calls at the servers: prompts and longest completions.",
            value=sum(one.tokens for one in view.endpoints),
        )
        yield CounterMetricFamily(
            "rsafe_guard_server_retries_total",
            "Calls that were sent to another server, or again, after a failure.",
            value=view.retries,
        )
        ejections = CounterMetricFamily(
            "rsafe_guard_server_ejections_total",
            "Servers that got no more calls, by why.",
            labels=("why",),
        )
        for why in EJECTIONS:
            ejections.add_metric((why,), view.ejections.get(why, 0))
        yield ejections

    def rows(self) -> list[Row]:
        return [self._row(family) for family in self.collect()]

    def _row(self, family: Metric) -> Row:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        return Row(name, family.type, self._LABELS.get(family.name, {}), family.documentation)
