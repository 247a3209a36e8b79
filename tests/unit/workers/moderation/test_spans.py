from __future__ import annotations

import pytest

from guard.serving.call_trace import TracedCall
from guard.serving.engine import EngineTimes
from schemas.decision import Decision
from schemas.verdict import Step
from tests.unit.workers.moderation.builders import make_asked
from workers.moderation.make_decision import make_decision
from workers.moderation.outcome import Source, Took, Weighed
from workers.moderation.spans import PathSpans, Span
from workers.moderation.trace import NO_TRACE, SpanIds, Trace
from workers.ports import Headers, Publication

IDS = SpanIds(trace=1, parent=2, process=3, guard=4, send=5)
# Nanoseconds of a span's ends in floats of Unix milliseconds: a quarter of a microsecond is lost.
ROUNDED_MS = 0.001


class Sink:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._last = 100

    def begin(self, headers: Headers | None) -> Trace:
        return NO_TRACE

    def new_id(self) -> int:
        self._last += 1
        return self._last

    def emit(self, span: Span) -> None:
        self.spans.append(span)


class SlowClock:
    """Time passes whenever a clock is read, and more of it each time: the thread waits for a core."""

    def __init__(self) -> None:
        self._s, self._readings = 1_000.0, 0

    def monotonic_s(self) -> float:
        self._readings += 1
        self._s += self._readings / 1000
        return self._s

    def now_ms(self) -> float:
        return 1_800_000_000_000 + self.monotonic_s() * 1000


def call(begun_s: float, ended_s: float, times: EngineTimes | None) -> TracedCall:
    step = Step(mode="think", prompt_tokens=10, completion_tokens=5, finish_reason="stop")
    return TracedCall(step, begun_s, ended_s, times)


def spans_of(*calls: TracedCall) -> list[Span]:
    """Of an event that was a question at 998 s, at the guard from 998.5 to 999.5 s, and then decided."""
    asked = make_asked(trace=Trace(spans=IDS), read_at_ms=1_800_000_000_000 + 997_900.0)
    weighed = Weighed(status="judged", action="allow")
    decision: Decision = make_decision(asked, weighed, Source(), Took(guard_ms=1000.0))
    sink = Sink()
    path = PathSpans(sink, SlowClock(), group="g")
    path.decided(asked, Publication("d", None, None, []), decision, begun_s=998.0, asked_s=998.5, calls=calls)
    return sink.spans


def test_the_phases_of_a_call_end_with_it_and_stay_within_it() -> None:
    times = EngineTimes(queue_s=0.1, prefill_s=0.2, decode_s=0.3)
    spans = {span.name: span for span in spans_of(call(998.5, 999.4, times))}
    think, queue, prefill, decode = (spans[name] for name in ("think", "queue", "prefill", "decode"))
    assert think.parent_id == IDS.guard
    assert {queue.parent_id, prefill.parent_id, decode.parent_id} == {think.span_id}
    assert decode.ended_ms == pytest.approx(think.ended_ms, abs=ROUNDED_MS)
    assert [round(span.ended_ms - span.begun_ms) for span in (queue, prefill, decode)] == [100, 200, 300]
    assert (queue.ended_ms, prefill.ended_ms) == (prefill.begun_ms, decode.begun_ms)


def test_each_call_has_phases_of_its_own() -> None:
    first = EngineTimes(queue_s=0.0, prefill_s=0.1, decode_s=0.3)
    second = EngineTimes(queue_s=0.0, prefill_s=0.2, decode_s=0.1)
    spans = spans_of(call(998.5, 998.9, first), call(998.9, 999.3, second), call(999.3, 999.4, None))
    calls = [span for span in spans if span.name == "think"]
    assert len(calls) == 3
    prefills = {
        span.parent_id: round(span.ended_ms - span.begun_ms) for span in spans if span.name == "prefill"
    }
    assert prefills == {calls[0].span_id: 100, calls[1].span_id: 200}


def test_spans_lie_within_their_parents_however_slowly_the_clocks_are_read() -> None:
    times = EngineTimes(queue_s=0.1, prefill_s=0.2, decode_s=0.7)
    spans = spans_of(call(998.5, 999.5, times))
    above = {span.span_id: span for span in spans if span.span_id}
    for span in spans:
        if (parent := above.get(span.parent_id)) is not None:
            assert parent.begun_ms - ROUNDED_MS <= span.begun_ms, span.name
            assert span.ended_ms <= parent.ended_ms + ROUNDED_MS, span.name
    assert len(spans) == 8


def test_an_event_that_is_not_traced_has_no_span() -> None:
    sink, asked = Sink(), make_asked()
    decision = make_decision(asked, Weighed(status="judged", action="allow"), Source(), Took())
    publication = Publication("d", None, None, [])
    assert PathSpans(sink, SlowClock(), group="g").decided(asked, publication, decision) is publication
    assert sink.spans == []
