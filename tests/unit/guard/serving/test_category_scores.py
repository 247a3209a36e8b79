from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.checkpoint import SHIPPED, Checkpoint, open_checkpoint
from guard.errors import EngineDead, EngineError, EngineFailed, EngineTimeout
from guard.prompt import PromptRenderer, Turn
from guard.serving.category_scores import LEAST_SCORE, CategoryScores, category_scores
from guard.serving.engine import Completion, EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.scripted_engine import ScriptedEngine
from schemas.identifiers import Mode
from schemas.policy import Category, Policy
from schemas.verdict import Unjudged, Verdict

CODES = ("C1", "C2", "C10")
POLICY = Policy(
    id="test",
    version="1",
    categories=tuple(Category(code=code, title=code, definition="betting;") for code in CODES),
)
LIMITS = JudgeLimits(
    max_model_len=600,
    think_budget_tokens=40,
    answer_tokens=16,
    text_window_overlap_tokens=24,
    category_scores=True,
)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(SHIPPED / "tiny"), weights=False)


@pytest.fixture(scope="module")
def renderer(checkpoint: Checkpoint) -> PromptRenderer:
    return PromptRenderer(checkpoint.path, checkpoint.template, b"secret")


def untimed(outcome: Verdict | Unjudged) -> Verdict | Unjudged:
    """The same with calls that took no time."""
    steps = tuple(msgspec.structs.replace(step, took_ms=0.0) for step in outcome.steps)
    return msgspec.structs.replace(outcome, steps=steps)


class Scripted:
    """Says `verdict` where the verdict is asked for, and behind it `codes`, each of them with p = `sure`."""

    name, version, alive, calls_in_flight = "fixed", "1", True, 0

    def __init__(
        self,
        renderer: PromptRenderer,
        verdict: str,
        codes: str | EngineError = " C2",
        sure: float = 0.9,
        logprobs: bool = True,
    ) -> None:
        self._renderer, self._verdict, self._codes = renderer, verdict, codes
        self._sure, self._logprobs = sure, logprobs
        self.prompts: list[tuple[int, ...]] = []
        self.asked: list[EngineParameters] = []

    async def start(self) -> None: ...
    async def gone(self) -> None: ...
    async def close(self) -> None: ...

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        renderer, wanted = self._renderer, parameters.logprob_token_ids
        self.prompts.append(tuple(prompt_ids))
        self.asked.append(parameters)
        tokens = renderer.verdict_tokens
        about_verdict = wanted == (tokens.safe, tokens.unsafe)
        text = self._verdict if about_verdict else self._codes
        if isinstance(text, EngineError):
            raise text
        ids = (renderer.encoder.structure(text) + renderer.eos_token_ids[:1])[: parameters.max_tokens]
        if about_verdict:
            rows: tuple[tuple[float, ...], ...] = ((math.log(0.2), math.log(0.8)),) * len(ids)
        else:
            rest = math.log((1 - self._sure) / len(wanted))
            rows = tuple(tuple(math.log(self._sure) if w == i else rest for w in wanted) for i in ids)
        return Completion(
            token_ids=ids,
            verdict_logprobs=rows if self._logprobs or about_verdict else (None,) * len(ids),
            finish_reason="stop" if ids[-1] in renderer.eos_token_ids else "length",
        )


Ask = Callable[..., Verdict]
SAYS: dict[Mode, str] = {"fast": "unsafe}", "think": " x.</think>\n\\boxed{unsafe} C2"}
MODES: tuple[Mode, ...] = ("fast", "think")


async def ask(
    checkpoint: Checkpoint,
    renderer: PromptRenderer,
    engine: Scripted | ScriptedEngine,
    mode: Mode = "fast",
    *,
    policy: Policy = POLICY,
    limits: JudgeLimits = LIMITS,
    text: str = "meet me at the casino",
) -> Verdict:
    judge = Judge(checkpoint, renderer, engine, limits)
    await judge.start()
    turns = (Turn(role="user", text=text),)
    outcome = await judge.judge(Question(policy=policy, turns=turns, mode=mode))
    assert isinstance(outcome, Verdict)
    return outcome


