from __future__ import annotations

import pytest

from schemas.conduct import ActionWeights, Level
from tests.unit.workers.conduct.world import rule
from workers.conduct.score import Counted, counted, reached_in, score_at, start_of, weight_of
from workers.conduct.state import Kept


@pytest.mark.parametrize(
    ("action", "codes", "expected"),
    [
        ("block", (), 3.0),
        ("block", ("C1",), 6.0),
        ("block", ("c1",), 6.0),
        ("block", ("C2",), 1.5),
        ("block", ("C2", "C3"), 3.0),
        ("flag", ("C1", "C2"), 2.0),
        ("review", (), 0.5),
        ("allow", ("C1",), 0.0),
    ],
)
def test_a_weight_is_the_actions_times_the_largest_factor(
    action: str, codes: tuple[str, ...], expected: float
) -> None:
    weights = ActionWeights(block=3, flag=1, review=0.5)
    asked = rule(actions=weights, categories={"C1": 2.0, "C2": 0.5})
    assert weight_of(asked, action, "user", codes) == expected  # type: ignore[arg-type]


def test_messages_of_other_roles_have_no_weight() -> None:
    assert weight_of(rule(), "block", "assistant", ()) == 0.0
    assert weight_of(rule(roles=("assistant",)), "block", "assistant", ()) == 1.0


def test_a_decision_counts_half_after_each_half_life() -> None:
    asked = rule(half_life_s=600)
    kept = {
        "x": Kept(0, "house", "block", "user", "a", rules=("r",)),
        "y": Kept(600_000, "house", "block", "user", "a", rules=("r",)),
    }
    ordered = counted(asked, "r", kept)
    # By hand: at 600 s, 0.5 of the first and all of the second; at 1,200 s a quarter and a half.
    assert score_at(asked, ordered, 600_000).score == 1.5
    assert score_at(asked, ordered, 1_200_000).score == 0.75


def test_three_tenths_are_what_a_person_adds_up() -> None:
    asked = rule()
    ordered = [Counted(number, str(number), "a", 0.1) for number in range(3)]
    assert score_at(asked, ordered, 2).score == 0.3


def test_decisions_under_other_rules_do_not_count() -> None:
    kept = {"x": Kept(0, "house", "block", "user", "a", rules=("s",))}
    assert counted(rule(), "r", kept) == []


def test_each_level_has_the_first_time_that_reaches_it() -> None:
    asked = rule(levels=(Level(score=1, recommend="warn"), Level(score=3, recommend="mute")))
    ordered = [Counted(at, str(at), "a", weight) for at, weight in ((5, 1.0), (7, 1.0), (9, 1.0))]
    reached = reached_in(asked, ordered, 0)
    assert [(one.score, one.at_ms) for one in reached[:-1]] == [(1.0, 5), (3.0, 9)]
    assert reached_in(asked, [], 0)[-1].score == 0.0


def test_windows_begin_at_multiples_of_their_length() -> None:
    assert [start_of(rule(window_s=60), at) for at in (0, 59_999, 60_000)] == [0, 0, 60_000]
