from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import pytest

from workers.health import Health
from workers.metrics import Metrics
from workers.moderation.spans import Span
from workers.settings import TracingSettings
from workers.telemetry import Telemetry
from workers.tracing import Tracing, open_tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-b7ad6b7169203331-01".encode()
UNSAMPLED = f"00-{TRACE}-b7ad6b7169203331-00".encode()


class Nowhere:
    def emit(self, span: Span) -> None: ...
    async def close(self) -> None: ...


def tracing(ratio: float) -> Tracing:
    return Tracing(Nowhere(), ratio, random.Random(1))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_sampled_event_is_traced_whatever_the_share(ratio: float) -> None:
    trace = tracing(ratio).begin([("traceparent", SAMPLED), ("ce_id", b"c-1")])
    assert trace.spans is not None
    assert trace.trace_id == TRACE
    assert trace.spans.parent == 0xB7AD6B7169203331
    assert trace.traceparent == f"00-{TRACE}-{trace.spans.send:016x}-01".encode()
    assert trace.causation == b"c-1"
    assert len({trace.spans.process, trace.spans.guard, trace.spans.send, trace.spans.parent}) == 4


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_an_event_that_is_not_sampled_is_not_traced_and_its_header_goes_on(ratio: float) -> None:
    trace = tracing(ratio).begin([("traceparent", UNSAMPLED)])
    assert (trace.spans, trace.traceparent, trace.trace_id) == (None, UNSAMPLED, TRACE)


def test_further_flags_do_not_hide_the_sampled_one() -> None:
    assert tracing(0).begin([("traceparent", SAMPLED[:-2] + b"03")]).spans is not None
    assert tracing(1).begin([("traceparent", SAMPLED[:-2] + b"02")]).spans is None


def test_of_events_without_a_trace_the_share_is_traced_as_the_settings_say() -> None:
    sink = tracing(0.25)
    begun = [sink.begin(None) for _ in range(2000)]
    traced = [trace for trace in begun if trace.spans is not None]
    assert 400 < len(traced) < 600
    assert all(trace.spans is not None and trace.spans.parent == 0 for trace in traced)
    assert len({trace.trace_id for trace in traced}) == len(traced)
    assert all(trace.traceparent is None for trace in begun if trace.spans is None)


def test_off_is_nothing_at_all() -> None:
    telemetry = Telemetry(Metrics(), Health(lambda: 0.0), lambda: 0.0)
    assert open_tracing(TracingSettings(), telemetry) is None


def test_off_imports_neither_the_tracing_sdk_nor_an_exporter() -> None:
    program = (
        "import sys, workers.bootstrap, workers.tracing\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk.trace', "
        "'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lost_spans_are_counted_each_and_told_now_and_then(capsys: Any) -> None:
    metrics, now = Metrics(), [0.0]
    telemetry = Telemetry(metrics, Health(lambda: 0.0), lambda: now[0])
    said: list[Any] = []
    telemetry._log = type("Log", (), {"warning": lambda _, sentence, **facts: said.append(facts)})()
    for now[0] in (0.0, 1.0, 9.0, 11.0):
        telemetry.spans_lost("failed", 3, "no connection")
    telemetry.spans_exported(2)
    assert metrics.registry.get_sample_value("rsafe_spans_total", {"outcome": "failed"}) == 12
    assert metrics.registry.get_sample_value("rsafe_spans_total", {"outcome": "exported"}) == 2
    assert len(said) == 2
