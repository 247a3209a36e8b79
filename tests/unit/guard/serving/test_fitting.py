"""Prompts that fit, over the shipped tokenizer: which turns are kept, and where a long message is cut."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.checkpoint import SHIPPED
from guard.prompt import PromptRenderer, Turn, template_of
from guard.serving.fitting import Fitted, Fitting, answer_room
from guard.serving.identity import JudgeLimits
from schemas.identifiers import Mode
from schemas.policy import Category, Policy
from schemas.verdict import Unjudged
from tests.tokenizer_kinds import PIECES

POLICY = Policy(
    id="p", version="1", categories=(Category(code="C1", title="gambling", definition="casino; betting;"),)
)
OVERLAP = 24
SENTENCE = "we will meet at the casino tonight and bet it all on red"


@cache
def renderer() -> PromptRenderer:
    return PromptRenderer(SHIPPED / "tiny", template_of(SHIPPED / "tiny"), b"secret")


def limits(**changes: Any) -> JudgeLimits:
    base: dict[str, Any] = {
        "max_model_len": 300,
        "think_budget_tokens": 40,
        "answer_tokens": 16,
        "text_window_overlap_tokens": OVERLAP,
        "max_text_windows": 16,
    }
    return JudgeLimits(**(base | changes))


def fit(
    text: str, context: tuple[str, ...] = (), *, mode: Mode = "think", **changes: Any
) -> Fitted | Unjudged:
    turns = (*(Turn(role="assistant", text=one) for one in context), Turn(role="user", text=text))
    fitting = Fitting(renderer(), limits(**changes))
    try:
        return fitting.fit_now(POLICY, turns, mode)
    finally:
        fitting.close()


def fitted(
    text: str, context: tuple[str, ...] = (), *, mode: Mode = "think", **changes: Any
) -> tuple[Fitted, list[list[str]]]:
    """What fits, and the texts of the turns in each prompt, as its tokens say them."""
    found = fit(text, context, mode=mode, **changes)
    assert isinstance(found, Fitted), found
    return found, [turns_in(prompt) for prompt in found.prompts]


def turns_in(prompt: tuple[int, ...]) -> list[str]:
    shown = renderer().encoder.decode(prompt)
    mark = re.findall(r"\n([0-9a-f]{6})<\|im_end\|>", shown)[-1]
    pieces = shown.split(f"{mark} ")[1:]
    return [re.sub(rf"\n(?:{mark}.*)?\Z", "", piece, flags=re.DOTALL) for piece in pieces]


def test_what_fits_is_one_prompt_with_all_its_context() -> None:
    found, shown = fitted("hello there", ("one", "two"))
    assert (len(found.prompts), found.turns_left_out) == (1, 0)
    assert shown == [["assistant: one", "assistant: two", "user: hello there"]]


@pytest.mark.parametrize("mode", ["think", "fast"])
def test_the_oldest_turns_are_left_out_whole_and_the_newest_that_fit_are_kept(mode: Mode) -> None:
    context = tuple(f"turn {number} " + "so we went on " * (number % 4) for number in range(40))
    found, (shown,) = fitted("hello there", context, mode=mode)
    kept = 40 - found.turns_left_out
    assert 0 < kept < 40
    assert shown == [f"assistant: {one}" for one in context[-kept:]] + ["user: hello there"]
    room = limits().max_model_len - len(renderer().forced_close)
    room -= limits().answer_tokens + limits().think_budget_tokens if mode == "think" else 1
    assert len(found.prompts[0]) <= room
    # One more would not fit.
    turns = [Turn(role="assistant", text=one) for one in context[-kept - 1 :]]
    assert renderer().render_within(POLICY, [*turns, Turn(role="user", text="hello there")], room) is None


def test_a_turn_that_does_not_fit_is_left_out_with_all_before_it() -> None:
    found, (shown,) = fitted("hello", ("old", "a long story " * 200, "new"))
    assert found.turns_left_out == 2
    assert shown == ["assistant: new", "user: hello"]


def test_nothing_is_cut_to_leave_more_room_for_the_rationale() -> None:
    turns = (Turn(role="assistant", text="one"), Turn(role="user", text="hello there"))
    whole = len(renderer().render(POLICY, turns))
    length = whole + len(renderer().forced_close) + 16 + 64  # the shortest rationale, and no more
    found, _ = fitted("hello there", ("one",), max_model_len=length, think_budget_tokens=512)
    assert found.turns_left_out == 0


def test_what_is_cut_leaves_the_rationale_its_budget_up_to_a_share_of_the_length() -> None:
    context = tuple("so we went on and on" for _ in range(100))
    for budget, kept_free in ((40, 40), (100, 100), (512, 600 // 4)):
        found, _ = fitted("hello", context, max_model_len=600, think_budget_tokens=budget)
        left = answer_room(renderer(), limits(max_model_len=600)) - len(found.prompts[0])
        # A turn more would not have fitted; each turn has the mark, which may have two tokens or six.
        assert kept_free <= left < kept_free + 120
        assert found.turns_left_out > 0


@pytest.mark.parametrize("mode", ["think", "fast"])
def test_a_message_that_does_not_fit_is_cut_into_windows_without_its_context(mode: Mode) -> None:
    text = "".join(f"and the story goes on with number {number} of many. " for number in range(100))
    found, shown = fitted(text, ("one", "two"), mode=mode)
    assert len(found.prompts) > 3
    assert found.turns_left_out == 2
    assert len({*found.prompts}) == len(found.prompts)
    texts = [one.removeprefix("user: ") for (one,) in shown]
    assert text.endswith(texts[0])
    assert text.startswith(texts[-1])
    places = [text.index(one) for one in texts]
    assert places == sorted(places, reverse=True)
    for newer, older in pairwise(texts):
        assert text.index(older) + len(older) > text.index(newer)
    longest = limits().max_model_len - len(renderer().forced_close) - (57 if mode == "think" else 1)
    assert all(len(prompt) <= longest for prompt in found.prompts)


@pytest.mark.parametrize("mode", ["think", "fast"])
@pytest.mark.parametrize("words", range(0, 400, 7))
def test_a_sentence_stands_whole_in_a_window_wherever_it_is_put(mode: Mode, words: int) -> None:
    before = "".join(f"{number % 10} and " for number in range(words))
    after = "".join(f"or {number % 7} " for number in range(400 - words))
    _, shown = fitted(f"{before}{SENTENCE} {after}", mode=mode, max_text_windows=100)
    assert any(SENTENCE in one for (one,) in shown)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, "word ", "\u4e2d"]), min_size=300, max_size=500), st.integers(0))
def test_any_text_is_refused_or_covered_and_every_prompt_has_room(pieces: list[str], at: int) -> None:
    place = at % len(pieces)
    text = "".join([*pieces[:place], " ", SENTENCE, " ", *pieces[place:]])
    found = fit(text, max_text_windows=60)
    if isinstance(found, Unjudged):
        assert found.reason == "prompt_too_long"
        return
    assert all(len(prompt) + 40 <= answer_room(renderer(), limits()) for prompt in found.prompts)
    if len(found.prompts) > 1:
        assert any(SENTENCE in renderer().encoder.decode(prompt) for prompt in found.prompts)


def test_beyond_the_bound_on_windows_nothing_is_judged() -> None:
    text = "and so the story goes on. " * 100
    found, _ = fitted(text)
    needed = len(found.prompts)
    assert len(fitted(text, max_text_windows=needed)[0].prompts) == needed
    refused = fit(text, max_text_windows=needed - 1)
    assert refused == Unjudged(reason="prompt_too_long", detail="too many text windows")


def test_a_bound_of_one_switches_windows_off() -> None:
    refused = fit("and so the story goes on. " * 100, max_text_windows=1)
    assert refused == Unjudged(reason="prompt_too_long", detail="no room for an answer")


def test_windows_of_less_than_two_overlaps_are_none() -> None:
    text = "and so the story goes on. " * 100
    refused = fit(text, text_window_overlap_tokens=128)
    assert refused == Unjudged(reason="prompt_too_long", detail="no room for a text window")
    # A policy that fills the prompt leaves no room either.
    assert fit(text, max_model_len=100) == refused
    assert fit(text, max_model_len=20) == refused


def test_windows_that_are_longer_by_themselves_are_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "and so the story goes on. " * 100
    usual, _ = fitted(text)
    starts = renderer().encoder.token_starts(text, 10_000)
    assert starts is not None
    # As if the whole text were told in two thirds of the tokens.
    fewer = [at for number, at in enumerate(starts) if number % 3]
    monkeypatch.setattr(renderer().encoder, "token_starts", lambda *_: fewer)
    smaller, shown = fitted(text)
    assert len(smaller.prompts) >= len(usual.prompts)
    assert text.endswith(shown[0][0].removeprefix("user: "))
    assert text.startswith(shown[-1][0].removeprefix("user: "))


@pytest.mark.parametrize("unit", ["\ufdfa", "\U0001f600", "lorem ipsum ", "a", " "], ids=ascii)
@pytest.mark.parametrize("mode", ["think", "fast"])
def test_a_message_far_beyond_the_bound_is_not_encoded(
    unit: str, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit("x")  # the part of the policy is kept from here on
    monkeypatch.setattr(renderer().encoder, "_plain", Small(renderer().encoder._plain))
    refused = fit(unit * 200_000, (unit * 100_000,), mode=mode, max_model_len=600)
    assert refused == Unjudged(reason="prompt_too_long", detail="too many text windows")


class Small:
    """A tokenizer that is given small texts only."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        assert sum(map(len, texts)) < 200
        return self._tokenizer.encode_batch_fast(texts, **options)


