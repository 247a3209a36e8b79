"""The spans of an event's way, written down when it has been walked, from the times that are known by then.

    process <events topic>        from the read of the record to its decision; child of the event's span
        recall verdict            reading, policy, and the look into the cache, which a batch does together
        wait for the guard        from there until the guard is asked
        ask the guard             what it is asked; a server of the guard continues here
            fast | think          one call of the engine, with its tokens
                queue, prefill, decode    where vLLM in this program measures them
        send <decisions topic>    from the decision to the broker's acknowledgement; its place in the
                                  conversation's order is waited for in it. The decision's header names it.

Names and ids only: no text, no rationale, no author. Knows nothing of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal, Protocol

import msgspec

from guard.serving.call_trace import CallTrace, TracedCall
from schemas.decision import Decision
from workers.moderation.outcome import Asked
from workers.moderation.trace import SpanIds, Trace, traceparent
from workers.ports import Clock, Headers, Publication, Record

Attributes = dict[str, str | int | bool]


class Span(msgspec.Struct, frozen=True):
    """A span that has ended. Times in Unix milliseconds, ids as in W3C trace context.

    `span_id` 0: any; `parent_id` 0: none. `error`: a stable code of what went wrong.
    """

    name: str
    kind: Literal["consumer", "producer", "client", "internal"]
    trace_id: int
    span_id: int
    parent_id: int
    begun_ms: float
    ended_ms: float
    attributes: Attributes
    error: str | None = None


class SpanSink(Protocol):
    """Where traces begin and spans go. Neither waits nor raises."""

    def begin(self, headers: Headers | None) -> Trace:
        """What a record says of its trace; with `spans` where its way is to be recorded."""
        ...

    def new_id(self) -> int:
        """An id for a span."""
        ...

    def emit(self, span: Span) -> None: ...


class PathSpans:
    """Writes the spans of events whose trace has `spans`, and passes over the others. One per path."""

    def __init__(self, sink: SpanSink, clock: Clock, *, group: str) -> None:
        """`group`: the consumer group."""
        self._sink, self._clock, self._group = sink, clock, group

    def begin(self, headers: Headers | None) -> Trace:
        return self._sink.begin(headers)

    def remembered(
        self, ask: Asked, publication: Publication, action: str, recalled_ms: float
    ) -> Publication:
        """An event was decided by a remembered verdict, in hand at `recalled_ms`."""
        ids = ask.trace.spans
        if ids is None:
            return publication
        self._recall(ids, ask, recalled_ms, hit=True)
        now_ms = self._clock.now_ms()
        told: Attributes = {"rsafe.status": "judged", "rsafe.action": action}
        self._process(ids, ask.record, ask.read_at_ms, now_ms, _of_event(ask) | told)
        return self._sent(ids, publication, now_ms)

    def decided(
        self,
        ask: Asked,
        publication: Publication,
        decision: Decision,
        *,
        begun_s: float | None = None,
        asked_s: float = 0.0,
        calls: tuple[TracedCall, ...] = (),
    ) -> Publication:
        """An event was decided without one. `begun_s`, `asked_s`: when it became a question for the guard,
        and when the guard was asked, in monotonic seconds; None: it became none."""
        ids = ask.trace.spans
        if ids is None:
            return publication
        now_ms = self._clock.now_ms()
        if begun_s is not None:
            # Read once: this thread may wait for a core between two clocks, and children would leave parents.
            zero_ms = now_ms - self._clock.monotonic_s() * 1000
            begun_ms, asked_ms = zero_ms + begun_s * 1000, zero_ms + asked_s * 1000
            self._recall(ids, ask, begun_ms, hit=False)
            self._emit(ids, "wait for the guard", begun_ms, asked_ms, {})
            if decision.timings.guard_ms:
                self._guard(ids, decision, asked_ms, calls, zero_ms)
        told: Attributes = {"rsafe.status": decision.status, "rsafe.action": decision.action}
        if decision.reason is not None:
            told["rsafe.reason"] = decision.reason
        error = decision.reason if decision.status == "unjudged" else None
        self._process(ids, ask.record, ask.read_at_ms, now_ms, _of_event(ask) | told, error)
        return self._sent(ids, publication, now_ms)

    def dead_lettered(
        self, record: Record, trace: Trace, publication: Publication, reason: str, read_at_ms: float
    ) -> Publication:
        """A record became no decision. Its headers stay what they were."""
        ids = trace.spans
        if ids is None:
            return publication
        now_ms = self._clock.now_ms()
        self._process(ids, record, read_at_ms, now_ms, {}, reason)
        return self._sent(ids, publication, now_ms)

    def _recall(self, ids: SpanIds, ask: Asked, ended_ms: float, *, hit: bool) -> None:
        self._emit(ids, "recall verdict", ask.read_at_ms, ended_ms, {"rsafe.cache.hit": hit})

    def _guard(
        self,
        ids: SpanIds,
        decision: Decision,
        asked_ms: float,
        calls: tuple[TracedCall, ...],
        zero_ms: float,
    ) -> None:
        guard, told = decision.guard, Attributes()
        if guard is not None:
            told = {
                "gen_ai.request.model": guard.model,
                "rsafe.engine": guard.engine,
                "rsafe.mode": guard.mode,
            }
        self._emit(
            ids,
            "ask the guard",
            asked_ms,
            asked_ms + decision.timings.guard_ms,
            told,
            kind="client",
            span_id=ids.guard,
            error=decision.reason if decision.status == "unjudged" else None,
        )
        for call in calls:
            self._call(ids, call, zero_ms)

    def _call(self, ids: SpanIds, call: TracedCall, zero_ms: float) -> None:
        """`zero_ms`: when the monotonic clock was 0, in Unix milliseconds."""
        step, own_id = call.step, self._sink.new_id()
        told: Attributes = {
            "gen_ai.usage.input_tokens": step.prompt_tokens,
            "gen_ai.usage.output_tokens": step.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": step.cached_tokens,
            "gen_ai.response.finish_reason": step.finish_reason,
        }
        begun_ms, ended_ms = zero_ms + call.begun_s * 1000, zero_ms + call.ended_s * 1000
        self._emit(ids, step.mode, begun_ms, ended_ms, told, parent_id=ids.guard, span_id=own_id)
        for name, begun, ended in _phases(call, ended_ms):
            self._emit(ids, name, begun, ended, {}, parent_id=own_id)

    def _process(
        self,
        ids: SpanIds,
        record: Record,
        begun_ms: float,
        ended_ms: float,
        attributes: Attributes,
        error: str | None = None,
    ) -> None:
        told: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "messaging.consumer.group.name": self._group,
        }
        self._emit(
            ids,
            f"process {record.topic}",
            begun_ms,
            ended_ms,
            told | attributes,
            kind="consumer",
            span_id=ids.process,
            parent_id=ids.parent,
            error=error,
        )

    def _sent(self, ids: SpanIds, publication: Publication, begun_ms: float) -> Publication:
        return msgspec.structs.replace(
            publication, settled=partial(self._settled, ids, publication.topic, begun_ms)
        )

    def _settled(self, ids: SpanIds, topic: str, begun_ms: float, delivered: bool) -> None:
        told: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
        }
        error = None if delivered else "too_large"
        ended_ms = self._clock.now_ms()
        self._emit(
            ids, f"send {topic}", begun_ms, ended_ms, told, kind="producer", span_id=ids.send, error=error
        )

    def _emit(
        self,
        ids: SpanIds,
        name: str,
        begun_ms: float,
        ended_ms: float,
        attributes: Attributes,
        *,
        kind: Literal["consumer", "producer", "client", "internal"] = "internal",
        span_id: int = 0,
        parent_id: int | None = None,
        error: str | None = None,
    ) -> None:
        parent = ids.process if parent_id is None else parent_id
        # The broker's clock may be set back meanwhile.
        ended_ms = max(begun_ms, ended_ms)
        self._sink.emit(Span(name, kind, ids.trace, span_id, parent, begun_ms, ended_ms, attributes, error))


def call_trace(trace: Trace) -> CallTrace | None:
    """Where the calls of an event's judgement are noted; None: nowhere."""
    ids = trace.spans
    return None if ids is None else CallTrace(traceparent(ids.trace, ids.guard).decode())


def _of_event(ask: Asked) -> Attributes:
    event, policy = ask.event, ask.chosen.used
    return {
        "messaging.message.id": event.event_id,
        "messaging.message.conversation_id": event.conversation_id,
        "rsafe.tenant": event.tenant,
        "rsafe.decision_id": ask.decision_id,
        "rsafe.policy": policy.id,
        "rsafe.policy.version": policy.version,
    }


def _phases(call: TracedCall, ended_ms: float) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end. The engine says how long each took; the last one ends with the call."""
    if call.times is None:
        return
    spent = [call.times.queue_s, call.times.prefill_s, call.times.decode_s]
    at_ms = ended_ms - sum(spent) * 1000
    for name, spent_s in zip(("queue", "prefill", "decode"), spent, strict=True):
        yield name, at_ms, at_ms + spent_s * 1000
        at_ms += spent_s * 1000
