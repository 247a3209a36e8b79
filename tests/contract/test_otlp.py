"""Traces as a collector gets them: the path of an event over the real judge, and OTLP over the wire."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Literal

import msgspec
import pytest

from guard.checkpoint import Checkpoint, open_checkpoint
from schemas.dead_letter import read_dead_letter
from tests.collector import Collector, attributes_of, grpc_collector, http_collector
from tests.model_folders import write_bare_folder
from tests.unit.workers.moderation.builders import make_policy
from tests.unit.workers.moderation.guard_world import GuardWorld, decision_of, event_record
from workers.adapters import otlp
from workers.adapters.otlp import OtlpExporter
from workers.errors import SettingsError
from workers.moderation.spans import Span
from workers.ports import Publication, Record
from workers.tracing import Tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
KINDS: dict[str, Callable[[], AbstractContextManager[Collector]]] = {
    "http": http_collector,
    "grpc": grpc_collector,
}


class Told:
    """Counts of what became of spans."""

    def __init__(self) -> None:
        self.exported, self.why = 0, list[str]()
        self.lost = {"failed": 0, "dropped": 0}

    def spans_exported(self, spans: int) -> None:
        self.exported += spans

    def spans_lost(self, outcome: Literal["failed", "dropped"], spans: int, why: str) -> None:
        self.lost[outcome] += spans
        self.why.append(why)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = write_bare_folder(tmp_path_factory.mktemp("checkpoint"))
    return open_checkpoint(str(folder), template="rsafe-compact-1", weights=False)


@pytest.fixture(params=["http", "grpc"])
def collector(request: pytest.FixtureRequest) -> Iterator[tuple[str, Collector]]:
    with KINDS[request.param]() as made:
        yield request.param, made


def traced(record: Record, flags: str = "01") -> Record:
    header = f"00-{TRACE}-{PARENT}-{flags}".encode()
    return msgspec.structs.replace(record, headers=[("traceparent", header)])


def settle(publications: list[Publication]) -> None:
    for publication in publications:
        if publication.settled is not None:
            publication.settled(True)


def header(publication: Publication) -> str:
    (value,) = [value for name, value in publication.headers if name == "traceparent"]
    assert value is not None
    return value.decode()


async def walk(
    checkpoint: Checkpoint, protocol: str, address: str, *batches: list[Record]
) -> tuple[list[Publication], Told]:
    """The publications of all batches, delivered, their spans sent."""
    told = Told()
    exporter = OtlpExporter(protocol, address, 1000, told)  # type: ignore[arg-type]
    tracing = Tracing(exporter, 0.0, random.Random(1))
    world = GuardWorld(checkpoint, make_policy(mode="think"), sink=tracing)
    await world.judge.start()
    try:
        done = [publication for batch in batches for publication in await world.run(*batch)]
        settle(done)
    finally:
        await world.close()
        await tracing.close()
    return done, told


async def test_a_judged_event_is_one_trace_from_its_parent_to_the_decisions_header(
    checkpoint: Checkpoint, collector: tuple[str, Collector]
) -> None:
    protocol, taken = collector
    (publication,), told = await walk(
        checkpoint, protocol, taken.address, [traced(event_record(7, "a text"))]
    )
    spans = taken.of_trace(TRACE)
    process, guard, send = spans["process events"], spans["ask the guard"], spans["send d"]
    assert set(spans) == {
        "process events",
        "recall verdict",
        "wait for the guard",
        "ask the guard",
        "think",
        "send d",
    }
    assert process.parent_span_id.hex() == PARENT
    for name in ("recall verdict", "wait for the guard", "ask the guard", "send d"):
        assert spans[name].parent_span_id == process.span_id
    assert spans["think"].parent_span_id == guard.span_id
    assert header(publication) == f"00-{TRACE}-{send.span_id.hex()}-01"
    decision = decision_of(publication)
    assert decision.trace_id == TRACE
    facts = attributes_of(process)
    assert facts["messaging.system"] == "kafka"
    assert facts["messaging.kafka.offset"] == 7
    assert facts["rsafe.decision_id"] == decision.decision_id
    assert attributes_of(spans["think"])["gen_ai.usage.output_tokens"] == decision.steps[0].completion_tokens
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in spans.values())
    assert (told.exported, told.lost) == (6, {"failed": 0, "dropped": 0})
    assert taken.resource["service.name"] == "rsafe-stream"


async def test_a_remembered_verdict_shows_that_nobody_was_asked(checkpoint: Checkpoint) -> None:
    with http_collector() as taken:
        first = event_record(1, "the same text")
        second = traced(event_record(2, "the same text"))
        await walk(checkpoint, "http", taken.address, [first], [second])
    spans = taken.of_trace(TRACE)
    assert set(spans) == {"process events", "recall verdict", "send d"}
    assert attributes_of(spans["recall verdict"])["rsafe.cache.hit"] is True
    assert len(taken.spans) == 3


async def test_an_event_that_is_not_sampled_gives_no_span_and_keeps_its_header(
    checkpoint: Checkpoint,
) -> None:
    with http_collector() as taken:
        (one, other), _ = await walk(
            checkpoint, "http", taken.address, [traced(event_record(1, "x"), "00"), event_record(2, "y")]
        )
    assert taken.spans == []
    assert header(one) == f"00-{TRACE}-{PARENT}-00"
    assert [name for name, _ in other.headers if name == "traceparent"] == []


async def test_a_dead_letter_ends_its_trace_with_the_reason_and_its_headers_stay(
    checkpoint: Checkpoint,
) -> None:
    with http_collector() as taken:
        record = msgspec.structs.replace(traced(event_record(1, "x")), value=b"{no json")
        (letter,), _ = await walk(checkpoint, "http", taken.address, [record])
    spans = taken.of_trace(TRACE)
    reason = read_dead_letter(letter.headers).reason
    assert attributes_of(spans["process events"])["error.type"] == reason
    assert spans["send x"].parent_span_id == spans["process events"].span_id
    assert header(letter) == f"00-{TRACE}-{PARENT}-01"


def a_span(name: str = "one") -> Span:
    return Span(name, "internal", 1, 0, 0, 1_000.0, 2_000.0, {})


async def test_a_collector_that_refuses_costs_spans_which_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Told()
    with http_collector() as taken:
        taken.status = 400
        exporter = OtlpExporter("http", taken.address, 10, told)
        for _ in range(4):
            exporter.emit(a_span())
        await exporter.close()
    assert taken.refused == 1
    assert (told.exported, told.lost) == (0, {"failed": 4, "dropped": 0})
    assert "400" in told.why[0]


async def test_a_full_queue_drops_and_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    monkeypatch.setattr(otlp, "CLOSE_S", 0.05)
    with http_collector() as taken:
        taken.status = 503  # is tried again, until the end
        exporter = OtlpExporter("http", taken.address, 5, told)
        for _ in range(12):
            exporter.emit(a_span())
        assert told.lost["dropped"] == 7
        await exporter.close()
        assert told.lost["dropped"] + told.lost["failed"] == 12


async def test_a_root_has_no_parent_and_the_ids_that_were_chosen() -> None:
    with http_collector() as taken:
        exporter = OtlpExporter("http", taken.address, 5, Told())
        exporter.emit(Span("root", "consumer", 5, 6, 0, 1.0, 2.0, {}, "late"))
        await exporter.close()
    (span,) = taken.spans
    assert (int(span.trace_id.hex(), 16), int(span.span_id.hex(), 16)) == (5, 6)
    assert span.parent_span_id == b""
    assert attributes_of(span) == {"error.type": "late"}
    assert span.status.code == span.status.STATUS_CODE_ERROR


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_address_that_is_none_is_refused_by_the_settings_name(protocol: Literal["http", "grpc"]) -> None:
    with pytest.raises(SettingsError, match="RSAFE_TRACING__ENDPOINT"):
        OtlpExporter(protocol, "collector:4317", 5, Told())
