"""Asking in turns with other workers: who waits, for how long, and what becomes of the other's verdict."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from guard.checkpoint import Checkpoint, open_checkpoint
from guard.errors import EngineFailed
from tests.model_folders import write_bare_folder
from tests.unit.workers.moderation.builders import make_policy, make_verdict
from tests.unit.workers.moderation.guard_world import NOW_MS, GuardWorld, decision_of, event_record
from workers.ports import CachedVerdict

ELSEWHERE = CachedVerdict(
    make_verdict(label="unsafe", score=0.9, rationale="listed"),
    "f" * 64,
    NOW_MS - 500,
    "masked",
    "other-model",
    "d" * 64,
    True,
    "0",
)


class Turns:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self, verdict: CachedVerdict | None = None) -> None:
        self.verdict = verdict
        self.limits: list[float | None] = []
        self.ended: list[str] = []

    async def take(self, key: str, limit_s: float | None) -> CachedVerdict | None:
        self.limits.append(limit_s)
        return self.verdict

    def end(self, key: str) -> None:
        self.ended.append(key)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = write_bare_folder(tmp_path_factory.mktemp("checkpoint"))
    return open_checkpoint(str(folder), template="rsafe-compact-1", weights=False)


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
async def world(checkpoint: Checkpoint, turns: Turns) -> AsyncIterator[GuardWorld]:
    made = GuardWorld(
        checkpoint,
        make_policy(id="kept-not", cache_ttl=0),
        turns=turns,
        failures=[EngineFailed("no")] * 2,
    )
    await made.judge.start()
    yield made
    await made.close()


async def test_what_another_worker_was_told_decides_as_if_it_was_remembered(
    world: GuardWorld, turns: Turns
) -> None:
    turns.verdict = ELSEWHERE
    first, second = (
        decision_of(one) for one in await world.run(event_record(1, "hi"), event_record(2, "hi"))
    )
    for decision in (first, second):
        assert (decision.label, decision.score, decision.rationale) == ("unsafe", 0.9, "listed")
        assert (decision.cache.hit, decision.cache.origin_decision) == (True, "f" * 64)
        assert decision.cache.age_ms is not None
        assert 500 <= decision.cache.age_ms < 60_000
        assert decision.tokens.prompt == 0
        assert decision.guard is not None
        assert (decision.guard.model, decision.guard.engine_version) == ("other-model", "0")
    assert len(turns.limits) == 1  # one turn for all who ask the same here
    assert world.cache.kept == {}


async def test_a_question_gives_its_turn_back_whatever_came_of_it(world: GuardWorld, turns: Turns) -> None:
    statuses = []
    for number in (1, 2):  # the first one fails
        (publication,) = await world.run(event_record(number, "hi"))
        statuses.append(decision_of(publication).status)
    assert statuses == ["unjudged", "judged"]
    assert len(turns.ended) == 2
    assert turns.ended[0] == turns.ended[1] == next(iter(world.cache.kept))


async def test_half_of_the_time_until_the_deadline_is_left_for_asking(
    world: GuardWorld, turns: Turns
) -> None:
    await world.run(event_record(1, "hi", deadline_ms=10_000), event_record(2, "ho"))
    with_deadline, without = turns.limits
    assert with_deadline is not None
    assert 4 < with_deadline <= 5
    assert without is None


async def test_what_is_not_kept_takes_no_turn(world: GuardWorld, turns: Turns) -> None:
    await world.run(event_record(1, "hi", policy="kept-not"))
    assert turns.limits == []


async def test_a_rationale_that_was_kept_whole_is_masked(world: GuardWorld, turns: Turns) -> None:
    whole = msgspec.structs.replace(
        ELSEWHERE, verdict=make_verdict(rationale="the words strawberry fields"), rationale_form="full"
    )
    turns.verdict = whole
    (publication,) = await world.run(event_record(1, "strawberry fields forever"))
    rationale = decision_of(publication).rationale
    assert rationale is not None
    assert "strawberry" not in rationale
