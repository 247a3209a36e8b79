from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.calibration import Curve, Scales
from guard.serving.category_scores import category_scores
from guard.serving.worst import worst
from schemas.decision import CategoryDecision, Decision
from schemas.identifiers import Action, Mode, Role
from schemas.policy import Band, Category
from schemas.verdict import Unjudged, Verdict, WindowVerdict
from tests.unit.workers.moderation.builders import (
    GUARD,
    make_asked,
    make_chosen,
    make_curve,
    make_event,
    make_record,
    make_scales,
    make_verdict,
)
from workers.moderation.choose_policy import RAW
from workers.moderation.make_decision import (
    OUTSIDE_SURFACES,
    answer_of,
    apply_policy,
    make_decision,
    read_score,
    weigh,
)
from workers.moderation.outcome import (
    Answer,
    Asked,
    ChosenPolicy,
    Judged,
    Judgement,
    NotApplicable,
    NotJudged,
    Source,
    Took,
)
from workers.ports import CachedVerdict

TOOK = Took(1.0, 2.0, 3.0)


def decide(asked: Asked, answer: Answer) -> Decision:
    return make_decision(asked, weigh(answer, asked.chosen, asked.event.message.role), Source(), TOOK)


def applied(verdict: Verdict, chosen: ChosenPolicy) -> tuple[Action, tuple[CategoryDecision, ...]]:
    """The verdict on a user's message under the policy."""
    yardstick = chosen.yardsticks["user"]
    return apply_policy(verdict, read_score(verdict.score, yardstick)[0], chosen, yardstick)


@pytest.mark.parametrize(
    ("verdict", "action", "violated"),
    [
        ({"label": "safe", "score": 0.1}, "allow", {}),
        # No category named: the policy's threshold, and the strictest action.
        ({"label": "unsafe", "score": 0.9}, "block", {}),
        ({"label": "safe", "score": 0.5}, "block", {}),
        ({"label": "unsafe", "score": 0.49}, "allow", {}),
        # A named category decides with its own threshold and action.
        ({"label": "unsafe", "score": 0.6, "codes": ("C1",)}, "flag", {"C1": True}),
        ({"label": "unsafe", "score": 0.6, "codes": ("c2",)}, "allow", {"C2": False}),
        ({"label": "unsafe", "score": 0.8, "codes": ("C2",)}, "block", {"C2": True}),
        (
            {"label": "unsafe", "score": 0.6, "codes": ("C2", "C3", "C1")},
            "review",
            {"C1": True, "C2": False, "C3": True},
        ),
        # Its own score goes before the overall one.
        (
            {"label": "unsafe", "score": 0.9, "codes": ("C1",), "category_scores": {"C1": 0.2}},
            "allow",
            {"C1": False},
        ),
        (
            {"label": "unsafe", "score": 0.9, "codes": ("C2",), "category_scores": {"C2": 0.9, "C3": 0.6}},
            "block",
            {"C2": True, "C3": True},
        ),
        # A category is never surer than the message.
        ({"label": "safe", "score": 0.1, "category_scores": {"C3": 0.7}}, "allow", {"C3": False}),
        # Without scores the label decides.
        ({"label": "unsafe", "score": None}, "block", {}),
        ({"label": "safe", "score": None}, "allow", {}),
        ({"label": "unsafe", "score": None, "codes": ("C3",)}, "review", {"C3": True}),
    ],
)
def test_score_and_threshold_decide(verdict: dict[str, Any], action: str, violated: dict[str, bool]) -> None:
    found, categories = applied(make_verdict(**verdict), make_chosen())
    assert found == action
    assert {category.code: category.violated for category in categories} == violated


def test_a_threshold_of_nought_does_not_make_a_safe_label_without_score_a_violation() -> None:
    assert applied(make_verdict(score=None), make_chosen(threshold=0.0))[0] == "allow"


@given(
    st.sampled_from(["safe", "unsafe"]),
    st.none() | st.floats(0, 1),
    st.lists(st.sampled_from(["C1", "C2", "C3"]), unique=True),
    st.floats(0, 1),
)
def test_a_higher_score_never_gives_a_milder_action(
    label: Any, score: float | None, codes: list[str], more: float
) -> None:
    chosen = make_chosen()
    order = ["allow", "flag", "review", "block"]
    low = applied(make_verdict(label=label, score=score, codes=tuple(codes)), chosen)[0]
    if score is not None:
        high = applied(make_verdict(label=label, score=max(score, more), codes=tuple(codes)), chosen)[0]
        assert order.index(high) >= order.index(low)


