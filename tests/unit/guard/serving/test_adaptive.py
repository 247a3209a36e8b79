"""The mode `adaptive`: the fast verdict where its score is certain, else the one after a rationale."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.checkpoint import SHIPPED, Checkpoint, open_checkpoint
from guard.errors import EngineDead, EngineError, EngineFailed, EngineTimeout
from guard.prompt import PromptRenderer, Turn
from guard.scores import RawBand, ThinkScore, log_odds
from guard.serving.engine import Completion, EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import MODES, Question
from guard.serving.scripted_engine import ScriptedEngine
from schemas.identifiers import Mode
from schemas.policy import Category, Policy
from schemas.verdict import Unjudged, Verdict

POLICY = Policy(
    id="test", version="1", categories=(Category(code="C1", title="gambling", definition="casino; betting;"),)
)
LIMITS = JudgeLimits(max_model_len=512, think_budget_tokens=40, answer_tokens=24, max_attempts=2)
BAND = RawBand(0.25, 0.75)
NOTHING = RawBand(0.5, 0.5)
ANSWER = " listed.</think>\n\\boxed{unsafe} C1"


@cache
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(SHIPPED / "tiny"), weights=False)


@cache
def renderer() -> PromptRenderer:
    return PromptRenderer(checkpoint().path, checkpoint().template, b"secret")


def question(
    text: str = "meet me at the casino", mode: Mode = "adaptive", band: RawBand | None = BAND
) -> Question:
    return Question(policy=POLICY, turns=(Turn(role="user", text=text),), mode=mode, uncertain=band)


class ScoredEngine:
    """Answers a fast prompt with a token of a score, any other with a text; `fails`: raised by fast calls."""

    name = "scored"
    version = "1"
    alive = True
    calls_in_flight = 0

    def __init__(
        self, fast: float | None, answer: str = ANSWER, *, token: str = "", fails: EngineError | None = None
    ) -> None:
        self._fast, self._answer, self._token, self._fails = fast, answer, token, fails
        self.fast_calls = self.think_calls = 0

    async def start(self) -> None: ...
    async def gone(self) -> None: ...
    async def close(self) -> None: ...

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        suffix = renderer().fast_suffix
        if tuple(prompt_ids[-len(suffix) :]) == suffix:
            self.fast_calls += 1
            return self._say_fast()
        self.think_calls += 1
        ids = renderer().encoder.structure(self._answer) + renderer().eos_token_ids[:1]
        pairs = ((-3.0, -0.05),) * len(ids)
        return Completion(token_ids=ids, verdict_logprobs=pairs, finish_reason="stop")

    def _say_fast(self) -> Completion:
        if self._fails is not None:
            raise self._fails
        tokens, score = renderer().verdict_tokens, self._fast
        token = tokens.unsafe if score is not None and score >= 0.5 else tokens.safe
        if self._token:
            token = renderer().encoder.structure(self._token)[0]
        pair = None if score is None else (_log(1 - score), _log(score))
        return Completion(token_ids=(token,), verdict_logprobs=(pair,), finish_reason="length")


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


async def ask(engine: Any, asked: Question, limits: JudgeLimits = LIMITS) -> Verdict | Unjudged:
    return await Judge(checkpoint(), renderer(), engine, limits).judge(asked)


def plain(outcome: Verdict | Unjudged, **changes: Any) -> Verdict | Unjudged:
    """What was said, whatever it cost."""
    return msgspec.structs.replace(outcome, steps=(), **changes)


@pytest.mark.parametrize(
    ("score", "thinks"),
    [(0.0, False), (0.249, False), (0.25, True), (0.5, True), (0.749, True), (0.751, False), (1.0, False)],
)
async def test_it_thinks_from_the_lower_edge_to_below_the_upper_one(score: float, thinks: bool) -> None:
    engine = ScoredEngine(score)
    outcome = await ask(engine, question())
    assert isinstance(outcome, Verdict)
    assert (engine.fast_calls, engine.think_calls) == (1, int(thinks))
    assert outcome.way == outcome.answered_in == ("think" if thinks else "fast")
    assert outcome.mode == "adaptive"
    assert [step.mode for step in outcome.steps] == (["fast", "think"] if thinks else ["fast"])


@pytest.mark.parametrize(
    ("band", "thinks"),
    [
        (RawBand(0.0, math.inf), True),
        (RawBand(1.0, math.inf), True),
        (RawBand(1.0, 1.0), False),
        (None, True),
    ],
)
async def test_a_band_may_hold_everything_or_nothing(band: RawBand | None, thinks: bool) -> None:
    engine = ScoredEngine(1.0)
    await ask(engine, question(band=band))
    assert engine.think_calls == int(thinks)


async def test_without_a_score_there_is_nothing_to_be_sure_of() -> None:
    outcome = await ask(ScoredEngine(None), question(band=NOTHING))
    assert isinstance(outcome, Verdict)
    assert (outcome.answered_in, outcome.codes) == ("think", ("C1",))


@pytest.mark.parametrize(
    "engine", [ScoredEngine(0.9, token="maybe"), ScoredEngine(0.9, fails=EngineFailed("refused"))]
)
async def test_where_the_fast_step_fails_thinking_decides(engine: ScoredEngine) -> None:
    outcome = await ask(engine, question(band=NOTHING))
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.answered_in) == ("unsafe", "think")
    assert engine.think_calls == 1


async def test_where_thinking_gives_no_verdict_there_is_none() -> None:
    outcome = await ask(ScoredEngine(0.5, " what?"), question())
    assert isinstance(outcome, Unjudged)
    assert (outcome.reason, outcome.detail) == ("unparseable", "no_think_close")
    assert [step.mode for step in outcome.steps] == ["fast", "think"]


async def test_out_of_time_in_the_fast_step_is_out_of_time() -> None:
    engine = ScoredEngine(0.9, fails=EngineTimeout("over"))
    outcome = await ask(engine, question())
    assert isinstance(outcome, Unjudged)
    assert (outcome.reason, engine.think_calls) == ("timed_out", 0)


async def test_a_dead_engine_is_passed_on() -> None:
    with pytest.raises(EngineDead):
        await ask(ScoredEngine(0.9, fails=EngineDead("gone")), question())


async def test_a_fast_call_that_fails_has_its_tries_and_thinking_has_tries_of_its_own() -> None:
    engine = ScoredEngine(0.9, fails=EngineFailed("refused"))
    await ask(engine, question(), replace(LIMITS, max_attempts=3))
    assert (engine.fast_calls, engine.think_calls) == (3, 1)


async def test_a_score_of_both_readings_takes_the_fast_one_that_was_made() -> None:
    engine, limits = ScoredEngine(0.5), replace(LIMITS, think_score="both")
    outcome = await ask(engine, question(), limits)
    assert isinstance(outcome, Verdict)
    assert (engine.fast_calls, engine.think_calls) == (1, 1)
    alone = await ask(ScoredEngine(0.5), question(mode="think"))
    assert isinstance(alone, Verdict)
    assert alone.score is not None
    assert outcome.score is not None
    assert log_odds(outcome.score) == pytest.approx(log_odds(alone.score) / 2)


@settings(max_examples=60, deadline=None)
@given(
    st.none() | st.floats(0, 1),
    st.tuples(st.floats(0, 1), st.floats(0, 1) | st.just(math.inf)).map(lambda ends: RawBand(*sorted(ends))),
    st.sampled_from([ANSWER, " fine.</think>\n\\boxed{safe}", " what?", " x.</think>\n\n \\boxed{unsafe}"]),
    st.sampled_from(["verdict", "both"]),
    st.sampled_from(["", "maybe"]),
)
def test_it_is_the_fast_verdict_outside_the_band_and_the_thinking_one_inside(
    score: float | None, band: RawBand, answer: str, think_score: ThinkScore, token: str
) -> None:
    limits = replace(LIMITS, think_score=think_score)

    async def of(mode: Mode) -> Verdict | Unjudged:
        return await ask(ScoredEngine(score, answer, token=token), question(mode=mode, band=band), limits)

    adaptive, fast, think = (asyncio.run(of(mode)) for mode in ("adaptive", "fast", "think"))
    certain = isinstance(fast, Verdict) and fast.score is not None and not band.holds(fast.score)
    alone = fast if certain else think
    assert plain(adaptive) == plain(alone, **({"mode": "adaptive"} if isinstance(alone, Verdict) else {}))


SENTENCE = "meet me at the casino tonight"
STORY = "and so the story goes on and on. "
IN_WINDOWS = JudgeLimits(
    max_model_len=300, think_budget_tokens=40, answer_tokens=16, text_window_overlap_tokens=24
)


async def test_each_text_window_goes_its_own_way() -> None:
    def say(ids: tuple[int, ...]) -> str:
        prompt = renderer().encoder.decode(ids)
        if ids[-len(renderer().fast_suffix) :] == renderer().fast_suffix:
            return "maybe" if SENTENCE in prompt else "safe}"
        return ANSWER

    engine = ScriptedEngine(renderer(), completion=say, max_model_len=300)
    judge = Judge(checkpoint(), renderer(), engine, IN_WINDOWS)
    await judge.start()
    text = STORY * 30 + SENTENCE + ". " + STORY * 30
    outcome = await judge.judge(question(text, band=NOTHING))
    await judge.close()
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.mode) == ("unsafe", "adaptive")
    assert outcome.windows == len(outcome.by_window) > 3
    for window in outcome.by_window:
        assert window.answered_in == ("think" if window.label == "unsafe" else "fast")
    thought = sum(window.answered_in == "think" for window in outcome.by_window)
    assert [step.mode for step in outcome.steps].count("think") == thought
    assert [step.mode for step in outcome.steps].count("fast") == outcome.windows


async def test_every_step_says_how_long_it_took() -> None:
    ticks = iter(range(1000))
    judge = Judge(checkpoint(), renderer(), ScoredEngine(0.5), LIMITS, clock=lambda: float(next(ticks)))
    outcome = await judge.judge(question())
    assert [step.took_ms for step in outcome.steps] == [1000.0, 1000.0]


def test_each_mode_is_decoded_in_a_way_of_its_own() -> None:
    judge = Judge(checkpoint(), renderer(), ScoredEngine(0.5), LIMITS)
    texts = {mode: judge.used(mode).decoding for mode in MODES}
    assert len(set(texts.values())) == len(MODES) == 3
    both = Judge(checkpoint(), renderer(), ScoredEngine(0.5), replace(LIMITS, think_score="both"))
    assert both.used("adaptive").decoding != texts["adaptive"]
    assert both.used("fast").decoding == texts["fast"]


async def test_the_scripted_engine_goes_both_ways() -> None:
    judge = Judge(checkpoint(), renderer(), ScriptedEngine(renderer()), LIMITS)
    await judge.start()
    outcomes = [await judge.judge(question(f"message {n}", band=RawBand(0.3, 0.5))) for n in range(30)]
    await judge.close()
    ways = [outcome.way for outcome in outcomes if isinstance(outcome, Verdict)]
    assert len(ways) == 30
    assert set(ways) == {"fast", "think"}


@pytest.mark.parametrize("score", [0.0, 0.3, 0.5, 1.0])
def test_a_band_reads_back_from_its_text(score: float) -> None:
    low, _, high = str(RawBand(score / 3, score)).partition("..")
    assert RawBand(float(low), float(high)) == RawBand(score / 3, score)
    assert str(RawBand(score, 0.7)) != str(RawBand(score, math.inf))
