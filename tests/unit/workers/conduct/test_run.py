"""Readiness, the view, and the end."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from tests.unit.workers.conduct.world import START_S, World, decision, policy, rule
from workers.conduct import run as module
from workers.conduct.app import ConductApp, Elsewhere
from workers.conduct.run import ConductHealth, stopped, view_route
from workers.conduct.state import State
from workers.errors import StreamStopped
from workers.settings import KafkaSettings, Settings


def test_ready_is_what_the_app_says_until_it_stops() -> None:
    health = ConductHealth(lambda: 0.0)
    assert health.not_ready == ["no partition of the state is here and read"]
    health.ready = lambda: True
    assert health.not_ready == []
    health.stopping = True
    assert health.not_ready == ["the app is stopping"]


def _world() -> World:
    world = World([policy(rule())])
    world.decide(decision(1, 1), decision(2, 2))
    return world


async def _get(found: State | Elsewhere | None, path: str) -> tuple[int, Any]:
    app = web.Application()
    app.add_routes([view_route(lambda _: found, _world().book, lambda: (START_S + 10) * 1000)])
    async with TestClient(TestServer(app)) as client, client.get(path) as answer:
        return answer.status, await answer.json()


async def test_the_view_shows_what_counts() -> None:
    state = _world().state("author", "a")
    status, shown = await _get(state, "/conduct/author?tenant=acme&id=a")
    assert status == 200
    assert [one["score"] for one in shown["scores"]] == [2.0]
    assert await _get(None, "/conduct/tenant?tenant=acme&id=acme") == (
        200,
        {
            "tenant": "acme",
            "per": "tenant",
            "subject": "acme",
            "decisions": [],
            "scores": [],
            "recommendations": [],
        },
    )


@pytest.mark.parametrize(
    "path",
    ["/conduct/author?tenant=acme", "/conduct/author?id=a", "/conduct/decision?tenant=acme&id=a"],
    ids=["id", "tenant", "kind"],
)
async def test_a_question_that_lacks_a_part_is_explained(path: str) -> None:
    status, shown = await _get(None, path)
    assert status == 400 and "tenant= and id=" in shown["error"]


async def test_the_state_of_another_process_is_not_shown_as_nothing() -> None:
    assert (await _get(Elsewhere(), "/conduct/author?tenant=acme&id=a"))[0] == 421


def test_why_the_app_stopped_is_told_without_the_words_of_the_error() -> None:
    class Failed:
        failure: BaseException | None = ValueError("secret words")
        crash_reason = None

    told = stopped(cast(ConductApp, Failed()))
    assert "ValueError" in str(told) and "secret" not in str(told)
    Failed.failure = StreamStopped("the state went")
    assert stopped(cast(ConductApp, Failed())) is Failed.failure


class Ends:
    """An app that goes on until it is told to stop, and how that goes."""

    ready, crashed, crash_reason = True, False, None

    def __init__(self, *_: Any) -> None:
        self.failed, self.failure = asyncio.Event(), cast(BaseException | None, None)

    def state(self, key: bytes) -> None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.failure = ConnectionError()


class Raises(Ends):
    async def stop(self) -> None:
        raise ConnectionError


@pytest.mark.parametrize(("kind", "raised"), [(Ends, StreamStopped), (Raises, ConnectionError)])
async def test_an_end_that_fails_is_an_error_and_the_server_is_closed(
    monkeypatch: pytest.MonkeyPatch, kind: type[Ends], raised: type[Exception]
) -> None:
    closed: list[bool] = []

    class Server:
        port = 1

        @classmethod
        async def start(cls, *_: Any, **__: Any) -> Server:
            return cls()

        async def close(self) -> None:
            closed.append(True)

    async def arrived(digest: str) -> None: ...

    monkeypatch.setattr(module, "ConductApp", kind)
    monkeypatch.setattr(module, "HealthServer", Server)
    stopping = asyncio.Event()
    stopping.set()
    with pytest.raises(raised):
        await module._run(Settings(), _world().book, arrived, stopping)
    assert closed == [True]


def test_a_sweep_that_is_not_told_where_the_group_is_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "group_progress", lambda *_: None)
    with capture_logs() as said:
        assert module._progress(KafkaSettings(), "g", ["a"]) is None
    assert [line["log_level"] for line in said] == ["warning"]
    monkeypatch.setattr(module, "group_progress", lambda *_: {})
    with capture_logs() as said:
        assert module._progress(KafkaSettings(), "g", ["a"]) == {}
    assert said == []
