"""What a collector was told of a run: every decision is in its event's trace, and the guard shows its work.

    event's span → process → recall verdict, wait for the guard, ask the guard → call → queue, prefill, decode
                           → send, which the decision's header names

A killed worker takes the spans that it held with it, so those of decisions that stood there at the kill may
be absent. Their headers may not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.acceptance.evidence import Decided, Run, Violation, read_decisions
from tests.acceptance.records import Place, Record
from tests.collector import attributes_of

PHASES: Final = ("queue", "prefill", "decode")
ROUNDED_NS: Final = 2_000
"""The worker reckons in milliseconds since 1970, as floats; of nanoseconds some hundreds are lost."""
_HEADER: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


@dataclass(frozen=True, slots=True)
class Told:
    """The spans of a run, by their own ids and by their parents'."""

    by_id: dict[str, Span]
    children: dict[str, list[Span]]

    @classmethod
    def of(cls, spans: Iterable[Span]) -> Told:
        by_id, children = {}, defaultdict(list)
        for span in sorted(spans, key=lambda one: one.start_time_unix_nano):
            by_id[span.span_id.hex()] = span
            children[span.parent_span_id.hex()].append(span)
        return cls(by_id, children)

    def named(self, parent: Span, *names: str) -> list[Span]:
        """The children of a span that have one of the names; the earlier first."""
        return [span for span in self.children.get(parent.span_id.hex(), ()) if span.name in names]


def traces(
    run: Run, spans: Sequence[Span], before: Collection[Place], *, phases: bool
) -> Iterator[Violation]:
    """Every decision whose trace is not as it must be. `before`: places of those that a kill found there.

    `phases`: whether the engine says where the time of a call went.
    """
    told = Told.of(spans)
    events = {record.place: record for record in run.events}
    for one in read_decisions(run.decisions)[0]:
        place, event = str(one.record.place), events.get(one.origin)
        due, found = None if event is None else _header(event), _header(one.record)
        if due is None or found is None or found[0] != due[0] or one.body.get("trace_id") != due[0]:
            yield Violation("trace", place, f"header and trace_id: expected the trace of {one.origin}")
            continue
        send = told.by_id.get(found[1])
        if send is None:
            if one.record.place not in before:
                yield Violation("trace", place, "its header names no span")
            continue
        for wrong in _wrong(one, send, told, event_span=due[1], phases=phases):
            yield Violation("trace", place, wrong)


def words_of(spans: Iterable[Span]) -> Iterator[str]:
    """Everything in the spans that could hold text."""
    for span in spans:
        yield span.name
        yield span.status.message
        for name, value in attributes_of(span).items():
            yield name
            yield str(value)


def _wrong(one: Decided, send: Span, told: Told, *, event_span: str, phases: bool) -> Iterator[str]:
    process = told.by_id.get(send.parent_span_id.hex())
    if process is None or process.name != f"process {one.origin.topic}":
        yield "send: expected a child of process"
        return
    if send.name != f"send {one.record.place.topic}":
        yield "header: expected the span that sends"
    if process.parent_span_id.hex() != event_span:
        yield "process: expected a child of the event's span"
    if {span.trace_id for span in (process, send)} != {bytes.fromhex(one.body["trace_id"])}:
        yield "process and send: expected the trace of the event"
    asks, calls = told.named(process, "ask the guard"), list[Span]()
    if len(asks) != bool(one.body["timings"]["guard_ms"]):
        yield f"{len(asks)} spans of the guard, for {one.body['timings']['guard_ms']} ms"
    for ask in asks:
        calls += told.named(ask, "fast", "think")
        if not all(_within(call, ask) for call in calls):
            yield "a call: expected it within the guard's span"
    if asks and one.body["status"] == "judged" and not calls:
        yield "the guard judged: expected its calls"
    if phases:
        yield from filter(None, (_phases(call, told) for call in calls))


def _phases(call: Span, told: Told) -> str | None:
    """What is wrong with the phases of a call: all there, one after another, within it."""
    found = told.named(call, *PHASES)
    # Of a call of one token, decode begins and ends in one instant, with its neighbour.
    found.sort(key=lambda span: PHASES.index(span.name))
    if tuple(span.name for span in found) != PHASES:
        return f"{call.name}: expected one each of {', '.join(PHASES)}"
    if not all(_within(span, call) for span in found):
        return f"{call.name}: expected its phases within it"
    for earlier, later in pairwise(found):
        if abs(later.start_time_unix_nano - earlier.end_time_unix_nano) > ROUNDED_NS:
            return f"{call.name}: expected {later.name} where {earlier.name} ends"
    return None


def _within(span: Span, parent: Span) -> bool:
    begins = parent.start_time_unix_nano - ROUNDED_NS <= span.start_time_unix_nano
    ends = span.end_time_unix_nano <= parent.end_time_unix_nano + ROUNDED_NS
    return begins and span.start_time_unix_nano <= span.end_time_unix_nano and ends


def _header(record: Record) -> tuple[str, str] | None:
    """Trace and span that the one `traceparent` of a record names; None without one that is sampled."""
    values = [value for name, value in record.headers if name == "traceparent"]
    if len(values) != 1 or values[0] is None:
        return None
    match = _HEADER.fullmatch(values[0].decode("ascii", "replace"))
    return (match[1], match[2]) if match else None
