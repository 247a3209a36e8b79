import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.training.grpo_settings import RewardWeights
from guard.training.rewards import Parts, Truth, category_agreement, judge_completion, quoted_share

UNSAFE = Truth(
    label="unsafe",
    codes=("C2",),
    policy_codes=("C1", "C2"),
    turns=("The casino opens at nine",),
    rules=("games of chance",),
)
SAFE = Truth(label="safe", codes=(), policy_codes=("C1", "C2"), turns=("hello there",), rules=())
PAPER = RewardWeights()
ALL = RewardWeights(category=0.2, brevity=0.1, evidence=0.3)


def reward(text: str, truth: Truth = UNSAFE, weights: RewardWeights = PAPER) -> float:
    return judge_completion(text, 10, truth, limit=100).reward(weights)


def test_the_papers_reward_is_1_for_right_a_tenth_for_form_and_0_without_form() -> None:
    assert reward(r"why</think>\boxed{unsafe} C2") == pytest.approx(1.0)
    assert reward(r"why</think>\boxed{unsafe}") == pytest.approx(1.0)
    assert reward(r"why</think>\boxed{safe}") == pytest.approx(0.1)
    assert reward(r"\boxed{unsafe} C2") == 0.0
    assert reward(r"why</think>\boxed{safe}", SAFE) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        (r"why \boxed{unsafe}", "no_think_close"),
        (r"</think></think>\boxed{unsafe}", "several_think_closes"),
        (r"</think>\boxed{unsafe} \boxed{safe}", "several_verdicts"),
        (r"</think>\boxed{unsafe} C9", "unknown_category"),
        (r"</think>\boxed{safe} C1", "codes_on_safe"),
        (r"</think>\boxed{unsafe} and more words", "trailing_text"),
        (r"</think>unsafe", "no_verdict"),
    ],
)
def test_what_serving_cannot_read_is_worth_nothing_and_says_why(text: str, fault: str) -> None:
    parts = judge_completion(text, 1, UNSAFE, limit=100)
    assert (parts.reward(ALL), parts.fault) == (0.0, fault)


def test_optional_parts_count_only_where_the_label_is_right() -> None:
    quoting = r'it says "the casino opens"</think>\boxed{unsafe} C2'
    assert reward(quoting, weights=ALL) == pytest.approx(1.0 + 0.2 + 0.1 * 0.9 + 0.3)
    wrong = r'it says "hello there"</think>\boxed{unsafe} C2'
    assert reward(wrong, SAFE, ALL) == pytest.approx(0.1)


def test_shorter_is_worth_more_and_over_the_limit_nothing_less_than_0() -> None:
    text = r"</think>\boxed{unsafe}"
    brevity = [judge_completion(text, tokens, UNSAFE, limit=100).brevity for tokens in (1, 50, 100, 500)]
    assert brevity == pytest.approx([0.99, 0.5, 0.0, 0.0])


def test_named_categories_are_compared_without_case_and_unknown_ones_give_nothing() -> None:
    assert category_agreement(("c2",), ("C2",)) == 1.0
    assert category_agreement(("C1",), ("C2",)) == 0.0
    assert category_agreement((), ("C2",)) == 0.0
    assert category_agreement(("C1",), ()) == 0.0


def test_a_quotation_of_the_rules_alone_is_no_evidence() -> None:
    turns, rules = UNSAFE.turns, UNSAFE.rules
    assert quoted_share('"games of chance"', turns, rules) == 0.0
    assert quoted_share('"games of chance" fits “the  CASINO”', turns, rules) == 1.0
    assert quoted_share('"the casino" and "a bank robbery"', turns, rules) == 0.5
    assert quoted_share('"at" and the casino', turns, rules) == 0.0


@given(st.text(), st.integers(0, 600), st.sampled_from([UNSAFE, SAFE]))
def test_every_completion_has_a_reward_within_the_weights(text: str, tokens: int, truth: Truth) -> None:
    parts = judge_completion(text + r"</think>\boxed{unsafe}", tokens, truth, limit=512)
    value = parts.reward(ALL)
    assert math.isfinite(value) and 0.0 <= value <= 1.6
    assert parts.parsed == (parts.fault is None)


@given(st.text(alphabet=st.sampled_from('ab "“”«»`\n'), max_size=60))
def test_the_share_of_quotations_is_a_share(rationale: str) -> None:
    assert 0.0 <= quoted_share(rationale, ("aa bb ab aaaa",), ("bbbb",)) <= 1.0


def test_a_wrong_label_has_no_parts() -> None:
    assert Parts(parsed=True, right=False, category=1.0, evidence=1.0).reward(ALL) == pytest.approx(0.1)
