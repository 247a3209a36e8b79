from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.serving.identity import GuardIdentity, JudgeLimits, read_limits
from schemas.identifiers import Mode

COUNTS = st.integers(1, 100_000)


def identity(limits: JudgeLimits, engine: str = "vllm") -> GuardIdentity:
    facts: dict[str, Any] = dict.fromkeys(GuardIdentity.__slots__, "x")
    return GuardIdentity(**(facts | {"verified": True, "limits": limits, "engine": engine}))


@given(
    st.builds(
        JudgeLimits,
        max_model_len=COUNTS,
        think_budget_tokens=COUNTS,
        answer_tokens=COUNTS,
        max_text_windows=COUNTS,
        text_window_overlap_tokens=COUNTS,
        think_score=st.sampled_from(["verdict", "both"]),
        category_scores=st.booleans(),
        quantization=st.sampled_from(["", "fp8", "bitsandbytes"]),
    ),
    st.sampled_from(["fast", "think"]),
)
def test_the_limits_that_a_decision_names_ask_in_the_same_way_again(limits: JudgeLimits, mode: Mode) -> None:
    told = identity(limits).decoding(mode)
    read = read_limits(told)
    assert identity(read).decoding(mode) == told
    assert read.max_model_len == limits.max_model_len
    if mode == "think":
        assert read == limits


def test_rounded_weights_are_another_guard_and_others_keep_their_text() -> None:
    plain, rounded = (
        identity(JudgeLimits(max_model_len=64, quantization=how)).decoding("fast") for how in ("", "fp8")
    )
    assert rounded == f"{plain} weights=fp8"
    assert "weights" not in plain


def test_what_names_no_length_is_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        read_limits("vllm greedy tokens=1")
    with pytest.raises(ValueError, match="abc"):
        read_limits("vllm greedy length=abc")