@pytest.mark.parametrize("on_unjudged", ["review", "allow", "block"])
@pytest.mark.parametrize("reason", ["unparseable", "late", "timed_out", "prompt_too_long", "engine_failed"])
def test_what_could_not_be_judged_gets_what_the_policy_says(on_unjudged: Any, reason: Any) -> None:
    chosen = make_chosen(on_unjudged=on_unjudged)
    decision = decide(make_asked(chosen=chosen), NotJudged(Unjudged(reason=reason, detail="d"), GUARD))
    assert (decision.status, decision.action, decision.reason, decision.detail) == (
        "unjudged",
        on_unjudged,
        reason,
        "d",
    )
    assert decision.label is None
    assert decision.score is None


@pytest.mark.parametrize("on_unavailable", ["review", "allow", "block"])
def test_a_guard_that_is_down_has_a_word_of_its_own(on_unavailable: Any) -> None:
    chosen = make_chosen(on_unjudged="allow", on_unavailable=on_unavailable)
    decision = decide(make_asked(chosen=chosen), NotJudged(Unjudged(reason="unavailable")))
    assert (decision.action, decision.reason, decision.guard) == (on_unavailable, "unavailable", None)


def test_outside_the_surfaces_nothing_is_judged() -> None:
    decision = decide(make_asked(), NotApplicable())
    assert (decision.status, decision.action, decision.reason) == (
        "not_applicable",
        "allow",
        OUTSIDE_SURFACES,
    )


def test_a_judged_decision_carries_everything_and_no_text() -> None:
    verdict = make_verdict(label="unsafe", score=0.87654321, codes=("C1",))
    asked = make_asked(make_event(revision=3, language="de"))
    decision = decide(asked, Judged(verdict, GUARD, "because"))
    assert decision.score == 0.876543
    assert (decision.rationale, decision.threshold, decision.score_kind) == ("because", 0.5, "raw")
    assert (decision.message_revision, decision.language) == (3, "de")
    assert (decision.timings.lag_ms, decision.timings.total_ms) == (500.0, 3.0)
    wire = msgspec.json.encode(decision)
    assert b"hello" not in wire
    assert msgspec.json.decode(wire, type=Decision) == decision


@given(st.integers(0, 253_402_214_400_000))
def test_any_timestamp_of_the_broker_can_be_written(timestamp_ms: int) -> None:
    decision = decide(make_asked(record=make_record(timestamp_ms=timestamp_ms)), NotApplicable())
    assert (
        msgspec.json.decode(msgspec.json.encode(decision), type=Decision).received_at == decision.received_at
    )


def test_a_judgement_without_a_verdict_costs_who_asked_first_as_well() -> None:
    steps = make_verdict().steps
    judgement = Judgement("first", Unjudged(reason="unparseable", steps=steps), 1.0, 0.5)
    (_, paid), (_, free) = (answer_of(judgement, GUARD, shared=shared) for shared in (False, True))
    assert (paid.tokens.prompt, paid.steps) == (10, steps)
    assert (free.tokens.prompt, free.steps) == (0, ())


def test_who_asked_first_bears_the_tokens_and_the_others_say_whose_verdict_it_is() -> None:
    kept = CachedVerdict(make_verdict(), "first", 0, "masked", "m", "c", True, "1")
    judgement = Judgement("first", kept, 1.0, 0.5)
    (own, paid), (shared, free) = (answer_of(judgement, GUARD, shared=shared) for shared in (False, True))
    assert own == shared == Judged(kept.verdict, GUARD, kept.verdict.rationale)
    assert (paid.cache.hit, paid.tokens.prompt, paid.tokens.completion) == (False, 10, 5)
    assert (free.cache.hit, free.cache.origin_decision, free.tokens.prompt) == (True, "first", 0)
    assert (paid.steps, free.steps) == (kept.verdict.steps, ())


def test_categories_of_equal_severity_do_not_hide_each_other() -> None:
    categories = (
        Category(code="A", title="a", definition="a", action="review"),
        Category(code="B", title="b", definition="b", action="review", threshold=0.1),
    )
    action, found = applied(make_verdict(score=0.2, codes=("A", "B")), make_chosen(categories=categories))
    assert action == "review"
    assert [category.violated for category in found] == [False, True]


ORDER = ["allow", "flag", "review", "block"]
WINDOWS = st.lists(
    st.builds(
        make_verdict,
        label=st.sampled_from(["safe", "unsafe"]),
        score=st.none() | st.floats(0, 1),
        codes=st.lists(st.sampled_from(["C1", "C2", "C3"]), unique=True).map(tuple),
    ),
    min_size=2,
    max_size=4,
)


