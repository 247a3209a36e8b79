"""The worker over two real vLLM servers: one is killed under load, then the other; no event is lost.

The first events are traced: their traces hold the servers' own spans.
"""

from __future__ import annotations

import re

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from guard.checkpoint import SHIPPED
from schemas.decision import Decision
from tests.collector import Collector, attributes_of
from tests.conftest import require
from tests.fixtures_vllm_server import VllmServer
from tests.integration.worker.harness import Topics, events, order_inversions
from tests.waiting import wait_for

# Starts of servers on a busy machine among them.
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]
COUNT = 300
TRACED = 6
PARENT = "b7ad6b7169203331"
PATIENCE_S = 600.0


def metric(text: str, name: str) -> float:
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(value)


def unjudged_for(decisions: list[Decision]) -> set[str | None]:
    # `unparseable`: an answer of the tiny model, which has nothing to do with servers.
    return {one.reason for one in decisions if one.status == "unjudged"} - {"unparseable"}


def produce_traced(topics: Topics, values: list[bytes], keys: list[bytes | None]) -> list[str]:
    """Each event in a trace of its own; their ids."""
    traces = [f"{number:032x}" for number in range(1, len(values) + 1)]
    for trace, value, key in zip(traces, values, keys, strict=True):
        topics.produce([value], [key], headers=[("traceparent", f"00-{trace}-{PARENT}-01".encode())])
    return traces


def header_of_the_way(topics: Topics, collector: Collector, trace: str) -> bytes:
    """The decision's, from the trace: the event's span, the worker's, and the servers' own for each call."""
    sent = f"send {topics.name}.decisions"
    wait_for(lambda: sent in collector.of_trace(trace), "the worker's spans")
    found = collector.of_trace(trace)
    process, guard = found[f"process {topics.name}.events"], found["ask the guard"]
    assert process.parent_span_id.hex() == PARENT
    assert guard.parent_span_id == found[sent].parent_span_id == process.span_id

    def named(*names: str) -> list[Span]:
        return [span for span in collector.spans if span.trace_id.hex() == trace and span.name in names]

    calls = named("fast", "think")
    assert calls
    wait_for(lambda: len(named("llm_request")) >= len(calls), "the servers' spans")
    assert {span.parent_span_id for span in calls + named("llm_request")} == {guard.span_id}
    tokens = [attributes_of(span)["gen_ai.usage.completion_tokens"] for span in named("llm_request")]
    assert sorted(tokens) == sorted(attributes_of(span)["gen_ai.usage.output_tokens"] for span in calls)
    return f"00-{trace}-{found[sent].span_id.hex()}-01".encode()


def test_no_event_is_lost_or_unjudged_when_servers_are_killed(
    topics: Topics, vllm_server: VllmServer, mortal_server: VllmServer, servers_collector: Collector
) -> None:
    require((SHIPPED / "tiny").is_dir(), "the shipped checkpoint is absent")
    mortal_server.ready()
    remote = {
        **vllm_server.environment,
        "RSAFE_GUARD__ENGINE": "remote",
        "RSAFE_GUARD__LOAD_FORMAT": "auto",
        "RSAFE_GUARD__ENDPOINTS": f"{vllm_server.url},{mortal_server.url}",
        "RSAFE_GUARD__MAX_CONCURRENCY": "16",
        "RSAFE_TRACING__EXPORT": "http",
        "RSAFE_TRACING__ENDPOINT": servers_collector.address,
        "RSAFE_TRACING__SAMPLE_RATIO": "0",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    worker = topics.start(**remote)
    wait_for(lambda: worker.said("The guard answers."), "the guard", PATIENCE_S)
    assert metric(worker.get("/metrics"), 'rsafe_guard_servers{state="serving"}') == 2
    values, keys = events(COUNT, topics.name, texts=COUNT)
    traces = produce_traced(topics, values[:TRACED], keys[:TRACED])
    topics.wait_decided(TRACED)
    due = [header_of_the_way(topics, servers_collector, trace) for trace in traces]
    headers = [dict(record.headers())["traceparent"] for record in topics.records("decisions")]
    assert sorted(headers) == sorted(due)
    topics.produce(values[TRACED:200], keys[TRACED:200])
    wait_for(lambda: topics.count("decisions") >= 20, "the first decisions", PATIENCE_S)
    mortal_server.kill()
    assert topics.count("decisions") < 200
    wait_for(lambda: topics.committed() >= 200, "all of the first events", PATIENCE_S)
    assert unjudged_for(topics.decisions()) == set()
    shown = worker.get("/metrics")
    assert metric(shown, 'rsafe_guard_servers{state="serving"}') == 1
    assert metric(shown, "rsafe_guard_up") == 1
    assert mortal_server.url in worker.get("/health/ready")
    # Both gone: the guard is down, events are held, and judged by whichever server comes back.
    vllm_server.kill()
    wait_for(lambda: worker.said("The guard is down; it is being brought back."), "the outage", PATIENCE_S)
    topics.produce(values[200:], keys[200:])
    vllm_server.ready()
    wait_for(lambda: topics.committed() >= COUNT, "what was held", PATIENCE_S)
    assert worker.stop() == 0
    decisions = topics.decisions()
    assert {one.event_id for one in decisions} == {f"event-{number}" for number in range(COUNT)}
    assert unjudged_for(decisions) == set()
    assert {one.guard.engine for one in decisions if one.guard is not None} == {"vllm-remote"}
    assert topics.count("dead") == 0
    assert order_inversions(decisions) == 0
