"""Spans to a collector by OTLP; the only door to OpenTelemetry.

A thread of the SDK sends batches. Its queue is bounded; what does not fit, and what the collector does not
take, is counted and told, and no event waits for it. Where the settings leave the address open, and for
headers, certificates, time-outs and resource attributes, the SDK reads its own variables (`OTEL_…`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from opentelemetry import trace as api
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace.propagation import set_span_in_context

from workers.errors import SettingsError
from workers.moderation.spans import Span

# What is held is sent for so long at the end, in seconds: a collector that is away must not use up the grace
# period of the worker.
CLOSE_S: Final = 5.0
_BATCH: Final = 512
_NS_PER_MS: Final = 1_000_000
_HTTP_PATH: Final = "/v1/traces"
_KINDS: Final = {
    "consumer": api.SpanKind.CONSUMER,
    "producer": api.SpanKind.PRODUCER,
    "client": api.SpanKind.CLIENT,
    "internal": api.SpanKind.INTERNAL,
}
_SAMPLED: Final = api.TraceFlags(api.TraceFlags.SAMPLED)
# Of what the exporter says of a failure.
_LONGEST_WHY: Final = 200


class ExportObserver(Protocol):
    """Is told what became of spans, from any thread; must not wait."""

    def spans_exported(self, spans: int) -> None: ...

    def spans_lost(self, outcome: Literal["failed", "dropped"], spans: int, why: str) -> None: ...


class OtlpExporter:
    """Takes spans that have ended. `emit` is called by one thread."""

    def __init__(
        self, protocol: Literal["http", "grpc"], endpoint: str, queue_spans: int, observer: ExportObserver
    ) -> None:
        """`endpoint` as in the settings. Raises `SettingsError` when it is no address."""
        sender = _http(endpoint) if protocol == "http" else _grpc(endpoint)
        self._counting = _Counting(sender, observer)
        self._observer, self._most = observer, queue_spans
        self._ids = _ChosenIds()
        self._processor = BatchSpanProcessor(
            self._counting,
            max_queue_size=queue_spans,
            max_export_batch_size=min(_BATCH, queue_spans),
        )
        # The sampling has been decided, and the end of the program is the worker's to choose.
        provider = TracerProvider(
            sampler=ALWAYS_ON, resource=_resource(), id_generator=self._ids, shutdown_on_exit=False
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("rsafe-stream", version("rsafe-stream"))
        self._given = 0

    def emit(self, span: Span) -> None:
        if self._given - self._counting.settled >= self._most:
            self._observer.spans_lost("dropped", 1, "the queue of spans is full")
            return
        self._given += 1
        parent = None
        if span.parent_id:
            above = api.SpanContext(span.trace_id, span.parent_id, is_remote=True, trace_flags=_SAMPLED)
            parent = set_span_in_context(api.NonRecordingSpan(above))
        self._ids.next_trace, self._ids.next_span = span.trace_id, span.span_id
        begun = self._tracer.start_span(
            span.name,
            context=parent if parent is not None else set_span_in_context(api.INVALID_SPAN),
            kind=_KINDS[span.kind],
            attributes=span.attributes,
            start_time=int(span.begun_ms * _NS_PER_MS),
        )
        if span.error is not None:
            begun.set_attribute("error.type", span.error)
            begun.set_status(api.Status(api.StatusCode.ERROR))
        begun.end(int(span.ended_ms * _NS_PER_MS))

    async def close(self) -> None:
        """What is held is sent within `CLOSE_S`; the rest is counted as dropped."""
        ending = threading.Thread(target=self._processor.shutdown, daemon=True, name="rsafe-last-spans")
        ending.start()
        await asyncio.to_thread(ending.join, CLOSE_S)
        left = self._given - self._counting.settled
        if left > 0:
            self._observer.spans_lost("dropped", left, "the worker ended before the collector took them")
        self._counting.close()


class _ChosenIds(IdGenerator):
    """Gives the ids that were chosen for the next span."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.next_trace = self.next_span = 0

    def generate_span_id(self) -> int:
        return self.next_span or self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        return self.next_trace or self._random.generate_trace_id()


class _Counting(SpanExporter):
    """Counts what another exporter does, and tells why it fails; its own log lines are kept to that."""

    def __init__(self, sender: SpanExporter, observer: ExportObserver) -> None:
        self._sender, self._observer = sender, observer
        self._said = _Said()
        self.settled = 0
        """Spans that were sent or given up. Written by the SDK's thread alone."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._said.last = ""
        try:
            result = self._sender.export(spans)
        except Exception as error:  # noqa: BLE001 - it ends the batch, counted and told; the thread goes on
            self._said.last, result = type(error).__name__, SpanExportResult.FAILURE
        self.settled += len(spans)
        if result is SpanExportResult.SUCCESS:
            self._observer.spans_exported(len(spans))
        else:
            why = self._said.last or "the collector does not take them"
            self._observer.spans_lost("failed", len(spans), why[:_LONGEST_WHY])
        return result

    def shutdown(self) -> None:
        self._sender.shutdown()

    def close(self) -> None:
        self._said.let_go()


class _Said(logging.Handler):
    """Catches what OpenTelemetry logs, which is a line a try, and keeps the last warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self._logger = logging.getLogger("opentelemetry")
        self._logger.addHandler(self)
        self._logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()

    def let_go(self) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = True


def _http(endpoint: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    if not endpoint:
        return OTLPSpanExporter()
    url = _address(endpoint)
    return OTLPSpanExporter(endpoint=url if urlsplit(url).path else url + _HTTP_PATH)


def _grpc(endpoint: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=_address(endpoint)) if endpoint else OTLPSpanExporter()


def _address(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    # A password in it would be in the exporter's own lines.
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise SettingsError(
            "RSAFE_TRACING__ENDPOINT: expected an address such as http://collector:4318, or nothing"
        )
    return endpoint.rstrip("/")


def _resource() -> Resource:
    """What sends the spans; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win."""
    ours: dict[str, str | int] = {
        "service.name": "rsafe-stream",
        "service.version": version("rsafe-stream"),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    return Resource({**ours}).merge(OTELResourceDetector().detect())