@pytest.mark.parametrize("mode", MODES)
async def test_an_unsafe_verdict_names_its_category_and_scores_the_others(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode
) -> None:
    engine = Scripted(renderer, SAYS[mode])
    verdict = await ask(checkpoint, renderer, engine, mode)
    assert (verdict.label, verdict.codes) == ("unsafe", ("C2",))
    assert verdict.score == pytest.approx(0.8)
    assert verdict.category_scores["C2"] == verdict.score
    # At the first place a third of a tenth for each of the two, of what the three have; more at the end.
    assert set(verdict.category_scores) == set(CODES)
    assert verdict.category_scores["C1"] == verdict.category_scores["C10"] < 0.1
    before, codes = engine.prompts
    assert codes[: len(before)] == before
    assert renderer.decode(codes).endswith("</think>\n\\boxed{unsafe}")
    first, second = verdict.steps
    assert (first.mode, second.mode) == (mode, mode)
    assert (second.prompt_tokens, second.completion_tokens) == (len(codes), 2)
    assert engine.asked[1].max_tokens == LIMITS.answer_tokens


@pytest.mark.parametrize("mode", MODES)
async def test_a_safe_verdict_costs_no_call_more(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode
) -> None:
    engine = Scripted(renderer, SAYS[mode].replace("unsafe", "safe").replace(" C2", ""))
    verdict = await ask(checkpoint, renderer, engine, mode)
    assert (verdict.label, verdict.codes, verdict.category_scores) == ("safe", (), {})
    assert len(verdict.steps) == 1


@pytest.mark.parametrize("mode", MODES)
async def test_where_it_is_off_nothing_more_is_asked(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode
) -> None:
    engine = Scripted(renderer, SAYS[mode])
    verdict = await ask(checkpoint, renderer, engine, mode, limits=replace(LIMITS, category_scores=False))
    assert (verdict.category_scores, len(verdict.steps)) == ({}, 1)


