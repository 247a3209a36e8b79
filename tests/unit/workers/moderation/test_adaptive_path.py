"""The mode `adaptive` through the whole path: what decisions say of the way it went, now and remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from guard.checkpoint import SHIPPED, Checkpoint, open_checkpoint
from schemas.policy import Band
from tests.unit.workers.moderation.builders import make_policy
from tests.unit.workers.moderation.guard_world import GuardWorld, decision_of, event_record
from workers.adapters.verdict_codec import decode_verdict, encode_verdict

# The scripted engine's scores lie between 0.1 and 0.6.
BAND = Band(low=0.3, high=0.5)
TEXTS = [f"message number {number}" for number in range(24)]

World = Callable[..., Awaitable[GuardWorld]]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(SHIPPED / "tiny"), weights=False)


@pytest.fixture
async def make(checkpoint: Checkpoint) -> AsyncIterator[World]:
    worlds: list[GuardWorld] = []

    async def made(**changes: Any) -> GuardWorld:
        world = GuardWorld(
            checkpoint,
            make_policy(id="adaptive", mode="adaptive", uncertain_band=BAND),
            make_policy(id="wide", mode="adaptive", uncertain_band=Band(low=0.0, high=1.0)),
            make_policy(id="fast", mode="fast"),
            make_policy(id="think", mode="think"),
            **changes,
        )
        worlds.append(world)
        await world.judge.start()
        return world

    yield made
    for world in worlds:
        await world.close()


async def decisions(world: GuardWorld, policy: str, offset: int = 0) -> list[Any]:
    records = [event_record(offset + n, text, policy=policy) for n, text in enumerate(TEXTS)]
    return [decision_of(publication) for publication in await world.run(*records)]


async def test_a_decision_is_the_fast_one_or_the_thinking_one_and_says_which(make: World) -> None:
    world = await make()
    adaptive, fast, think = [
        await decisions(world, policy, 100 * n) for n, policy in enumerate(("adaptive", "fast", "think"))
    ]
    assert {decision.answered_in for decision in adaptive} == {"fast", "think"}
    for one, at_once, thought in zip(adaptive, fast, think, strict=True):
        same = thought if BAND.low <= at_once.score < BAND.high else at_once
        assert one.answered_in == same.answered_in == same.guard.mode
        assert (one.label, one.score, one.categories, one.action) == (
            same.label,
            same.score,
            same.categories,
            same.action,
        )
        assert one.guard.mode == "adaptive"


async def test_a_decision_says_what_each_step_cost(make: World) -> None:
    world = await make(delay_s=0.002)
    for decision in await decisions(world, "adaptive"):
        assert [step.mode for step in decision.steps] == (
            ["fast"] if decision.answered_in == "fast" else ["fast", "think"]
        )
        assert sum(step.prompt_tokens for step in decision.steps) == decision.tokens.prompt
        assert sum(step.completion_tokens for step in decision.steps) == decision.tokens.completion
        assert all(step.took_ms >= 1.0 for step in decision.steps)
        assert sum(step.took_ms for step in decision.steps) <= decision.timings.guard_ms


async def test_a_remembered_verdict_says_the_way_and_no_steps(make: World) -> None:
    world = await make()
    first, again = await decisions(world, "adaptive"), await decisions(world, "adaptive", 100)
    for one, other in zip(first, again, strict=True):
        assert other.cache.hit
        assert (other.answered_in, other.score, other.label) == (one.answered_in, one.score, one.label)
        assert (one.steps != (), other.steps) == (True, ())
    for cached in world.cache.kept.values():
        assert decode_verdict(encode_verdict(cached)) == cached


async def test_a_verdict_under_another_band_or_mode_is_not_answered(make: World) -> None:
    world = await make()
    for number, policy in enumerate(("adaptive", "wide", "think", "fast")):
        assert not any(decision.cache.hit for decision in await decisions(world, policy, 100 * number))
    assert all(decision.answered_in == "think" for decision in await decisions(world, "wide", 900))


async def test_a_judgement_without_a_verdict_says_what_was_tried(make: World) -> None:
    world = await make(completion=lambda _: "what?")
    decision = (await decisions(world, "adaptive"))[0]
    assert (decision.status, decision.reason, decision.answered_in) == ("unjudged", "unparseable", None)
    assert [step.mode for step in decision.steps] == ["fast", "think"]
    assert decision.tokens.prompt > 0
