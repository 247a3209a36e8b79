"""Hostile events go every way that fails, at level debug: no text is in log, spans or metrics."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import structlog
from aiohttp import ClientSession, web
from prometheus_client import generate_latest

from guard.checkpoint import Checkpoint, open_checkpoint
from guard.errors import EngineFailed
from schemas.policy import Category
from tests.collector import Collector, http_collector
from tests.model_folders import write_bare_folder
from tests.unit.workers.moderation.builders import make_policy, make_turn
from tests.unit.workers.moderation.guard_world import GuardWorld, decision_of, event_record
from tests.waiting import until
from workers.adapters.otlp import OtlpExporter
from workers.adapters.redis import RedisCache
from workers.health import Health
from workers.logs import attend, configure_logging
from workers.metrics import Metrics
from workers.ports import CachedVerdict, Record
from workers.settings import RedisSettings
from workers.stream.outage import Outage
from workers.telemetry import Telemetry
from workers.tracing import Tracing

MARK = "zxqvmark"
PARTS = ("text", "context", "author", "rationale", "definition", "error", "key", "header")
MARKS = {part: f"{MARK}-{part}" for part in PARTS}
HEADERS: list[tuple[str, bytes | None]] = [
    ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("x-note", MARKS["header"].encode()),
]


class Seen:
    """Everything that a worker shows of itself."""

    def __init__(self, stream: io.StringIO, collector: Collector) -> None:
        self.stream, self.collector = stream, collector
        self.metrics = Metrics()
        self.telemetry = Telemetry(self.metrics, Health(lambda: 0.0), lambda: 0.0)
        exporter = OtlpExporter("http", collector.address, 10_000, self.telemetry)
        self.tracing = Tracing(exporter, 1.0, random.Random(1))

    @property
    def sentences(self) -> set[str]:
        return {json.loads(line)["event"] for line in self.stream.getvalue().splitlines()}

    async def check(self) -> None:
        """Nothing of a text is shown; what is shown is not nothing."""
        await self.tracing.close()
        log, metrics = self.stream.getvalue(), generate_latest(self.metrics.registry).decode()
        spans = b"".join(self.collector.bodies)
        assert log
        assert self.collector.spans
        assert MARK not in log
        assert MARK not in metrics
        assert MARK.encode() not in spans


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    root, ours = logging.getLogger(), logging.getLogger("rsafe")
    before = (root.handlers[:], root.level, ours.level)
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging("debug", "json")
    with http_collector() as collector:
        yield Seen(stream, collector)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = write_bare_folder(tmp_path_factory.mktemp("checkpoint"))
    return open_checkpoint(str(folder), template="rsafe-compact-1", weights=False)


def hostile(offset: int, **changes: Any) -> Record:
    """Every part that a person writes is marked."""
    changes = {
        "author": MARKS["author"],
        "context": (make_turn(MARKS["context"]),),
        "policy": "p-2",
    } | changes
    record = event_record(offset, changes.pop("text", MARKS["text"]), **changes)
    return msgspec.structs.replace(record, headers=HEADERS, key=MARKS["key"].encode())


def marked_policy(**changes: Any) -> Any:
    category = Category(code="C1", title="one", definition=MARKS["definition"], action="flag")
    return make_policy(id="p-2", categories=(category,), **changes)


async def test_records_that_are_no_events(checkpoint: Checkpoint, seen: Seen) -> None:
    whole = hostile(0).value or b""
    wrong = json.loads(whole)
    wrong["message"]["role"] = MARKS["text"]
    unknown = json.loads(whole) | {MARKS["text"]: 1, "policy": "not-" + "there"}
    values = [
        whole[:-5],
        b'"' + MARKS["text"].encode(),
        json.dumps(wrong).encode(),
        json.dumps(unknown).encode(),
        (hostile(0, text=MARKS["text"] * 100).value or b""),
        (hostile(0, context=tuple(make_turn(MARKS["context"]) for _ in range(9))).value or b""),
        b"\xff" + whole,
    ]
    records = [msgspec.structs.replace(hostile(at), value=value) for at, value in enumerate(values)]
    world = GuardWorld(checkpoint, marked_policy(), sink=seen.tracing, telemetry=seen.telemetry)
    await world.judge.start()
    letters = await world.run(*records)
    await world.close()
    assert sum(letter.topic == "x" for letter in letters) == len(values)
    for letter in letters:
        assert letter.settled is not None
        letter.settled(True)
    assert "A record became a dead letter." in seen.sentences
    await seen.check()


async def test_verdicts_answers_and_refusals_of_the_guard(checkpoint: Checkpoint, seen: Seen) -> None:
    answers = iter(
        [
            f"{MARKS['rationale']} {MARKS['text']}\n</think>\n\n\\boxed{{unsafe}}\nC1",
            f"{MARKS['rationale']} without a verdict",
            f"{MARKS['rationale']}</think>\\boxed{{{MARKS['text']}}}",
        ]
    )
    world = GuardWorld(
        checkpoint,
        marked_policy(),
        completion=lambda _: next(answers, MARKS["rationale"]),
        failures=[EngineFailed("refused")],
        sink=seen.tracing,
        telemetry=seen.telemetry,
    )
    await world.judge.start()
    for offset in range(5):
        await world.run(hostile(offset, text=f"{MARKS['text']} {offset}"))
    (long,) = await world.run(hostile(9, text=f"{MARKS['text']} " * 40))
    await world.close()
    assert long.topic in ("d", "x")
    assert "An event was decided." in seen.sentences
    await seen.check()


async def test_errors_whose_text_is_a_message(
    checkpoint: Checkpoint, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = GuardWorld(checkpoint, marked_policy(), sink=seen.tracing, telemetry=seen.telemetry)
    await world.judge.start()

    async def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"cannot judge {MARKS['error']}: {MARKS['text']}")

    monkeypatch.setattr(world.judge, "judge", fails)
    (publication,) = await world.run(hostile(1))
    assert decision_of(publication).detail == "RuntimeError"
    await world.close()
    seen.telemetry.failed(RuntimeError(MARKS["error"]))
    assert "An unexpected error; the record has an outcome all the same." in seen.sentences
    assert "An unexpected error stops the stream." in seen.sentences
    await seen.check()


async def test_a_redis_that_repeats_what_it_was_given(checkpoint: Checkpoint, seen: Seen) -> None:
    async with _answering(f"-ERR {MARKS['text']}\r\n".encode()) as port:
        settings = RedisSettings(url=f"redis://:{MARKS['error']}@127.0.0.1:{port}/0")  # type: ignore[arg-type]
        cache = RedisCache(
            settings, observer=seen.telemetry, clock=lambda: 0.0, random=random.Random(1).random
        )
        world = GuardWorld(checkpoint, marked_policy(), sink=seen.tracing, telemetry=seen.telemetry)
        await world.judge.start()
        kept: list[CachedVerdict | None] = await cache.recall([MARKS["key"]])
        assert kept == [None]
        await world.run(hostile(1))
        await world.close()
        await cache.close()
    assert "The shared cache failed; its verdicts are misses." in seen.sentences
    await seen.check()


async def test_libraries_and_the_event_loop(checkpoint: Checkpoint, seen: Seen) -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    attend(loop, "debug")
    world = GuardWorld(checkpoint, marked_policy(), sink=seen.tracing, telemetry=seen.telemetry)
    await world.judge.start()
    await world.run(hostile(1))
    await world.close()
    try:
        for name in ("vllm", "vllm.v1.engine", "redis", "asyncio", "opentelemetry.sdk", "confluent_kafka"):
            logging.getLogger(name).debug("prompt %s", MARKS["text"])
        loop.call_exception_handler({"message": MARKS["error"], "exception": ValueError(MARKS["error"])})
        await _a_page_that_fails()
    finally:
        for number in (10, 12):  # SIGUSR1, SIGUSR2
            loop.remove_signal_handler(number)
        loop.set_exception_handler(before)
    lines = [json.loads(line) for line in seen.stream.getvalue().splitlines()]
    assert [line for line in lines if line.get("error") == "LookupError"]
    await seen.check()


async def test_a_guard_that_dies_and_does_not_come_back(checkpoint: Checkpoint, seen: Seen) -> None:
    tries: list[int] = []

    async def bring_up() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise EngineFailed("vLLM could not be started")

    outage = Outage(
        bring_up, EngineFailed, observer=seen.telemetry, alive=lambda: False, sleep=lambda _: asyncio.sleep(0)
    )
    outage.begin()
    await until(lambda: len(tries) == 3)
    await outage.close()
    world = GuardWorld(
        checkpoint, marked_policy(on_unavailable="review"), sink=seen.tracing, telemetry=seen.telemetry
    )
    (publication,) = await world.run(hostile(1))  # never started
    assert decision_of(publication).reason == "unavailable"
    await world.close()
    assert "The guard did not come back; it is tried again." in seen.sentences
    await seen.check()


@asynccontextmanager
async def _answering(answer: bytes) -> AsyncIterator[int]:
    """A server that gives one answer to everything, at a free port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(answer * 20)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _a_page_that_fails() -> None:
    async def page(_: web.Request) -> web.Response:
        raise LookupError(MARKS["error"])

    app = web.Application()
    app.add_routes([web.get("/", page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with (
            ClientSession() as session,
            session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/") as got,
        ):
            assert got.status == 500
    finally:
        await runner.cleanup()
