"""A worker process under trace, from the event's header to the decision's; its log level while it runs."""

from __future__ import annotations

import signal

from tests.collector import attributes_of, http_collector
from tests.integration.worker.harness import Topics, event
from tests.waiting import PATIENCE_S, wait_for

TRACE, OTHER, PARENT = (
    "0af7651916cd43dd8448eb211c80319c",
    "1bf7651916cd43dd8448eb211c80319c",
    "b7ad6b7169203331",
)


def header(trace: str, flags: str) -> list[tuple[str, bytes]]:
    return [("traceparent", f"00-{trace}-{PARENT}-{flags}".encode())]


def test_a_sampled_event_is_one_trace_and_what_is_held_is_sent_at_sigterm(topics: Topics) -> None:
    with http_collector() as collector:
        worker = topics.start(
            RSAFE_TRACING__EXPORT="http",
            RSAFE_TRACING__ENDPOINT=collector.address,
            RSAFE_TRACING__SAMPLE_RATIO="0",
            # Longer than the test: what comes, comes at the end.
            OTEL_BSP_SCHEDULE_DELAY="600000",
        )
        text = f"a text of {topics.name}"
        topics.produce([event("e-1", "t", "c", text)], [b"k"], headers=header(TRACE, "01"))
        topics.produce([event("e-2", "t", "c", text)], [b"k"], headers=header(OTHER, "00"))
        topics.produce([event("e-3", "t", "c", text)], [b"k"])
        topics.wait_decided(3)
        wait_for(lambda: topics.committed() >= 3, "the commit")
        assert collector.spans == []
        assert worker.stop() == 0
    spans = collector.of_trace(TRACE)
    process, send = spans[f"process {topics.name}.events"], spans[f"send {topics.name}.decisions"]
    # By trace, not by count: an unsafe verdict has a second call, for its categories.
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert {"recall verdict", "wait for the guard", "ask the guard"} < set(spans)
    assert process.parent_span_id.hex() == PARENT
    assert attributes_of(process)["messaging.consumer.group.name"] == topics.name
    headers = {
        record.offset(): dict(record.headers()).get("traceparent") for record in topics.records("decisions")
    }
    assert sorted(value.decode() for value in headers.values() if value) == sorted(
        [f"00-{TRACE}-{send.span_id.hex()}-01", f"00-{OTHER}-{PARENT}-00"]
    )
    assert {one.trace_id for one in topics.decisions()} == {TRACE, OTHER, None}
    assert text.encode() not in b"".join(collector.bodies)


def test_a_collector_that_is_away_holds_up_neither_events_nor_the_end(topics: Topics) -> None:
    worker = topics.start(
        RSAFE_TRACING__EXPORT="grpc",
        RSAFE_TRACING__ENDPOINT="http://127.0.0.1:9",
        RSAFE_TRACING__SAMPLE_RATIO="1",
        OTEL_BSP_SCHEDULE_DELAY="50",
    )
    values = [event(f"e-{number}", "t", "c", f"text {number % 5}") for number in range(200)]
    topics.produce(values, [b"k"] * 200)
    topics.wait_decided(200)
    assert worker.stop() == 0
    assert topics.committed() == 200
    lost = [line for line in worker.lines() if line.get("event") == "Spans are lost; no event is held up."]
    assert lost
    assert len(lost) <= 4  # at most one in ten seconds of each kind


def test_the_log_level_of_a_running_worker_follows_signals(topics: Topics) -> None:
    worker = topics.start()
    wait_for(lambda: worker.partitions(), "the partitions")
    text = f"a text of {topics.name}"
    topics.produce([event("quiet", "t", "c", text)], [b"k"])
    topics.wait_decided(1)
    worker.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: worker.said("The log level changed."), "the signal")
    topics.produce([event("told", "t", "c", f"another {text}")], [b"k"])
    wait_for(lambda: worker.said("An event was decided."), "its line", PATIENCE_S)
    worker.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: [line for line in worker.lines() if line.get("log_level") == "info"], "the signal")
    assert worker.stop() == 0
    decided = [line for line in worker.lines() if line.get("event") == "An event was decided."]
    assert [line["event_id"] for line in decided] == ["told"]
    assert text not in worker.log.read_text()