@given(WINDOWS, st.floats(0, 1), st.booleans(), st.sampled_from(["review", "allow", "block"]))
def test_a_message_in_windows_gets_the_most_severe_action_of_its_windows(
    windows: list[Verdict], threshold: float, unjudged: bool, on_unjudged: Any
) -> None:
    chosen = make_chosen(threshold=threshold, on_unjudged=on_unjudged)
    whole = worst([*windows, *([Unjudged(reason="timed_out")] if unjudged else [])], chosen.policy)
    if isinstance(whole, Unjudged):
        return
    alone = [applied(window, chosen) for window in windows]
    action, categories = applied(whole, chosen)
    actions = [one for one, _ in alone] + ([on_unjudged] if unjudged else [])
    assert action == max(actions, key=ORDER.index)
    violated = {found.code for _, named in alone for found in named if found.violated}
    assert {found.code for found in categories if found.violated} == violated
    assert tuple(found.code for found in categories) == whole.codes


def test_a_mild_window_does_not_hide_one_that_names_nothing() -> None:
    mild = WindowVerdict(label="unsafe", score=0.9, codes=("C1",))
    severe = WindowVerdict(label="unsafe", score=0.9)
    verdict = make_verdict(label="unsafe", score=0.9, codes=("C1",), windows=2, by_window=(mild, severe))
    assert applied(verdict, make_chosen())[0] == "block"


def test_of_several_windows_a_category_shows_its_highest_score() -> None:
    windows = tuple(
        WindowVerdict(label="unsafe", score=score, codes=("C1",), category_scores=scores)
        for score, scores in (
            (0.7, {"C1": 0.7, "C3": 0.2}),
            (0.9, {"C1": 0.9, "C3": 0.6}),
            (0.8, {"C1": 0.8}),
        )
    )
    verdict = make_verdict(label="unsafe", score=0.9, codes=("C1",), windows=3, by_window=windows)
    action, categories = applied(verdict, make_chosen())
    assert action == "review"
    assert [(one.code, one.score, one.violated) for one in categories] == [
        ("C1", 0.9, True),
        ("C3", 0.6, True),
    ]


def test_a_decision_says_how_the_conversation_was_cut() -> None:
    one = WindowVerdict(label="unsafe", score=0.9, codes=("C1",))
    verdict = make_verdict(
        label="unsafe", score=0.9, codes=("C1",), windows=3, by_window=(one, one), turns_left_out=4
    )
    asked = make_asked()
    coverage = decide(asked, Judged(verdict, GUARD, "")).coverage
    assert (coverage.windows, coverage.windows_unjudged, coverage.turns_left_out) == (3, 1, 4)
    assert coverage.context_digest == asked.context_digest
    unjudged = Unjudged(reason="unparseable", windows=3, turns_left_out=4)
    coverage = decide(asked, NotJudged(unjudged, GUARD)).coverage
    assert (coverage.windows, coverage.windows_unjudged, coverage.turns_left_out) == (3, 0, 4)
    for answer in (Judged(make_verdict(), GUARD, ""), NotJudged(Unjudged(reason="late")), NotApplicable()):
        coverage = decide(asked, answer).coverage
        assert (coverage.windows, coverage.windows_unjudged, coverage.turns_left_out) == (1, 0, 0)


CALIBRATED = make_scales()


def decided(verdict: Verdict, chosen: ChosenPolicy, role: Any = "user") -> Decision:
    return decide(make_asked(make_event(role=role), chosen), Judged(verdict, GUARD, ""))


def test_with_a_calibration_the_score_is_calibrated_and_the_raw_one_stands_beside_it() -> None:
    decision = decided(make_verdict(label="unsafe", score=0.75), make_chosen(scales=CALIBRATED))
    assert (decision.score, decision.score_kind, decision.raw_score) == (0.6, "calibrated", 0.75)


def test_without_a_calibration_the_score_is_raw_and_stands_once() -> None:
    decision = decided(make_verdict(label="unsafe", score=0.75), make_chosen())
    assert (decision.score, decision.score_kind, decision.raw_score) == (0.75, "raw", None)


def test_a_verdict_without_a_score_has_no_kind() -> None:
    decision = decided(make_verdict(label="unsafe", score=None), make_chosen(scales=CALIBRATED))
    assert (decision.score, decision.score_kind, decision.raw_score) == (None, None, None)
    assert decision.action == "block"


