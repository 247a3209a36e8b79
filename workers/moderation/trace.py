"""CloudEvents attributes (binary mode) and W3C trace context in the headers of a record."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from workers.ports import Headers

_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?\Z")
_NO_TRACE_ID: Final = b"0" * 32
# Longest CloudEvents id that is passed on; longer ones are not ids.
_LONGEST_ID: Final = 256


class SpanIds(msgspec.Struct, frozen=True, gc=False):
    """Ids of the spans of a way that is recorded; those of spans that others name are chosen beforehand."""

    trace: int
    parent: int
    """0: the trace begins here."""
    process: int
    guard: int
    send: int


class Trace(msgspec.Struct, frozen=True, gc=False):
    """What a record says of where it comes from; absent when it says nothing, or nothing well formed."""

    trace_id: str | None = None
    traceparent: bytes | None = None
    causation: bytes | None = None
    """`ce_id` of the event."""
    spans: SpanIds | None = None
    """Where the way is recorded. `traceparent` then names our last span instead of the event's."""


NO_TRACE: Final = Trace()


def read_trace(headers: Headers | None) -> Trace:
    """The last `traceparent` and `ce_id`, whatever the case of their names. Never raises."""
    if not headers:
        return NO_TRACE
    trace_id = traceparent = causation = None
    for name, value in headers:
        if value is None:
            continue
        match name.lower():
            case "traceparent":
                match = _TRACEPARENT.match(value)
                if match and match[1] != _NO_TRACE_ID:
                    trace_id, traceparent = match[1].decode(), value
            case "ce_id" if 0 < len(value) <= _LONGEST_ID:
                causation = value
    return Trace(trace_id, traceparent, causation)


def traceparent(trace_id: int, span_id: int) -> bytes:
    """W3C trace context of a span that is recorded."""
    return b"00-%032x-%016x-01" % (trace_id, span_id)
