"""Which events are traced, and under which ids; where spans go is behind `Exporter`.

- An event with a `traceparent` is traced when its `sampled` flag is set, and not when it is not.
- Of the others a share is traced that the settings name; their traces begin here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from workers.moderation.spans import Span
from workers.moderation.trace import SpanIds, Trace, read_trace, traceparent
from workers.ports import Headers
from workers.settings import TracingSettings

if TYPE_CHECKING:
    from workers.telemetry import Telemetry

_SAMPLED: Final = 1


class Exporter(Protocol):
    """Takes spans to a collector. Neither waits nor raises."""

    def emit(self, span: Span) -> None: ...

    async def close(self) -> None:
        """Send what it holds, for a bounded time, and let go."""
        ...


class Tracing:
    """A `SpanSink`: begins traces, and hands spans on."""

    def __init__(self, exporter: Exporter, sample_ratio: float, rng: random.Random) -> None:
        self._exporter, self._ratio, self._rng = exporter, sample_ratio, rng
        self.emit: Callable[[Span], None] = exporter.emit
        self.close = exporter.close

    def begin(self, headers: Headers | None) -> Trace:
        """What the headers say of the trace, with ids of ours where the event is traced."""
        trace = read_trace(headers)
        if trace.traceparent is None:
            if self._rng.random() >= self._ratio:
                return trace
            trace_id, parent_id = self._trace_id(), 0
        else:
            _, told_id, parent, flags = trace.traceparent.split(b"-")[:4]
            if not int(flags, 16) & _SAMPLED:
                return trace
            trace_id, parent_id = int(told_id, 16), int(parent, 16)
        ids = SpanIds(trace_id, parent_id, self.new_id(), self.new_id(), self.new_id())
        return msgspec.structs.replace(
            trace, trace_id=f"{trace_id:032x}", traceparent=traceparent(trace_id, ids.send), spans=ids
        )

    def new_id(self) -> int:
        """1 or more, of 64 bits."""
        return self._rng.getrandbits(64) or 1

    def _trace_id(self) -> int:
        return self._rng.getrandbits(128) or 1


def open_tracing(settings: TracingSettings, telemetry: Telemetry) -> Tracing | None:
    """None: the settings say `off`; OpenTelemetry is not imported then. Raises `SettingsError`."""
    if settings.export == "off":
        return None
    from workers.adapters.otlp import OtlpExporter

    exporter = OtlpExporter(settings.export, settings.endpoint, settings.queue_spans, telemetry)
    return Tracing(exporter, settings.sample_ratio, random.Random())