ENGLISH = "the weather was fine and we walked to the lake with both dogs, then a film about trains. "


@pytest.mark.parametrize("mode", ["think", "fast"])
@pytest.mark.parametrize("turns", [0, 3, 60])
@pytest.mark.parametrize("sentences", [1, 5, 8, 12, 20, 60])
def test_the_estimate_is_about_what_the_prompts_have(mode: Mode, turns: int, sentences: int) -> None:
    context = (ENGLISH,) * turns
    found, _ = fitted(ENGLISH * sentences, context, mode=mode)
    conversation = (
        *(Turn(role="assistant", text=one) for one in context),
        Turn(role="user", text=ENGLISH * sentences),
    )
    estimated = Fitting(renderer(), limits()).estimate_tokens(POLICY, conversation, mode)
    tokens = sum(map(len, found.prompts))
    assert 0.9 * tokens <= estimated <= 1.5 * tokens


def test_the_estimate_of_what_is_refused_is_bounded_by_the_windows() -> None:
    fitting = Fitting(renderer(), limits(max_text_windows=4))
    refused = (Turn(role="user", text=ENGLISH * 10_000),)
    assert fitting.estimate_tokens(POLICY, refused, "think") <= 4 * limits().max_model_len
    crowded = (*(Turn(role="user", text=ENGLISH),) * 5_000, Turn(role="user", text="hi"))
    assert fitting.estimate_tokens(POLICY, crowded, "think") <= limits().max_model_len
