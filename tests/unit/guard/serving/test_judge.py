from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from guard.checkpoint import SHIPPED, Checkpoint, open_checkpoint
from guard.errors import CheckpointError, EngineDead, EngineError, EngineFailed
from guard.normalise import NORMALISER
from guard.prompt import PromptRenderer, Turn
from guard.serving.engine import Completion, EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.scripted_engine import ScriptedEngine
from schemas.identifiers import Mode
from schemas.policy import Category, Policy
from schemas.verdict import Unjudged, UnjudgedReason, Verdict
from tests.model_folders import MODEL_LENGTH, write_bare_folder

POLICY = Policy(
    id="test",
    version="1",
    categories=(
        Category(code="C1", title="gambling", definition="casino; betting;"),
        Category(code="C10", title="violence", definition="physical harm;"),
    ),
)
LIMITS = JudgeLimits(
    max_model_len=MODEL_LENGTH, think_budget_tokens=40, answer_tokens=24, call_timeout_s=30.0, max_attempts=2
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = write_bare_folder(tmp_path_factory.mktemp("checkpoint"))
    return open_checkpoint(str(folder), template="rsafe-compact-1", weights=False)


@pytest.fixture(scope="module")
def renderer(checkpoint: Checkpoint) -> PromptRenderer:
    return PromptRenderer(checkpoint.path, checkpoint.template, b"secret")


def question(text: str = "meet me at the casino", mode: Mode = "think") -> Question:
    return Question(policy=POLICY, turns=(Turn(role="user", text=text),), mode=mode)


Ask = Callable[..., "asyncio.Future[Verdict | Unjudged]"]


async def ask(
    checkpoint: Checkpoint,
    renderer: PromptRenderer,
    completion: str | Callable[[tuple[int, ...]], str] | None = None,
    *,
    asked: Question | None = None,
    limits: JudgeLimits = LIMITS,
    delay_s: float = 0.0,
    failures: Sequence[EngineError] = (),
    deadline_s: float | None = None,
) -> Verdict | Unjudged:
    script = (lambda _: completion) if isinstance(completion, str) else completion
    engine = ScriptedEngine(renderer, delay_s=delay_s, completion=script, failures=failures)
    judge = Judge(checkpoint, renderer, engine, limits)
    await judge.start()
    try:
        return await judge.judge(asked or question(), deadline_s=deadline_s)
    finally:
        await judge.close()


def unjudged(outcome: Verdict | Unjudged, reason: UnjudgedReason) -> Unjudged:
    assert isinstance(outcome, Unjudged)
    assert outcome.reason == reason
    return outcome


async def test_an_unsafe_answer_is_a_verdict_with_codes_as_the_policy_spells_them(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    outcome = await ask(checkpoint, renderer, " casino; listed.</think>\n\\boxed{unsafe} c10, c1")
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.codes, outcome.rationale) == ("unsafe", ("C10", "C1"), "casino; listed.")
    assert outcome.score is not None
    assert 0 <= outcome.score <= 1
    (step,) = outcome.steps
    assert (step.mode, step.finish_reason) == ("think", "stop")


async def test_a_safe_answer_is_a_verdict(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    outcome = await ask(checkpoint, renderer, " harmless.</think>\n\\boxed{safe}")
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.codes) == ("safe", ())


@pytest.mark.parametrize(
    ("completion", "detail"),
    [
        (" thinking and nothing else", "no_think_close"),
        (" harmless.</think>\n", "no_verdict"),
        (" harmless.</think>\n\\boxed{safe} or \\boxed{unsafe}", "several_verdicts"),
        (" x.</think>\n\\boxed{unsafe} C7", "unknown_category"),
        (" \\boxed{safe}", "no_think_close"),
        (" x.</think>\n\\boxed{safe}</think>", "several_think_closes"),
        ("", "empty"),
    ],
)
async def test_what_is_not_understood_is_unjudged_with_the_reason(
    checkpoint: Checkpoint, renderer: PromptRenderer, completion: str, detail: str
) -> None:
    outcome = unjudged(await ask(checkpoint, renderer, completion), "unparseable")
    assert outcome.detail == detail
    assert len(outcome.steps) == 1


async def test_a_verdict_spelt_with_other_tokens_has_no_score(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    outcome = await ask(checkpoint, renderer, " harmless.</think>\n\n \\boxed{safe}")
    assert isinstance(outcome, Verdict)
    assert outcome.score is None


async def test_an_answer_cut_in_the_middle_is_unjudged(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    whole = " long.</think>\n\\boxed{unsafe} C1"
    length = len(renderer.encoder.structure(whole))
    limits = JudgeLimits(max_model_len=MODEL_LENGTH, think_budget_tokens=length - 4, answer_tokens=4)
    # It ends in C1 exactly where it is cut, and goes on to C10.
    outcome = await ask(checkpoint, renderer, whole + "0", limits=limits)
    assert unjudged(outcome, "unparseable").detail == "cut_off"


async def test_a_rationale_over_the_budget_is_closed_by_force(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    prompts: list[tuple[int, ...]] = []

    def script(prompt: tuple[int, ...]) -> str:
        prompts.append(prompt)
        return " on and on" * 60 if len(prompts) == 1 else "unsafe} C1"

    outcome = await ask(checkpoint, renderer, script)
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.codes) == ("unsafe", ("C1",))
    assert outcome.rationale.startswith("on and on")
    first, second = outcome.steps
    assert (first.finish_reason, second.finish_reason) == ("length", "stop")
    assert first.completion_tokens == LIMITS.think_budget_tokens + LIMITS.answer_tokens
    begun = second.prompt_tokens - first.prompt_tokens
    assert begun == LIMITS.think_budget_tokens + len(renderer.forced_close)
    assert prompts[1][: len(prompts[0])] == prompts[0]
    assert prompts[1][-len(renderer.forced_close) :] == renderer.forced_close


async def test_a_forced_answer_that_goes_on_is_unjudged(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    outcome = await ask(checkpoint, renderer, " on and on" * 60)
    assert unjudged(outcome, "unparseable").detail == "cut_off"
    assert len(outcome.steps) == 2


async def test_fast_reads_one_token(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    outcome = await ask(checkpoint, renderer, "unsafe} C1", asked=question(mode="fast"))
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.codes, outcome.rationale, outcome.mode) == ("unsafe", (), "", "fast")
    assert outcome.score is not None
    assert outcome.steps[0].completion_tokens == 1


async def test_fast_with_another_token_is_unjudged(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    outcome = await ask(checkpoint, renderer, "maybe", asked=question(mode="fast"))
    assert unjudged(outcome, "unparseable").detail == "no_verdict"


@pytest.mark.parametrize("mode", ["think", "fast"])
async def test_a_prompt_without_room_for_an_answer_is_unjudged(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode
) -> None:
    asked = question("word " * MODEL_LENGTH, mode)
    limits = replace(LIMITS, max_text_windows=1)
    outcome = unjudged(await ask(checkpoint, renderer, asked=asked, limits=limits), "prompt_too_long")
    assert (outcome.steps, outcome.detail) == ((), "no room for an answer")


@pytest.mark.parametrize("mode", ["think", "fast"])
async def test_a_message_far_too_long_is_not_encoded(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = renderer.encoder.plain

    def small(texts: Sequence[str]) -> list[tuple[int, ...]]:
        assert sum(map(len, texts)) < 1000
        return encode(texts)

    monkeypatch.setattr(renderer.encoder, "plain", small)
    monkeypatch.setattr(renderer.encoder._plain, "encode_batch", lambda *_: pytest.fail("encoded"))
    unjudged(await ask(checkpoint, renderer, asked=question("\ufdfa" * 163_840, mode)), "prompt_too_long")


@pytest.mark.parametrize(("characters", "on_loop"), [(100, True), (3000, False)])
async def test_long_prompts_are_rendered_beside_the_loop_and_short_ones_on_it(
    checkpoint: Checkpoint,
    renderer: PromptRenderer,
    characters: int,
    on_loop: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[str] = []
    mark = renderer.nonce

    def noted(digest: str, turns: Sequence[Turn]) -> str:
        threads.append(threading.current_thread().name)
        return mark(digest, turns)

    monkeypatch.setattr(renderer, "nonce", noted)
    await ask(checkpoint, renderer, asked=question("a" * characters))
    (thread,) = set(threads)
    assert (thread == threading.current_thread().name) is on_loop
    assert thread.startswith("rsafe-prompts") is not on_loop


@pytest.mark.parametrize("mode", ["think", "fast"])
async def test_the_longest_prompt_that_fits_is_judged(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode
) -> None:
    asked = question(mode=mode)
    answer = LIMITS.answer_tokens + LIMITS.think_budget_tokens if mode == "think" else 1
    needed = len(renderer.render(POLICY, asked.turns)) + len(renderer.fast_suffix) + answer
    for length, fits in ((needed, True), (needed - 1, False)):
        limits = JudgeLimits(max_model_len=length, think_budget_tokens=40, answer_tokens=24)
        script = " x.</think>\n\\boxed{safe}" if mode == "think" else "safe}"
        outcome = await ask(checkpoint, renderer, script, asked=asked, limits=limits)
        assert isinstance(outcome, Verdict) is fits
        if not fits:
            unjudged(outcome, "prompt_too_long")


async def test_a_long_prompt_gets_a_shorter_budget(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    used = len(renderer.render(POLICY, question().turns))
    limits = JudgeLimits(max_model_len=used + 150, think_budget_tokens=512, answer_tokens=20)
    outcome = await ask(checkpoint, renderer, " on and on" * 200, limits=limits)
    room = limits.max_model_len - used - len(renderer.forced_close)
    assert outcome.steps[0].completion_tokens == room
    limits = JudgeLimits(max_model_len=used + 80, think_budget_tokens=512, answer_tokens=20)
    unjudged(await ask(checkpoint, renderer, limits=limits), "prompt_too_long")


async def test_a_failed_call_is_tried_again(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    outcome = await ask(checkpoint, renderer, " x.</think>\n\\boxed{safe}", failures=[EngineFailed("once")])
    assert isinstance(outcome, Verdict)
    assert len(outcome.steps) == 1


async def test_tries_are_bounded(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    outcome = await ask(checkpoint, renderer, failures=[EngineFailed("one"), EngineFailed("two")])
    assert unjudged(outcome, "engine_failed").detail == "two"


async def test_a_dead_engine_is_not_a_verdict_on_the_question(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    with pytest.raises(EngineDead):
        await ask(checkpoint, renderer, failures=[EngineDead("gone")])


async def test_no_answer_in_time_is_timed_out(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    limits = JudgeLimits(max_model_len=MODEL_LENGTH, think_budget_tokens=40, call_timeout_s=0.02)
    unjudged(await ask(checkpoint, renderer, limits=limits, delay_s=60), "timed_out")


async def test_an_answer_that_nobody_wants_any_more_is_late(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    unjudged(await ask(checkpoint, renderer, deadline_s=0.0), "late")


class FixedEngine:
    """Answers with these completions in turn, and with the last one from then on."""

    name = "fixed"
    version = "1"
    alive = True
    calls_in_flight = 0

    def __init__(self, *completions: Completion) -> None:
        self._completions = list(completions)

    async def start(self) -> None: ...
    async def gone(self) -> None: ...
    async def close(self) -> None: ...

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        return self._completions.pop(0) if len(self._completions) > 1 else self._completions[0]


@pytest.mark.parametrize(
    ("pair", "score"),
    [
        ((-1.0, -1.0), 0.5),
        ((-0.1, -2.0), 0.1301),
        ((float("-inf"), -1.0), 1.0),
        ((-1.0, float("-inf")), 0.0),
        ((-2000.0, -1.0), 1.0),
        ((-1.0, -2000.0), 0.0),
        ((float("-inf"), float("-inf")), None),
        ((float("nan"), -1.0), None),
        (None, None),
    ],
)
async def test_the_score_is_normalised_over_the_two_verdicts(
    checkpoint: Checkpoint,
    renderer: PromptRenderer,
    pair: tuple[float, float] | None,
    score: float | None,
) -> None:
    token = renderer.verdict_tokens.unsafe
    completion = Completion(token_ids=(token,), verdict_logprobs=(pair,), finish_reason="length")
    judge = Judge(checkpoint, renderer, FixedEngine(completion), LIMITS)
    outcome = await judge.judge(question(mode="fast"))
    assert isinstance(outcome, Verdict)
    assert outcome.score == (None if score is None else pytest.approx(score, abs=1e-4))


def answered(renderer: PromptRenderer, ids: tuple[int, ...], *, at: int) -> Completion:
    """A completion whose log-probs say the word at `at`, and the other word everywhere else."""
    says = ids[at] == renderer.verdict_tokens.unsafe
    likely, unlikely = ((-9.0, -0.1), (-0.1, -9.0)) if says else ((-0.1, -9.0), (-9.0, -0.1))
    pairs = tuple(likely if i == at else unlikely for i in range(len(ids)))
    return Completion(token_ids=ids, verdict_logprobs=pairs, finish_reason="stop")


@pytest.mark.parametrize("label", ["safe", "unsafe"])
async def test_the_score_is_read_where_the_answer_says_its_label(
    checkpoint: Checkpoint, renderer: PromptRenderer, label: Literal["safe", "unsafe"]
) -> None:
    text = f" \\boxed{{safe}} or \\boxed{{unsafe}}?</think>\n\\boxed{{{label}}}"
    ids = renderer.encoder.structure(text) + renderer.eos_token_ids[:1]
    token = getattr(renderer.verdict_tokens, label)
    completion = answered(renderer, ids, at=max(i for i, one in enumerate(ids) if one == token))
    outcome = await Judge(checkpoint, renderer, FixedEngine(completion), LIMITS).judge(question())
    assert isinstance(outcome, Verdict)
    assert outcome.label == label
    assert outcome.score == pytest.approx(float(label == "unsafe"), abs=1e-3)


@pytest.mark.parametrize(("first", "last"), [("safe", "unsafe"), ("unsafe", "safe"), ("safe", "safe")])
@pytest.mark.parametrize("lead", ["\n", " ", ""])
async def test_a_verdict_that_was_taken_back_gives_neither_label_nor_score(
    checkpoint: Checkpoint, renderer: PromptRenderer, first: str, last: str, lead: str
) -> None:
    text = f" x</think>\n\\boxed{{{first}}} but no.</think>{lead}\\boxed{{{last}}}"
    outcome = unjudged(await ask(checkpoint, renderer, text), "unparseable")
    assert outcome.detail == "several_think_closes"


async def test_a_forced_answer_that_is_taken_back_is_unjudged(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    answers = iter([" on and on" * 60, "safe} but no.</think> \\boxed{unsafe}"])
    limits = JudgeLimits(max_model_len=MODEL_LENGTH, think_budget_tokens=40, answer_tokens=80)
    outcome = unjudged(await ask(checkpoint, renderer, lambda _: next(answers), limits=limits), "unparseable")
    assert outcome.detail == "several_think_closes"


async def test_a_forced_answer_spelt_with_other_tokens_has_no_score() -> None:
    checkpoint = open_checkpoint(str(SHIPPED / "tiny"), weights=False)
    renderer = PromptRenderer(checkpoint.path, checkpoint.template, b"secret")
    # The word in single characters: the first token is not the one whose log-probs are read.
    spelt = tuple(i for character in "unsafe}" for i in renderer.encoder.structure(character))
    assert spelt[0] != renderer.verdict_tokens.unsafe
    pair = (-0.01, -9.0)
    begun = renderer.encoder.structure(" on and on" * 60)[: LIMITS.think_budget_tokens + LIMITS.answer_tokens]
    ids = spelt + renderer.eos_token_ids[:1]
    engine = FixedEngine(
        Completion(token_ids=begun, verdict_logprobs=(pair,) * len(begun), finish_reason="length"),
        Completion(token_ids=ids, verdict_logprobs=(pair,) * len(ids), finish_reason="stop"),
    )
    outcome = await Judge(checkpoint, renderer, engine, LIMITS).judge(question())
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.score) == ("unsafe", None)


@pytest.mark.parametrize("mode", ["fast", "think"])
async def test_a_step_says_what_the_prefix_cache_held(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode
) -> None:
    cached = Completion(token_ids=(0,), verdict_logprobs=(None,), finish_reason="stop", cached_tokens=96)
    outcome = await Judge(checkpoint, renderer, FixedEngine(cached), LIMITS).judge(question(mode=mode))
    assert [step.cached_tokens for step in outcome.steps] == [96]


BOTH = JudgeLimits(max_model_len=MODEL_LENGTH, think_budget_tokens=40, answer_tokens=24, think_score="both")


def fixed_answers(renderer: PromptRenderer, fast: Completion, think: str, odds: float) -> FixedEngine:
    """The fast reading, then an answer whose every token has these log-odds of `unsafe`."""
    ids = renderer.encoder.structure(think) + renderer.eos_token_ids[:1]
    pairs = ((0.0, odds),) * len(ids)
    return FixedEngine(fast, Completion(token_ids=ids, verdict_logprobs=pairs, finish_reason="stop"))


async def test_the_score_of_both_readings_is_the_mean_of_their_log_odds(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    tokens = renderer.verdict_tokens
    fast = Completion(token_ids=(tokens.safe,), verdict_logprobs=((0.0, -1.0),), finish_reason="length")
    engine = fixed_answers(renderer, fast, " listed.</think>\n\\boxed{unsafe} C1", 4.0)
    outcome = await Judge(checkpoint, renderer, engine, BOTH).judge(question())
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.codes, outcome.mode) == ("unsafe", ("C1",), "think")
    assert outcome.score == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert [step.mode for step in outcome.steps] == ["fast", "think"]
    assert outcome.steps[0].completion_tokens == 1
    # The same prompt, so that the engine reads it once.
    assert outcome.steps[0].prompt_tokens == outcome.steps[1].prompt_tokens + len(renderer.fast_suffix)


@pytest.mark.parametrize(
    "fast",
    [
        Completion(token_ids=(3,), verdict_logprobs=(None,), finish_reason="length"),
        Completion(token_ids=(), verdict_logprobs=(), finish_reason="stop"),
    ],
)
async def test_a_verdict_without_one_of_the_readings_has_no_score(
    checkpoint: Checkpoint, renderer: PromptRenderer, fast: Completion
) -> None:
    engine = fixed_answers(renderer, fast, " harmless.</think>\n\\boxed{safe}", -4.0)
    outcome = await Judge(checkpoint, renderer, engine, BOTH).judge(question())
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.score) == ("safe", None)


def test_what_a_score_is_made_of_is_part_of_the_decoding(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    """And so of the key of a cached verdict."""
    one, both = (Judge(checkpoint, renderer, ScriptedEngine(renderer), limits) for limits in (LIMITS, BOTH))
    assert both.used("think").decoding == f"{one.used('think').decoding} score=both"
    assert both.used("fast").decoding == one.used("fast").decoding


def test_the_identity_says_who_judges(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    judge = Judge(checkpoint, renderer, ScriptedEngine(renderer), LIMITS)
    think, fast = judge.used("think"), judge.used("fast")
    assert think.engine == "scripted"
    assert (think.weights_digest, think.verified) == (checkpoint.weights_digest, False)
    cut = "length=1024 windows=16 overlap=128"
    assert think.decoding == f"scripted greedy think=40 answer=24 {cut} text={NORMALISER}"
    assert fast.decoding == f"scripted greedy tokens=1 {cut} text={NORMALISER}"


@pytest.mark.parametrize("mode", ["think", "fast"])
@pytest.mark.parametrize("name", ["max_model_len", "max_text_windows", "text_window_overlap_tokens"])
def test_what_changes_how_a_message_is_cut_stands_in_the_decoding(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode, name: str
) -> None:
    changed = replace(LIMITS, **{name: getattr(LIMITS, name) - 1})
    one, other = (Judge(checkpoint, renderer, ScriptedEngine(renderer), held) for held in (LIMITS, changed))
    assert one.used(mode).decoding != other.used(mode).decoding


def test_the_estimate_grows_with_text_and_policy(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    judge = Judge(checkpoint, renderer, ScriptedEngine(renderer), LIMITS)
    assert 0 < judge.estimate_tokens(question("")) < judge.estimate_tokens(question("a" * 3000))


async def test_a_checkpoint_that_changed_is_not_started_again(
    tmp_path: Path, renderer: PromptRenderer
) -> None:
    folder = write_bare_folder(tmp_path / "model")
    engine = ScriptedEngine(renderer)
    judge = Judge(open_checkpoint(str(folder), weights=False), renderer, engine, LIMITS)
    await judge.start()
    engine.die()
    await judge.gone()
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="changed since it was opened"):
        await judge.start()
    assert not judge.alive
