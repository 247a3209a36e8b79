"""The judge over every profile, on the scripted engine: the same path, whatever the guard's maker wrote."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from guard.profiles.catalogue import PROFILES
from guard.prompt import Turn
from guard.serving.assembly import build_judge
from guard.serving.explanation import explain
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge, Seen
from guard.serving.question import Question
from guard.serving.scripted_engine import ScriptedEngine
from guard.serving.vllm_start import VllmOptions
from schemas.identifiers import Mode
from schemas.policy import Policy
from schemas.verdict import Unjudged, Verdict
from tests.unit.guard.profiles.worlds import POLICY, checkpoint, renderer

LIMITS = JudgeLimits(max_model_len=2048, think_budget_tokens=64, answer_tokens=24, category_scores=True)
TURNS = (
    Turn(role="user", text="hello"),
    Turn(role="assistant", text="good day"),
    Turn(role="user", text="meet me at the casino"),
)


async def ask(
    name: str,
    completion: str | Callable[[tuple[int, ...]], str] | None = None,
    *,
    mode: Mode = "fast",
    policy: Policy = POLICY,
    turns: tuple[Turn, ...] = TURNS,
    limits: JudgeLimits = LIMITS,
    seen: Callable[[Seen], None] | None = None,
) -> Verdict | Unjudged:
    of, profile = renderer(name), PROFILES[name]
    script = (lambda _: completion) if isinstance(completion, str) else completion
    judge = Judge(checkpoint(name), of, ScriptedEngine(of, completion=script), limits.under(profile))
    await judge.start()
    try:
        question = Question(policy=policy, turns=turns, mode=mode)
        return await judge.judge(question, seen=seen)
    finally:
        await judge.close()


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name, profile in PROFILES.items() for mode in profile.modes]
)
async def test_the_scripted_engine_answers_every_profile_in_its_grammar(name: str, mode: Mode) -> None:
    labels = set()
    for number in range(12):
        turns = (*TURNS, Turn(role="user", text=f"number {number}"))
        outcome = await ask(name, mode=mode, turns=turns)
        assert isinstance(outcome, Verdict), outcome
        assert outcome.score is None or 0 <= outcome.score <= 1
        assert outcome.answered_in == mode
        labels.add(outcome.label)
    assert labels == {"safe", "unsafe"}


@pytest.mark.parametrize("name", PROFILES)
async def test_what_is_not_in_the_grammar_is_unjudged(name: str) -> None:
    for mode in PROFILES[name].modes:
        outcome = await ask(name, "what a nice day", mode=mode)
        assert isinstance(outcome, Unjudged)
        assert outcome.reason == "unparseable"


async def test_codes_and_score_come_with_one_answer_of_a_guard_with_a_taxonomy() -> None:
    # The lead is put before the answer, so a completion begins with the verdict.
    of = renderer("qwen3guard-gen")
    lead = of.decode(of.verdict_tokens.prefix)
    outcome = await ask("qwen3guard-gen", "Safety: Unsafe\nCategories: PII".removeprefix(lead))
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.codes) == ("unsafe", ("C2",))
    assert outcome.score is not None
    assert len(outcome.steps) == 1


async def test_an_unsafe_of_another_s_policy_is_safe_without_a_score() -> None:
    of = renderer("qwen3guard-gen")
    lead = of.decode(of.verdict_tokens.prefix)
    outcome = await ask("qwen3guard-gen", "Safety: Unsafe\nCategories: Jailbreak".removeprefix(lead))
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.score, outcome.codes) == ("safe", None, ())
    assert "Jailbreak, which is no category of this policy" in outcome.rationale


async def test_half_an_answer_is_cut_off() -> None:
    of = renderer("llama-guard-3")
    lead = of.decode(of.verdict_tokens.prefix)
    outcome = await ask("llama-guard-3", ("\n\nunsafe\nS1" + ",S1" * 200).removeprefix(lead))
    assert isinstance(outcome, Unjudged)
    assert outcome.detail == "cut_off"


@pytest.mark.parametrize("name", ["shieldgemma", "granite-guardian-3", "granite-guardian-3.3"])
async def test_a_guard_of_one_category_is_asked_about_each(name: str) -> None:
    of = renderer(name)

    def completion(prompt: tuple[int, ...]) -> str:
        word = "yes" if "addresses" in of.decode(prompt) else "no"
        lead = of.decode(of.verdict_tokens.prefix)
        whole = f"<score> {word} </score>" if name.endswith("3.3") else word.capitalize()
        return whole.removeprefix(lead)

    outcome = await ask(name, completion)
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.codes) == ("unsafe", ("C2",))
    assert set(outcome.category_scores) == {"C1", "C2"}
    assert outcome.score == max(outcome.category_scores.values())
    assert len(outcome.steps) == 2
    assert outcome.windows == 1


async def test_without_an_answer_about_one_category_there_is_no_safe() -> None:
    of = renderer("shieldgemma")
    outcome = await ask("shieldgemma", lambda p: "what" if "addresses" in of.decode(p) else "No")
    assert isinstance(outcome, Unjudged)
    assert len(outcome.steps) == 2
    unsafe = await ask("shieldgemma", lambda p: "what" if "addresses" in of.decode(p) else "Yes")
    assert isinstance(unsafe, Verdict)
    assert (unsafe.label, unsafe.codes) == ("unsafe", ("C1",))


@pytest.mark.parametrize("name", ["shieldgemma", "llama-guard-3", "granite-guardian-3.3", "qwen3guard-gen"])
async def test_a_long_message_is_judged_in_windows_that_are_shown(name: str) -> None:
    long = (*TURNS[:2], Turn(role="user", text="meet me at the casino " * 400))
    limits = replace(LIMITS, max_model_len=900, text_window_overlap_tokens=32, max_text_windows=40)
    told: list[Seen] = []
    outcome = await ask(name, turns=long, limits=limits, seen=told.append)
    assert isinstance(outcome, Verdict), outcome
    assert outcome.windows > 1
    assert len(outcome.by_window) == outcome.windows
    assert outcome.turns_left_out == 2
    question = Question(policy=POLICY, turns=long, mode="fast")
    read = explain(renderer(name), question, long, told[0])
    assert len(read.prompts) == outcome.windows


async def test_turns_that_a_format_cannot_show_are_counted() -> None:
    group = (Turn(role="user", text="a"), Turn(role="user", text="b"), Turn(role="user", text="c"))
    for name, left_out in (("shieldgemma", 2), ("qwen3guard-gen", 2), ("llama-guard-3", 0)):
        outcome = await ask(name, turns=group)
        assert outcome.turns_left_out == left_out


def test_limits_make_room_for_the_answer_and_decisions_name_the_grammar() -> None:
    of = checkpoint("qwen3guard-gen")
    judge = build_judge(
        "scripted", of, secret=b"s", limits=LIMITS, options=VllmOptions(max_model_len=LIMITS.max_model_len)
    )
    used = judge.used("fast")
    assert used.parser_version == "qwen3guard-gen-lines-1"
    assert used.template_version == "qwen3guard-gen-own-template-1"
    assert "codes=scored" not in used.decoding
    assert judge.estimate_tokens(Question(policy=POLICY, turns=TURNS, mode="fast")) > 0


def test_three_words_share_the_probability() -> None:
    tokens = renderer("qwen3guard-gen").verdict_tokens
    logprobs = (math.log(0.5), math.log(0.2), math.log(0.3))
    assert tokens.p_unsafe(logprobs) == pytest.approx(0.5)
    assert renderer("qwen3guard-gen-loose").verdict_tokens.p_unsafe(logprobs) == pytest.approx(0.2)
    assert tokens.p_unsafe((-math.inf, -math.inf, -math.inf)) is None
    assert tokens.p_unsafe(None) is None
