from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.acceptance.evidence import Run, Violation
from tests.acceptance.records import Place, Record
from tests.acceptance.traces import traces, words_of

TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319c"
EVENT, PROCESS, GUARD, CALL, SEND = (digit * 16 for digit in "abcde")
PLACE = Place("decisions", 0, 5)
MS = 1_000_000
Spans = dict[str, Span]


def span(name: str, own: str, parent: str, begun_ms: float, ended_ms: float) -> Span:
    return Span(
        name=name,
        trace_id=bytes.fromhex(TRACE),
        span_id=bytes.fromhex(own),
        parent_span_id=bytes.fromhex(parent),
        start_time_unix_nano=int(begun_ms * MS),
        end_time_unix_nano=int(ended_ms * MS),
    )


def whole() -> Spans:
    """An event from 100 to 200 ms that the guard was asked about."""
    found = [
        span("process events", PROCESS, EVENT, 100, 200),
        span("recall verdict", "1" * 16, PROCESS, 100, 110),
        span("wait for the guard", "2" * 16, PROCESS, 110, 120),
        span("ask the guard", GUARD, PROCESS, 120, 190),
        span("fast", CALL, GUARD, 121, 189),
        span("queue", "3" * 16, CALL, 130, 131),
        span("prefill", "4" * 16, CALL, 131, 189),
        span("decode", "5" * 16, CALL, 189, 189),
        span("send decisions", SEND, PROCESS, 200, 210),
    ]
    return {one.name.partition(" ")[0]: one for one in found}


def run_of(
    *, header: str = f"00-{TRACE}-{SEND}-01", trace_id: str | None = TRACE, guard_ms: float = 70.0
) -> Run:
    body = {
        "origin": {"topic": "events", "partition": 0, "offset": 3},
        "trace_id": trace_id,
        "status": "judged",
        "timings": {"guard_ms": guard_ms},
    }
    event = Record(
        Place("events", 0, 3), b"{}", headers=(("traceparent", f"00-{TRACE}-{EVENT}-01".encode()),)
    )
    headers = (("traceparent", header.encode()),)
    return Run([event], [Record(PLACE, json.dumps(body).encode(), headers=headers)], [], {})


def found(run: Run, spans: Spans, *before: Place, phases: bool = True) -> list[Violation]:
    return [*traces(run, list(spans.values()), before, phases=phases)]


def test_a_whole_trace_is_no_violation() -> None:
    assert found(run_of(), whole()) == []


def without(*names: str) -> Callable[[Spans], Spans]:
    return lambda spans: {name: one for name, one in spans.items() if name not in names}


def changed(which: str, **fields: Any) -> Callable[[Spans], Spans]:
    def change(spans: Spans) -> Spans:
        for field, value in fields.items():
            setattr(spans[which], field, value)
        return spans

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("send"), "names no span"),
        (without("process"), "child of process"),
        (changed("process", parent_span_id=bytes.fromhex(GUARD)), "child of the event's span"),
        (changed("process", trace_id=bytes.fromhex(OTHER)), "trace of the event"),
        (changed("send", name="send dead"), "the span that sends"),
        (without("ask"), "0 spans of the guard"),
        (without("fast"), "expected its calls"),
        (changed("fast", end_time_unix_nano=191 * MS), "within the guard's span"),
        (without("prefill"), "expected one each"),
        (changed("queue", start_time_unix_nano=120 * MS), "phases within it"),
        (changed("queue", end_time_unix_nano=129 * MS), "phases within it"),
        (changed("decode", start_time_unix_nano=188 * MS), "where prefill ends"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "-",
)
def test_whatever_is_missing_or_astray_is_named(change: Callable[[Spans], Spans], says: str) -> None:
    (violation, *_) = found(run_of(), change(whole()))
    assert (violation.kind, violation.place) == ("trace", str(PLACE))
    assert says in violation.detail


@pytest.mark.parametrize(
    "run",
    [
        run_of(header=f"00-{OTHER}-{SEND}-01"),
        run_of(header=f"00-{TRACE}-{SEND}-00"),
        run_of(header="none"),
        run_of(trace_id=OTHER),
        run_of(trace_id=None),
    ],
    ids=["another-trace", "not-sampled", "no-header", "another-id", "no-id"],
)
def test_a_decision_of_another_trace_is_a_violation_even_where_a_kill_found_it(run: Run) -> None:
    assert len(found(run, whole(), PLACE)) == 1


def test_what_a_kill_took_along_is_excused() -> None:
    assert found(run_of(), {}, PLACE) == []
    assert len(found(run_of(), {})) == 1


def test_an_engine_that_tells_no_times_owes_no_phases() -> None:
    spans = without("queue", "prefill", "decode")(whole())
    assert found(run_of(), spans, phases=False) == []
    assert len(found(run_of(), spans)) == 1


def test_nobody_was_asked_where_no_time_was_spent_at_the_guard() -> None:
    assert found(run_of(guard_ms=0.0), without("ask", "fast", "queue", "prefill", "decode")(whole())) == []
    assert len(found(run_of(guard_ms=0.0), whole())) == 1


def test_all_that_could_hold_text_is_among_the_words() -> None:
    one = whole()["fast"]
    one.attributes.add(key="a key").value.string_value = "a value"
    one.attributes.add(key="a number").value.int_value = 7
    one.status.message = "a status"
    assert {"fast", "a key", "a value", "7", "a status"} <= set(words_of([one]))