def test_thresholds_are_compared_with_the_score_that_the_decision_shows() -> None:
    chosen = make_chosen(scales=CALIBRATED, threshold=0.61)
    assert decided(make_verdict(label="unsafe", score=0.75), chosen).action == "allow"  # 0.6, raw 0.75
    assert decided(make_verdict(label="safe", score=0.76), chosen).action == "block"  # 0.612


def test_each_role_is_read_by_its_own_curve() -> None:
    mild = make_curve(calibrated=(0.0, 0.01, 0.02))
    curves: dict[tuple[Mode, Role], Curve] = {("think", "user"): make_curve(), ("think", "assistant"): mild}
    chosen = make_chosen(scales=Scales(why_raw="", digest="d" * 64, curves=curves))
    verdict = make_verdict(label="unsafe", score=0.75)
    assert decided(verdict, chosen, "user").score == 0.6
    assert decided(verdict, chosen, "assistant").score == 0.015


def test_a_rate_is_shown_as_the_score_that_it_demands() -> None:
    chosen = make_chosen(scales=CALIBRATED, threshold=None, max_false_positive_rate=0.01)
    decision = decided(make_verdict(label="unsafe", score=0.9), chosen)
    assert (decision.threshold, decision.score, decision.action) == (0.78, 0.78, "block")
    assert decided(make_verdict(label="unsafe", score=0.89), chosen).action == "allow"


RATED = Category(code="R", title="r", definition="r", action="review", max_false_positive_rate=0.1)


def test_a_category_has_its_own_rate() -> None:
    chosen = make_chosen(scales=CALIBRATED, categories=(RATED,), threshold=0.9)
    decision = decided(make_verdict(label="unsafe", score=0.6, codes=("R",)), chosen)
    (category,) = decision.categories
    assert (category.threshold, category.violated, decision.action) == (0.42, True, "review")


def test_a_categorys_own_score_is_a_part_of_the_calibrated_one_and_its_rate_is_one_of_that() -> None:
    chosen = make_chosen(
        scales=CALIBRATED,
        categories=(RATED, Category(code="T", title="t", definition="t", threshold=0.5)),
    )
    verdict = make_verdict(label="unsafe", score=0.75, category_scores={"R": 0.5, "T": 0.75})
    decision = decided(verdict, chosen)
    rated, plain = decision.categories
    assert (rated.score, rated.score_kind) == (0.4, "raw")  # two thirds of 0.6, raw 0.75
    assert (rated.threshold, rated.violated) == (0.42, False)
    assert (plain.score, plain.score_kind, plain.violated) == (decision.score, "calibrated", True)


@given(
    st.none() | st.floats(0, 1),
    st.lists(st.sampled_from(["C1", "C2", "C3"]), unique=True),
    st.floats(0, 1),
    st.booleans(),
)
def test_whoever_reads_a_decision_can_work_out_what_was_violated(
    score: float | None, codes: list[str], threshold: float, calibrated: bool
) -> None:
    chosen = make_chosen(scales=CALIBRATED if calibrated else RAW, threshold=threshold)
    decision = decided(make_verdict(label="unsafe", score=score, codes=tuple(codes)), chosen)
    shown = 1.0 if decision.score is None else decision.score
    assert all(category.violated == (shown >= category.threshold) for category in decision.categories)
    assert decision.threshold is not None
    if not codes:
        assert (decision.action == "block") == (shown >= decision.threshold)


def adaptive(scales: Scales = CALIBRATED, **changes: Any) -> ChosenPolicy:
    return make_chosen(scales=scales, mode="adaptive", uncertain_band=Band(low=0.2, high=0.8), **changes)


# The fast curve is lower: the same raw score is worth less.
LOWER = make_curve(calibrated=(0.0, 0.1, 0.5))
BOTH_WAYS: dict[tuple[Mode, Role], Curve] = {
    ("think", "user"): make_curve(),
    ("fast", "user"): LOWER,
    ("think", "assistant"): make_curve(),
    ("fast", "assistant"): LOWER,
}
TWO_CURVES = Scales(why_raw="", digest="d" * 64, curves=BOTH_WAYS)


@pytest.mark.parametrize("mode", ["fast", "think"])
def test_every_judged_decision_says_which_way_it_went(mode: Any) -> None:
    chosen = make_chosen(mode=mode)
    assert decided(make_verdict(mode=mode, answered_in=mode), chosen).answered_in == mode
    assert decided(make_verdict(mode=mode), chosen).answered_in == mode  # kept before there was the field
    assert decide(make_asked(), NotJudged(Unjudged(reason="late"))).answered_in is None


