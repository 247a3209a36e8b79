from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.serving.worst import worst
from schemas.policy import Category, Policy
from schemas.verdict import Step, Unjudged, Verdict, WindowVerdict

CODES = ("C2", "C10", "C1")
POLICY = Policy(id="p", version="1", categories=tuple(Category(code=c, title=c, definition=c) for c in CODES))


def said(label: Any, score: float | None, *codes: str, rationale: str = "") -> Verdict:
    step = Step(mode="think", prompt_tokens=7, completion_tokens=3, finish_reason="stop")
    return Verdict(label=label, score=score, codes=codes, rationale=rationale, steps=(step,))


def failed(reason: Any = "timed_out", detail: str = "") -> Unjudged:
    step = Step(mode="think", prompt_tokens=9, completion_tokens=1, finish_reason="length")
    return Unjudged(reason=reason, detail=detail, steps=(step,))


def verdict_of(*outcomes: Verdict | Unjudged) -> Verdict:
    found = worst(outcomes, POLICY)
    assert isinstance(found, Verdict)
    return found


def test_one_unsafe_window_makes_the_whole_unsafe_with_its_rationale() -> None:
    whole = verdict_of(
        said("safe", 0.2, rationale="fine"), said("unsafe", 0.8, "C1", rationale="bad"), said("safe", 0.1)
    )
    assert (whole.label, whole.score, whole.codes, whole.rationale) == ("unsafe", 0.8, ("C1",), "bad")
    assert whole.windows == 3
    assert [(one.label, one.score, one.codes) for one in whole.by_window] == [
        ("safe", 0.2, ()),
        ("unsafe", 0.8, ("C1",)),
        ("safe", 0.1, ()),
    ]
    assert len(whole.steps) == 3


def test_codes_of_all_windows_are_named_once_in_canonical_order() -> None:
    whole = verdict_of(said("unsafe", 0.6, "C10", "C2"), said("unsafe", 0.9, "C1", "C10"))
    assert whole.codes == ("C1", "C2", "C10")


def test_a_category_has_the_highest_score_of_all_windows() -> None:
    one = msgspec.structs.replace(said("unsafe", 0.6, "C10"), category_scores={"C10": 0.6, "C2": 0.3})
    other = msgspec.structs.replace(said("unsafe", 0.9, "C1"), category_scores={"C1": 0.9, "C10": 0.2})
    whole = verdict_of(one, said("safe", 0.1), other)
    assert whole.category_scores == {"C1": 0.9, "C2": 0.3, "C10": 0.6}
    assert list(whole.category_scores) == ["C1", "C2", "C10"]
    assert [window.category_scores for window in whole.by_window] == [
        one.category_scores,
        {},
        other.category_scores,
    ]


def test_the_worst_of_several_is_the_one_with_the_highest_score_the_newest_first() -> None:
    assert verdict_of(said("unsafe", 0.7, rationale="a"), said("unsafe", 0.9, rationale="b")).rationale == "b"
    assert verdict_of(said("unsafe", 0.7, rationale="a"), said("unsafe", 0.7, rationale="b")).rationale == "a"
    assert verdict_of(said("safe", 0.7, rationale="a"), said("unsafe", 0.6, rationale="b")).rationale == "b"
    assert verdict_of(said("safe", 0.1, rationale="a"), said("safe", 0.3, rationale="b")).rationale == "b"


def test_an_unsafe_window_without_a_score_counts_as_certain() -> None:
    whole = verdict_of(said("unsafe", 0.9, rationale="a"), said("unsafe", None, rationale="b"))
    assert (whole.score, whole.rationale) == (None, "b")
    assert verdict_of(said("safe", None), said("safe", 0.3)).score == 0.3
    assert verdict_of(said("safe", None), said("safe", None)).score is None


def test_an_unsafe_window_stands_though_another_got_no_verdict() -> None:
    whole = verdict_of(failed(), said("unsafe", 0.8, "C1"), said("safe", 0.1))
    assert (whole.label, whole.windows, whole.windows_unjudged) == ("unsafe", 3, 1)
    assert len(whole.by_window) == 2
    assert len(whole.steps) == 3


def test_safe_needs_a_verdict_of_every_window() -> None:
    outcome = worst([said("safe", 0.1), failed("unparseable", "empty"), failed("timed_out")], POLICY)
    assert isinstance(outcome, Unjudged)
    assert (outcome.reason, outcome.detail, outcome.windows) == ("unparseable", "empty", 3)
    assert len(outcome.steps) == 3


def test_there_are_never_fewer_than_no_windows_without_a_verdict() -> None:
    one = WindowVerdict(label="unsafe", score=0.9)
    assert Verdict(label="unsafe", score=0.9, windows=1, by_window=(one, one)).windows_unjudged == 0
    assert Verdict(label="safe", score=0.1).windows_unjudged == 0


@pytest.mark.parametrize("outcome", [said("safe", 0.1), said("unsafe", 0.9, "C10", "C1"), failed()])
def test_one_window_is_the_whole(outcome: Verdict | Unjudged) -> None:
    assert worst([outcome], POLICY) is outcome


VERDICTS = st.builds(
    said, st.sampled_from(["safe", "unsafe"]), st.none() | st.floats(0, 1), rationale=st.sampled_from("ab")
)


@given(st.lists(VERDICTS | st.builds(failed), min_size=2, max_size=5))
def test_no_window_is_worse_than_the_whole(outcomes: list[Verdict | Unjudged]) -> None:
    whole = worst(outcomes, POLICY)
    verdicts = [outcome for outcome in outcomes if isinstance(outcome, Verdict)]
    labels = {verdict.label for verdict in verdicts}
    if isinstance(whole, Unjudged):
        assert "unsafe" not in labels
        assert len(verdicts) < len(outcomes)
        return
    assert whole.label == ("unsafe" if "unsafe" in labels else "safe")
    if whole.score is not None:
        assert all(verdict.score is None or verdict.score <= whole.score for verdict in verdicts)
    assert whole.windows - whole.windows_unjudged == len(whole.by_window) == len(verdicts)


def test_the_way_is_that_of_the_score() -> None:
    windows = [
        msgspec.structs.replace(said("unsafe", 0.6, rationale="bad"), answered_in="think"),
        msgspec.structs.replace(said("safe", 0.7), answered_in="fast"),
    ]
    whole = verdict_of(*windows)
    assert (whole.label, whole.score, whole.answered_in, whole.rationale) == ("unsafe", 0.7, "fast", "bad")
    assert [window.answered_in for window in whole.by_window] == ["think", "fast"]
    certain = msgspec.structs.replace(said("unsafe", None), answered_in="think")
    assert verdict_of(*windows, certain).answered_in == "think"
