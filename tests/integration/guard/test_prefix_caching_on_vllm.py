"""What vLLM shares between prompts, and where questions wait when there are more than it has places for."""

from __future__ import annotations

import asyncio
from itertools import takewhile

import pytest

from guard.prompt import PromptRenderer, Turn
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import _CPU_BLOCK_TOKENS as BLOCK
from schemas.policy import Category, Policy, canonical_categories
from schemas.verdict import Verdict
from workers.stream.budget import Claim, GuardBudget

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

CALLS = 8


def policy(name: str) -> Policy:
    """A policy that no other test asks about, of some hundred tokens."""
    categories = tuple(
        Category(code=f"C{n}", title=f"{name} {n}", definition=f"casino; betting; {name} and {n};")
        for n in range(1, 7)
    )
    return Policy(id=name, version="1", categories=categories, mode="fast")


def question(of: Policy, text: str) -> Question:
    return Question(policy=of, turns=(Turn(role="user", text=text),), mode="fast")


async def test_messages_under_one_policy_share_it_and_the_boundary_mark_does_not_break_that(
    vllm_judge: Judge, served_renderer: PromptRenderer
) -> None:
    one = policy("ferret")
    asked = [question(one, f"message number {number}") for number in range(4)]
    first = await vllm_judge.judge(asked[0])
    others = [await vllm_judge.judge(each) for each in asked[1:]]
    assert first.steps[0].cached_tokens < BLOCK  # the words before the first category
    shared = len(served_renderer.system_ids(canonical_categories(one)))
    assert shared > 2 * BLOCK
    prompts = [served_renderer.render(one, each.turns) for each in asked]
    for prompt, other in zip(prompts[1:], others, strict=True):
        pairs = zip(prompts[0], prompt, strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        assert common >= shared
        # Whole blocks of the policy, and nothing of a conversation.
        assert shared // BLOCK * BLOCK <= other.steps[0].cached_tokens <= common


async def test_another_policy_shares_no_more_than_the_task(vllm_judge: Judge) -> None:
    await vllm_judge.judge(question(policy("otter"), "hello"))
    other = await vllm_judge.judge(question(policy("walrus"), "hello"))
    assert other.steps[0].cached_tokens < BLOCK


async def test_what_the_budget_does_not_admit_does_not_queue_in_vllm(
    vllm_judge: Judge, vllm_engine: VllmEngine
) -> None:
    budget, most = GuardBudget(calls=CALLS, tokens=100_000), [0, 0]
    one = policy("badger")

    async def ask(number: int) -> Verdict | None:
        asked = question(one, f"message number {number}")
        async with budget.hold(Claim(vllm_judge.estimate_tokens(asked))):
            task = asyncio.ensure_future(vllm_judge.judge(asked))
            await asyncio.sleep(0)
            most[0] = max(most[0], vllm_judge.calls_in_flight)
            most[1] = max(most[1], budget.waiting)
            answer = await task
            return answer if isinstance(answer, Verdict) else None

    answers = await asyncio.gather(*map(ask, range(100)))
    assert all(answers)
    assert 1 < most[0] <= CALLS
    assert most[1] == 100 - CALLS
    assert vllm_judge.calls_in_flight == vllm_engine.calls_in_flight == 0
