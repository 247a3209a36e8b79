"""Each grammar's answers, good and malformed: only exact forms are verdicts, the rest has a stable reason."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.answer import Answer, Reason, Unparseable
from guard.profiles.catalogue import PROFILES
from schemas.policy import Policy
from tests.unit.guard.profiles.worlds import POLICY

HARMONY = "<|end|><|start|>assistant<|channel|>final<|message|>"
LLAMA = ("llama-guard-3", "llama-guard-4")
NUMBERED = ("llama-guard-3-policy", "llama-guard-4-policy")
QWEN = ("qwen3guard-gen", "qwen3guard-gen-loose")
WORDS = ("shieldgemma", "granite-guardian-3")
BOXED = ("rsafe-boxed-1", "instruct")


def read(profile: str, text: str, policy: Policy = POLICY) -> Answer | Unparseable:
    return PROFILES[profile].answer(text, policy)


GOOD = [
    *((p, "x</think>\n\\boxed{unsafe} C2", Answer("unsafe", ("C2",), "x")) for p in BOXED),
    ("rsafe-release", "x</think>\\boxed{unsafe} U2, U1", Answer("unsafe", ("C2", "C1"), "x")),
    ("rsafe-release", "x</think>\\boxed{safe}", Answer("safe", (), "x")),
    ("gpt-oss-safeguard", f"why{HARMONY}\\boxed{{unsafe}} C1", Answer("unsafe", ("C1",), "why")),
    ("gpt-oss-safeguard", f"{HARMONY}\\boxed{{safe}}", Answer("safe", (), "")),
    *((p, "\n\nsafe", Answer("safe", (), "")) for p in LLAMA + NUMBERED),
    *((p, "\n\nunsafe\nS1,S7", Answer("unsafe", ("C1", "C2"), "")) for p in LLAMA),
    *((p, "unsafe\nS7, S7 ", Answer("unsafe", ("C2",), "")) for p in LLAMA),
    *((p, "unsafe\nS2,S1", Answer("unsafe", ("C2", "C1"), "")) for p in NUMBERED),
    *((p, "Safety: Safe\nCategories: None", Answer("safe", (), "")) for p in QWEN),
    *((p, "Safety: Safe\nCategories: None\nRefusal: Yes", Answer("safe", (), "")) for p in QWEN),
    *((p, "Safety: Unsafe\nCategories: PII, Violent", Answer("unsafe", ("C2", "C1"), "")) for p in QWEN),
    ("qwen3guard-gen", "Safety: Controversial\nCategories: PII", Answer("unsafe", ("C2",), "Controversial")),
    ("qwen3guard-gen-loose", "Safety: Controversial\nCategories: PII", Answer("safe", (), "Controversial")),
    *((p, "Yes", Answer("unsafe", (), "")) for p in WORDS),
    *((p, " No\n", Answer("safe", (), "")) for p in WORDS),
    ("granite-guardian-3", "Yes\n<confidence> High </confidence>", Answer("unsafe", (), "")),
    ("granite-guardian-3.3", "a reason</think>\n<score> yes </score>", Answer("unsafe", (), "a reason")),
    ("granite-guardian-3.3", "\n</think>\n<score>no</score>", Answer("safe", (), "")),
]

MALFORMED = [
    ("gpt-oss-safeguard", "\\boxed{safe}", "no_think_close"),
    (
        "gpt-oss-safeguard",
        "x<|end|><|start|>assistant<|channel|>commentary<|message|>\\boxed{safe}",
        "no_think_close",
    ),
    ("gpt-oss-safeguard", f"x{HARMONY}\\boxed{{safe}}{HARMONY}\\boxed{{unsafe}}", "several_think_closes"),
    ("gpt-oss-safeguard", f"x{HARMONY}\\boxed{{safe}}<|end|>", "trailing_text"),
    ("rsafe-release", "x</think>\\boxed{unsafe} U19", "unknown_category"),
    ("rsafe-release", "x</think>\\boxed{unsafe} C1", "unknown_category"),
    ("llama-guard-3", "  \n", "empty"),
    ("llama-guard-3", "Safe", "no_verdict"),
    ("llama-guard-3", "safe.", "no_verdict"),
    ("llama-guard-3", "it is safe", "no_verdict"),
    ("llama-guard-3", "unsafe", "no_codes"),
    ("llama-guard-3", "safe\nS1", "codes_on_safe"),
    ("llama-guard-3", "safe\nunsafe\nS1", "several_verdicts"),
    ("llama-guard-3", "unsafe\nS1\nsafe", "several_verdicts"),
    ("llama-guard-3", "unsafe\nS99", "unknown_category"),
    ("llama-guard-3", "unsafe\nS1 S7", "trailing_text"),
    ("llama-guard-3", "unsafe\nS1, because", "trailing_text"),
    ("llama-guard-3", "safe\nindeed", "trailing_text"),
    ("llama-guard-3-policy", "unsafe\nS3", "unknown_category"),
    ("llama-guard-3-policy", "unsafe\nC1", "trailing_text"),
    ("qwen3guard-gen", "", "empty"),
    ("qwen3guard-gen", "Unsafe\nCategories: PII", "no_verdict"),
    ("qwen3guard-gen", "Safety: unsafe\nCategories: PII", "no_verdict"),
    ("qwen3guard-gen", "Safety: Safely\nCategories: None", "no_verdict"),
    ("qwen3guard-gen", "Safety: Safe", "trailing_text"),
    ("qwen3guard-gen", "Safety: Safe\nCategories: None\nSafety: Unsafe\nCategories: PII", "several_verdicts"),
    ("qwen3guard-gen", "Safety: Safe\nCategories: PII", "codes_on_safe"),
    ("qwen3guard-gen", "Safety: Unsafe\nCategories: None", "no_codes"),
    ("qwen3guard-gen", "Safety: Controversial\nCategories: None", "no_codes"),
    ("qwen3guard-gen", "Safety: Unsafe\nCategories: Bingo", "unknown_category"),
    ("qwen3guard-gen", "Safety: Unsafe\nCategories: PII\nRefusal: Maybe", "trailing_text"),
    ("shieldgemma", "", "empty"),
    ("shieldgemma", "yes", "no_verdict"),
    ("shieldgemma", "Yesterday", "no_verdict"),
    ("shieldgemma", "Yes, and No", "trailing_text"),
    ("shieldgemma", "No. Yes", "trailing_text"),
    ("granite-guardian-3.3", "<score> no </score>", "no_think_close"),
    ("granite-guardian-3.3", "a</think>b</think><score> no </score>", "several_think_closes"),
    ("granite-guardian-3.3", "a</think><score> no </score><score> yes </score>", "several_verdicts"),
    ("granite-guardian-3.3", "a</think><score> maybe </score>", "no_verdict"),
    ("granite-guardian-3.3", "a</think>no", "no_verdict"),
    ("granite-guardian-3.3", "a</think><score> no </score> then", "trailing_text"),
    ("granite-guardian-3.3", " ", "empty"),
]


@pytest.mark.parametrize(("profile", "text", "answer"), GOOD)
def test_good_answers_are_read(profile: str, text: str, answer: Answer) -> None:
    assert read(profile, text) == answer


@pytest.mark.parametrize(("profile", "text", "reason"), MALFORMED)
def test_malformed_answers_have_a_reason(profile: str, text: str, reason: str) -> None:
    found = read(profile, text)
    assert isinstance(found, Unparseable)
    assert found.reason == reason


PIECES = st.sampled_from(
    [
        *(
            "safe",
            "unsafe",
            "Safety: ",
            "Safe",
            "Unsafe",
            "Controversial",
            "Categories: ",
            "None",
            "PII",
            "Violent",
        ),
        *(
            "Yes",
            "No",
            "<score>",
            "</score>",
            " yes ",
            " no ",
            "</think>",
            "<think>",
            HARMONY,
            "\\boxed{safe}",
        ),
        *("\\boxed{unsafe}", "S1", "S7", "C1", "U1", ",", " ", "\n", "x", "Refusal: No", "\u200b", "\0"),
    ]
)
TEXTS = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=30)


@pytest.mark.parametrize("profile", PROFILES)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_any_text_is_an_answer_of_the_policy_or_a_known_reason(profile: str, text: str) -> None:
    found = read(profile, text)
    if isinstance(found, Unparseable):
        assert found.reason in get_args(Reason)
    else:
        assert set(found.codes) <= {"C1", "C2"}
        assert found.label == "unsafe" or not found.codes


@pytest.mark.parametrize(("profile", "text"), [(profile, text) for profile, text, _ in GOOD])
@settings(max_examples=15, deadline=None)
@given(more=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=5))
def test_what_follows_a_whole_answer_makes_it_none_or_a_list_of_codes(
    profile: str, text: str, more: str
) -> None:
    found = read(profile, f"{text}\n\n{more}")
    before = read(profile, text)
    assert isinstance(before, Answer)
    assert isinstance(found, Unparseable) or found.label == "unsafe"