@pytest.mark.parametrize(("way", "score", "action"), [("fast", 0.3, "allow"), ("think", 0.6, "block")])
def test_a_score_is_read_by_the_curve_of_the_way_it_went(way: Any, score: float, action: str) -> None:
    verdict = make_verdict(label="unsafe", score=0.75, mode="adaptive", answered_in=way)
    decision = decided(verdict, adaptive(TWO_CURVES))
    assert (decision.answered_in, decision.score, decision.raw_score) == (way, score, 0.75)
    assert (decision.score_kind, decision.action) == ("calibrated", action)


def test_the_kind_of_a_score_is_that_of_the_way_it_went() -> None:
    chosen = adaptive(make_scales(modes=["think"]))
    kinds = {
        way: decided(make_verdict(score=0.75, mode="adaptive", answered_in=way), chosen).score_kind
        for way in ("fast", "think")
    }
    assert kinds == {"fast": "raw", "think": "calibrated"}


def test_the_threshold_of_a_rate_is_that_of_the_way_it_went() -> None:
    chosen = adaptive(TWO_CURVES, threshold=None, max_false_positive_rate=0.02)
    shown = {
        way: decided(make_verdict(score=0.91, mode="adaptive", answered_in=way), chosen)
        for way in ("fast", "think")
    }
    # Rounded up, as every rate's.
    assert (shown["fast"].threshold, shown["think"].threshold) == (0.420001, 0.78)
    assert all(decision.action == "block" for decision in shown.values())


def test_windows_that_went_different_ways_are_each_read_by_their_own_curve() -> None:
    windows = [
        make_verdict(label="unsafe", score=0.8, mode="adaptive", answered_in="fast", rationale=""),
        make_verdict(label="safe", score=0.6, mode="adaptive", answered_in="think"),
    ]
    chosen = adaptive(TWO_CURVES, threshold=0.35)
    whole = worst(windows, chosen.policy)
    assert isinstance(whole, Verdict)
    assert (whole.score, whole.answered_in) == (0.8, "fast")
    # 0.8 raw is 0.34 by the fast curve, 0.6 raw is 0.42 by the other.
    decision = decided(whole, chosen)
    assert (decision.score, decision.raw_score, decision.answered_in) == (0.42, 0.6, "think")
    assert decision.action == "block"
    assert decided(whole, adaptive(TWO_CURVES, threshold=0.43)).action == "allow"


WAYS: st.SearchStrategy[Any] = st.sampled_from(["fast", "think"])


@given(st.lists(st.tuples(st.floats(0, 1), WAYS), min_size=2, max_size=4), st.floats(0, 1))
def test_the_score_of_windows_is_the_highest_as_shown_and_decides(
    windows: list[tuple[float, Any]], threshold: float
) -> None:
    chosen = adaptive(TWO_CURVES, threshold=threshold)
    verdicts = [make_verdict(score=score, mode="adaptive", answered_in=way) for score, way in windows]
    whole = worst(verdicts, chosen.policy)
    assert isinstance(whole, Verdict)
    decision = decided(whole, chosen)
    alone = [decided(verdict, chosen) for verdict in verdicts]
    assert decision.score == max(one.score or 0.0 for one in alone)
    assert decision.action == max((one.action for one in alone), key=ORDER.index)
    assert decision.threshold == threshold
    assert decision.score is not None
    assert (decision.action == "block") == (decision.score >= threshold)


@given(
    st.floats(0.01, 1),
    st.dictionaries(st.sampled_from(["C1", "C2", "C3"]), st.floats(0, 1), min_size=1),
    st.floats(0, 1),
    st.booleans(),
)
def test_scores_of_categories_never_let_pass_what_the_overall_score_does_not(
    score: float, weights: dict[str, float], threshold: float, calibrated: bool
) -> None:
    categories = tuple(Category(code=code, title=code, definition=code) for code in ("C1", "C2", "C3"))
    chosen = make_chosen(scales=CALIBRATED if calibrated else RAW, threshold=threshold, categories=categories)
    scores = category_scores(score, weights, ())
    decision = decided(make_verdict(label="unsafe", score=score, category_scores=scores), chosen)
    assert decision.score is not None
    assert (decision.action == "block") == (decision.score >= threshold)
    for category in decision.categories:
        assert category.score is not None
        assert category.score <= decision.score
        assert category.violated == (category.score >= category.threshold)
        assert category.score_kind in ("raw", decision.score_kind)
