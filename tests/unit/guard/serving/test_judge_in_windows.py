"""The judge on what does not fit: context that is left out, messages in text windows, and what each may say.

The scripted engine calls a prompt unsafe that has the sentence in it, whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from guard.checkpoint import SHIPPED, Checkpoint, open_checkpoint
from guard.errors import EngineDead, EngineFailed, EngineTimeout
from guard.prompt import PromptRenderer, Turn
from guard.serving.engine import Completion, EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.scripted_engine import ScriptedEngine
from schemas.identifiers import Mode
from schemas.policy import Category, Policy
from schemas.verdict import Unjudged, Verdict

POLICY = Policy(
    id="test",
    version="1",
    categories=(
        Category(code="C10", title="violence", definition="physical harm;"),
        Category(code="C2", title="gambling", definition="betting;"),
    ),
)
LIMITS = JudgeLimits(
    max_model_len=300, think_budget_tokens=40, answer_tokens=16, text_window_overlap_tokens=24
)
SENTENCE = "meet me at the casino tonight"
HARMLESS = "and so the story goes on and on. "
SENTENCES = 90


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(str(SHIPPED / "tiny"), weights=False)


@pytest.fixture(scope="module")
def renderer(checkpoint: Checkpoint) -> PromptRenderer:
    return PromptRenderer(checkpoint.path, checkpoint.template, b"secret")


Say = Callable[[str], str]


async def ask(
    checkpoint: Checkpoint,
    renderer: PromptRenderer,
    text: str,
    say: Say,
    *,
    mode: Mode = "think",
    context: tuple[str, ...] = (),
    limits: JudgeLimits = LIMITS,
    engine: ScriptedEngine | None = None,
) -> Verdict | Unjudged:
    """`say` gives the answer to the text of a prompt."""
    engine = engine or ScriptedEngine(
        renderer, completion=lambda ids: say(renderer.encoder.decode(ids)), max_model_len=300
    )
    judge = Judge(checkpoint, renderer, engine, limits)
    turns = (*(Turn(role="user", text=one) for one in context), Turn(role="user", text=text))
    await judge.start()
    try:
        return await judge.judge(Question(policy=POLICY, turns=turns, mode=mode))
    finally:
        await judge.close()


def thinking(prompt: str) -> str:
    if SENTENCE in prompt:
        return " casino.</think>\n\\boxed{unsafe} c2"
    return " harmless.</think>\n\\boxed{safe}"


def fast(prompt: str) -> str:
    return "unsafe}" if SENTENCE in prompt else "safe}"


SAYS: dict[Mode, Say] = {"think": thinking, "fast": fast}


def story(at: int | None = None) -> str:
    """A long story, with the sentence before its sentence number `at`."""
    pieces = [HARMLESS] * SENTENCES
    if at is not None:
        pieces.insert(at, f"{SENTENCE}. ")
    return "".join(pieces)


@pytest.mark.parametrize("mode", ["think", "fast"])
@pytest.mark.parametrize("at", range(SENTENCES + 1))
async def test_an_unsafe_sentence_is_found_wherever_it_stands(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode, at: int
) -> None:
    outcome = await ask(checkpoint, renderer, story(at), SAYS[mode], mode=mode)
    assert isinstance(outcome, Verdict)
    assert outcome.label == "unsafe"
    assert outcome.windows > 3
    labels = [one.label for one in outcome.by_window]
    assert 1 <= labels.count("unsafe") <= 2
    # The end of the text comes first.
    if at == SENTENCES:
        assert labels[0] == "unsafe"
    if at == 0:
        assert labels[-1] == "unsafe"
    if mode == "think":
        assert (outcome.codes, outcome.rationale) == (("C2",), "casino.")


@pytest.mark.parametrize("mode", ["think", "fast"])
async def test_a_story_without_it_is_safe_and_every_window_was_asked(
    checkpoint: Checkpoint, renderer: PromptRenderer, mode: Mode
) -> None:
    outcome = await ask(checkpoint, renderer, story(), SAYS[mode], mode=mode, context=("one", "two"))
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.windows_unjudged, outcome.turns_left_out) == ("safe", 0, 2)
    assert len(outcome.steps) == len(outcome.by_window) == outcome.windows > 3


async def test_context_that_does_not_fit_is_counted(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    prompts: list[str] = []

    def say(prompt: str) -> str:
        prompts.append(prompt)
        return thinking(prompt)

    context = tuple(f"{HARMLESS * 2} number {number}" for number in range(20))
    outcome = await ask(checkpoint, renderer, SENTENCE, say, context=context)
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.windows, outcome.by_window) == ("unsafe", 1, ())
    assert 0 < outcome.turns_left_out < 20
    (prompt,) = prompts
    assert [f"number {n}\n" in prompt for n in range(20)] == [n >= outcome.turns_left_out for n in range(20)]


async def test_codes_of_several_windows_are_named_in_canonical_order(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    def say(prompt: str) -> str:
        named = [code for word, code in (("stab", "c10"), ("casino", "c2")) if f" {word}" in prompt]
        return f" x.</think>\n\\boxed{{unsafe}} {', '.join(named)}" if named else thinking(prompt)

    outcome = await ask(checkpoint, renderer, f"a casino. {story()} and a stab", say)
    assert isinstance(outcome, Verdict)
    assert outcome.codes == ("C2", "C10")
    assert {one.codes for one in outcome.by_window} == {("C2",), (), ("C10",)}


async def test_an_unsafe_window_stands_beside_one_that_is_not_understood(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    def say(prompt: str) -> str:
        return " what?" if "nonsense" in prompt else thinking(prompt)

    outcome = await ask(checkpoint, renderer, f"nonsense {story(50)}", say)
    assert isinstance(outcome, Verdict)
    assert (outcome.label, outcome.windows_unjudged) == ("unsafe", 1)
    refused = await ask(checkpoint, renderer, f"nonsense {story()}", say)
    assert isinstance(refused, Unjudged)
    assert (refused.reason, refused.detail) == ("unparseable", "no_think_close")
    assert refused.windows == outcome.windows
    assert len(refused.steps) == refused.windows


async def test_too_many_windows_are_not_asked(checkpoint: Checkpoint, renderer: PromptRenderer) -> None:
    outcome = await ask(checkpoint, renderer, story(), thinking, limits=replace(LIMITS, max_text_windows=2))
    assert outcome == Unjudged(reason="prompt_too_long", detail="too many text windows")


class Failing(ScriptedEngine):
    """Fails as told for prompts that have the sentence; counts its calls, and those that were broken off."""

    def __init__(self, renderer: PromptRenderer, error: Exception | None) -> None:
        super().__init__(renderer, completion=lambda _: " fine.</think>\n\\boxed{safe}")
        self._reader, self._error = renderer, error
        self.most = self.inside = self.broken_off = 0

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if self._error is not None:
                if SENTENCE in self._reader.encoder.decode(prompt_ids):
                    raise self._error
                if isinstance(self._error, EngineDead):
                    await asyncio.Event().wait()
            await asyncio.sleep(0)
            return await super().generate(prompt_ids, parameters, deadline_s)
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        finally:
            self.inside -= 1


async def test_all_windows_are_at_the_engine_together(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    engine = Failing(renderer, None)
    outcome = await ask(checkpoint, renderer, story(), thinking, engine=engine)
    assert engine.most == outcome.windows > 3


@pytest.mark.parametrize(
    ("error", "reason"), [(EngineTimeout("x"), "timed_out"), (EngineFailed("x"), "engine_failed")]
)
async def test_safe_needs_an_answer_to_every_window(
    checkpoint: Checkpoint, renderer: PromptRenderer, error: Exception, reason: str
) -> None:
    outcome = await ask(checkpoint, renderer, story(3), thinking, engine=Failing(renderer, error))
    assert isinstance(outcome, Unjudged)
    assert outcome.reason == reason
    assert len(outcome.steps) == outcome.windows - 1


async def test_a_guard_that_dies_of_one_window_leaves_no_other_behind(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    engine = Failing(renderer, EngineDead("gone"))
    with pytest.raises(EngineDead):
        await ask(checkpoint, renderer, story(3), thinking, engine=engine)
    assert engine.inside == 0
    assert engine.broken_off == engine.most - 1 > 2


async def test_a_judgement_that_is_given_up_leaves_no_window_behind(
    checkpoint: Checkpoint, renderer: PromptRenderer
) -> None:
    engine = Failing(renderer, EngineDead("never raised"))
    task = asyncio.create_task(ask(checkpoint, renderer, story(), thinking, engine=engine))
    while engine.inside < 4:  # noqa: ASYNC110 - a thread renders meanwhile
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.inside == 0
    assert engine.broken_off == engine.most