def test_it_is_a_part_of_what_a_cached_verdict_hangs_on(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    for mode in MODES:
        on, off = (
            Judge(checkpoint, renderer, Scripted(renderer, ""), replace(LIMITS, category_scores=asked))
            .used(mode)
            .decoding
            for asked in (True, False)
        )
        room = f"tokens=1 answer={LIMITS.answer_tokens}"  # as much as an answer may have
        assert on == f"{off} codes=scored".replace("tokens=1", room)


async def test_a_rationale_closed_by_force_is_followed_by_its_own_codes(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    class Rambling(Scripted):
        async def generate(
            self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
        ) -> Completion:
            self._verdict = "unsafe} C2" if self.prompts else " on and on" * 60
            return await super().generate(prompt_ids, parameters, deadline_s)

    engine = Rambling(renderer, "")
    verdict = await ask(checkpoint, renderer, engine, "think")
    assert (verdict.codes, verdict.category_scores["C2"]) == (("C2",), verdict.score)
    _, forced, codes = engine.prompts
    assert codes[: len(forced)] == forced
    assert len(codes) == len(forced) + 2  # `unsafe` and the brace
    assert len(verdict.steps) == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", [EngineFailed("no"), EngineTimeout("no")])
async def test_an_unsafe_verdict_stands_whatever_becomes_of_its_categories(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode, error: EngineError
) -> None:
    plain = await ask(
        checkpoint,
        renderer,
        Scripted(renderer, SAYS[mode]),
        mode,
        limits=replace(LIMITS, category_scores=False),
    )
    failing = await ask(checkpoint, renderer, Scripted(renderer, SAYS[mode], error), mode)
    assert untimed(failing) == untimed(plain)


async def test_a_guard_that_dies_over_the_categories_is_down(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    with pytest.raises(EngineDead):
        await ask(checkpoint, renderer, Scripted(renderer, SAYS["fast"], EngineDead("gone")))


@pytest.mark.parametrize(
    "codes",
    ["", " C7", " and more", " C2</think>", " C1 C2 C10 C1 C2 C10 C1 C2 C10 C1 C2 C10 C1 C2 C10 C1 C2"],
)
async def test_codes_that_are_none_are_not_named(
    checkpoint: Checkpoint, renderer: PromptRenderer, codes: str
) -> None:
    fast = await ask(checkpoint, renderer, Scripted(renderer, SAYS["fast"], codes))
    assert (fast.label, fast.codes) == ("unsafe", ())
    assert max(fast.category_scores.values()) == fast.score
    think = await ask(checkpoint, renderer, Scripted(renderer, SAYS["think"], codes), "think")
    assert think.codes == ("C2",)
    assert len(think.steps) == 2


async def test_without_log_probabilities_codes_are_named_and_not_scored(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    verdict = await ask(checkpoint, renderer, Scripted(renderer, SAYS["fast"], " C1, C10", logprobs=False))
    assert (verdict.codes, verdict.category_scores) == (("C1", "C10"), {})


async def test_a_verdict_without_a_score_gives_none_to_categories(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    engine = Scripted(renderer, " x.</think>\n\n \\boxed{unsafe} C2")
    verdict = await ask(checkpoint, renderer, engine, "think")
    assert (verdict.score, verdict.codes, verdict.category_scores) == (None, ("C2",), {})
    assert len(verdict.steps) == 1


async def test_a_policy_of_one_category_needs_no_call(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    policy = Policy(id="one", version="1", categories=POLICY.categories[:1])
    verdict = await ask(checkpoint, renderer, Scripted(renderer, SAYS["fast"]), policy=policy)
    assert (verdict.codes, verdict.category_scores) == (("C1",), {"C1": verdict.score})
    assert len(verdict.steps) == 1


async def test_each_text_window_has_categories_of_its_own(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    class ByText(Scripted):
        async def generate(
            self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
        ) -> Completion:
            text = renderer.decode(prompt_ids)
            self._verdict = "unsafe}" if "casino" in text or "stab" in text else "safe}"
            self._codes = " C1" if "casino" in text else " C10"
            return await super().generate(prompt_ids, parameters, deadline_s)

    story = "and so the story goes on and on. " * 200
    verdict = await ask(checkpoint, renderer, ByText(renderer, ""), text=f"a casino. {story} and a stab")
    assert verdict.windows > 2
    assert verdict.codes == ("C1", "C10")
    assert verdict.category_scores["C1"] == verdict.category_scores["C10"] == verdict.score
    assert {one.codes: max(one.category_scores.values(), default=0.0) for one in verdict.by_window} == {
        ("C1",): verdict.score,
        (): 0.0,
        ("C10",): verdict.score,
    }
    assert len(verdict.steps) == verdict.windows + sum(one.label == "unsafe" for one in verdict.by_window)


async def test_the_longest_prompt_leaves_room_for_codes(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    used = len(renderer.render(POLICY, (Turn(role="user", text="meet me at the casino"),)))
    needed = used + len(renderer.fast_suffix) + 1 + LIMITS.answer_tokens
    for length, fits in ((needed, True), (needed - 1, False)):
        judge = Judge(
            checkpoint,
            renderer,
            Scripted(renderer, SAYS["fast"]),
            replace(LIMITS, max_model_len=length, max_text_windows=1),
        )
        turns = (Turn(role="user", text="meet me at the casino"),)
        outcome = await judge.judge(Question(policy=POLICY, turns=turns, mode="fast"))
        assert isinstance(outcome, Unjudged) is not fits


@pytest.mark.parametrize("mode", MODES)
async def test_the_scripted_engine_names_categories_too(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode
) -> None:
    engine = ScriptedEngine(renderer)
    verdicts = [await ask(checkpoint, renderer, engine, mode, text=f"number {n}") for n in range(60)]
    unsafe = [verdict for verdict in verdicts if verdict.label == "unsafe"]
    assert 0 < len(unsafe) < 40
    assert len({max(v.category_scores, key=v.category_scores.__getitem__) for v in unsafe}) > 1
    for verdict in unsafe:
        assert set(verdict.category_scores) == set(CODES)
        assert max(verdict.category_scores.values()) == verdict.score


def test_trees_are_kept_by_the_codes_of_a_policy(renderer: PromptRenderer) -> None:
    scores = CategoryScores(renderer)
    assert scores.tree(POLICY) is scores.tree(POLICY)
    other = Policy(id="other", version="2", categories=POLICY.categories)
    assert scores.tree(other) is scores.tree(POLICY)
    assert scores.tree(Policy(id="one", version="1", categories=POLICY.categories[:1])) is not scores.tree(
        POLICY
    )


@given(
    st.floats(0, 1),
    st.dictionaries(st.sampled_from("ABCDEFG"), st.floats(0, 1), min_size=1),
    st.lists(st.sampled_from("ABCDEFG")),
)
def test_no_category_is_surer_than_the_message_and_the_likeliest_is_as_sure(
    score: float, weights: dict[str, float], named: list[str]
) -> None:
    found = category_scores(score, weights, named)
    assert all(0.0 <= one <= score for one in found.values())
    assert all(one >= LEAST_SCORE or code in named for code, one in found.items())
    if max(weights.values()) > 0 and score >= LEAST_SCORE:
        assert max(found.values()) == score
    order = sorted(found, key=weights.__getitem__)
    assert [found[code] for code in order] == sorted(found.values())
