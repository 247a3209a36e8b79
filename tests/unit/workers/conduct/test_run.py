"""Readiness, the view, and the sweep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.unit.workers.conduct.world import START_S, World, decision, policy, rule
from workers.conduct.app import ConductApp, Elsewhere
from workers.conduct.entries import Entry, Forget, Subject, Sweep
from workers.conduct.run import ConductHealth, stopped, sweep, view_route
from workers.conduct.state import State, decode_state
from workers.errors import StreamStopped


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


class FakeApp:
    """States of a world, and the entries that are published."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.published: list[list[Entry]] = []

    def states(self) -> Iterator[tuple[bytes, State]]:
        for key, value in self.world.states.items():
            yield key, decode_state(value)

    async def publish(self, entries: Iterable[Entry]) -> None:
        self.published.append(list(entries))


async def test_what_has_expired_by_the_newest_event_time_is_swept_and_forgotten_authors_stay() -> None:
    world = _world()
    world.take([Forget(subject=Subject("author", "acme", "z"), until_ms=1)])
    app = FakeApp(world)
    await sweep(cast(ConductApp, app), world.engine)
    assert app.published == []
    world.decide(decision(9, 3 * 86_400, author="b"))
    await sweep(cast(ConductApp, app), world.engine)
    (swept,) = app.published
    assert all(isinstance(one, Sweep) and one.by_ms == (START_S + 3 * 86_400) * 1000 for one in swept)
    assert {one.subject.kind for one in swept} == {"author", "decision", "message"}
    world.take(swept)
    assert world.state("author", "a") is None and world.state("author", "b") is not None
    assert world.state("author", "z") is not None


async def test_many_are_swept_in_batches() -> None:
    world = World([policy(rule())])
    world.decide(*(decision(number, 1, author=f"a{number}") for number in range(1, 151)))
    world.decide(decision(999, 3 * 86_400))
    app = FakeApp(world)
    await sweep(cast(ConductApp, app), world.engine)
    assert [len(batch) for batch in app.published] == [200, 200, 50]


def test_why_the_app_stopped_is_told_without_the_words_of_the_error() -> None:
    class Failed:
        failure: BaseException | None = ValueError("secret words")
        crash_reason = None

    told = stopped(cast(ConductApp, Failed()))
    assert "ValueError" in str(told) and "secret" not in str(told)
    Failed.failure = StreamStopped("the state went")
    assert stopped(cast(ConductApp, Failed())) is Failed.failure
