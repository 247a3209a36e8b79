"""Long conversations through the whole path: what the decision says of them, now and from the cache."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from guard.checkpoint import SHIPPED, Checkpoint, open_checkpoint
from guard.prompt import PromptRenderer
from schemas.decision import Decision
from schemas.identifiers import Mode
from schemas.policy import Category
from tests.unit.workers.moderation.builders import make_policy, make_turn
from tests.unit.workers.moderation.guard_world import GuardWorld, decision_of, event_record
from workers.adapters.verdict_codec import decode_verdict, encode_verdict
from workers.ports import Pending

# Windows of some forty tokens.
CUT = {"max_model_len": 160, "think_budget_tokens": 30, "answer_tokens": 24, "text_window_overlap_tokens": 12}
WORD = "xyzzy"
STORY = "so the story went on "

NAMED = Category(code="C1", title="one", definition="first", action="flag", threshold=0.0)

World = Callable[..., Awaitable[GuardWorld]]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(SHIPPED / "tiny"), weights=False)


@pytest.fixture
async def make(checkpoint: Checkpoint) -> AsyncIterator[World]:
    reader = PromptRenderer(checkpoint.path, checkpoint.template, b"secret")
    worlds: list[GuardWorld] = []

    def answer(ids: tuple[int, ...]) -> str:
        prompt = reader.encoder.decode(ids)
        forced = prompt.endswith("\\boxed{")
        if "nonsense" in prompt:
            return "what?"
        if WORD in prompt:
            return "unsafe}" if forced else " listed.</think>\n\\boxed{unsafe} C1"
        return "safe}" if forced else " fine.</think>\n\\boxed{safe}"

    async def made(**changes: Any) -> GuardWorld:
        world = GuardWorld(
            checkpoint,
            make_policy(id="fast", mode="fast"),
            # The scripted engine's scores say nothing: here only what is named can be a violation.
            make_policy(id="strict", on_unjudged="block", categories=(NAMED,), threshold=1.0),
            make_policy(id="usual", categories=(NAMED,), threshold=1.0),
            completion=answer,
            judge_limits=CUT | changes,
        )
        worlds.append(world)
        await world.judge.start()
        return world

    yield made
    for world in worlds:
        await world.close()


async def decide(world: GuardWorld, text: str, offset: int = 1, **changes: Any) -> Decision:
    (publication,) = await world.run(event_record(offset, text, **changes))
    return decision_of(publication)


@pytest.mark.parametrize("mode", ["think", "fast"])
@pytest.mark.parametrize("at", [0, 7, 11, 15, 22])
async def test_a_word_is_found_wherever_it_stands_and_again_from_the_cache(
    make: World, mode: Mode, at: int
) -> None:
    world = await make()
    text = f"{STORY * at}{WORD} {STORY * (22 - at)}"
    policy: dict[str, Any] = {"policy": "fast"} if mode == "fast" else {}
    context = (make_turn("one"), make_turn("two", "assistant"))
    first = await decide(world, text, context=context, **policy)
    assert (first.status, first.label, first.cache.hit) == ("judged", "unsafe", False)
    assert first.coverage.windows > 1
    assert (first.coverage.windows_unjudged, first.coverage.turns_left_out) == (0, 2)
    assert first.guard is not None
    assert "windows=16 overlap=12" in first.guard.decoding
    assert [found.code for found in first.categories] == (["C1"] if mode == "think" else [])
    again = await decide(world, text, 2, context=context, **policy)
    assert again.cache.hit
    assert (again.coverage, again.action, again.label) == (first.coverage, first.action, first.label)
    (kept,) = world.cache.kept.values()
    assert decode_verdict(encode_verdict(kept)) == kept
    assert first.tokens.prompt > CUT["max_model_len"]  # of all windows together


async def test_turns_that_do_not_fit_are_counted_in_the_decision(make: World) -> None:
    world = await make()
    context = tuple(make_turn(f"{number} {STORY * 5}") for number in range(4))
    decision = await decide(world, "hello", context=context)
    assert (decision.status, decision.coverage.windows) == ("judged", 1)
    assert 0 < decision.coverage.turns_left_out < 4
    again = await decide(world, "hello", 2, context=context)
    assert again.cache.hit
    assert again.coverage == decision.coverage


async def test_beyond_the_bound_the_policy_says_what_happens(make: World) -> None:
    world = await make(max_text_windows=2)
    decision = await decide(world, STORY * 22, policy="strict")
    assert (decision.status, decision.reason, decision.action) == ("unjudged", "prompt_too_long", "block")
    assert (decision.detail, decision.coverage.windows) == ("too many text windows", 1)
    assert world.cache.kept == {}


@pytest.mark.parametrize(("policy", "action"), [("strict", "block"), ("usual", "review")])
async def test_a_window_without_a_verdict_counts_as_the_policy_says(
    make: World, policy: str, action: str
) -> None:
    world = await make()
    # C1 alone would be flagged.
    decision = await decide(world, f"nonsense {STORY * 20} {WORD}", policy=policy)
    assert (decision.status, decision.label, decision.action) == ("judged", "unsafe", action)
    assert decision.coverage.windows_unjudged == 1
    refused = await decide(world, f"nonsense {STORY * 20}", 2, policy=policy)
    assert (refused.status, refused.reason, refused.action) == ("unjudged", "unparseable", action)
    assert refused.coverage.windows == decision.coverage.windows


async def test_a_long_message_holds_as_many_tokens_as_its_windows_have(make: World) -> None:
    world = await make()
    text = STORY * 22
    (pending,) = await world.path.moderate([event_record(1, text)])
    (short,) = await world.path.moderate([event_record(2, "hello")])
    (whole,) = await (await make(max_model_len=1024)).path.moderate([event_record(3, text)])
    assert isinstance(pending, Pending) and isinstance(short, Pending) and isinstance(whole, Pending)
    assert short.tokens < whole.tokens < pending.tokens
    decision = await decide(world, text, 4)
    assert 0.8 * decision.tokens.prompt <= pending.tokens <= 1.5 * decision.tokens.prompt
