import numpy as np
import pytest

from guard.training.grpo_settings import RewardWeights
from guard.training.rewards import Parts, Truth
from guard.training.rollouts import FAULTS, RewardFunction, count_groups, reward_figures
from guard.training.row_encoding import Asked, Way


def asked(way: Way = "think") -> Asked:
    truth = Truth(label="unsafe", codes=(), policy_codes=("C1",), turns=("t",), rules=())
    return Asked("a", way, np.zeros(1, dtype=np.int32), (), truth)


RIGHT = Parts(parsed=True, right=True)
WRONG = Parts(parsed=True, right=False)
BROKEN = Parts(parsed=False, right=False, fault="no_verdict")


def test_groups_that_agree_are_counted_by_what_they_are() -> None:
    rewards = [1.0, 1.0, 0.1, 0.1, 0.0, 0.1, 0.5, 0.5]
    right = [True, True, False, False, False, False, True, False]
    counts = count_groups(rewards, right, 2)
    assert counts.figures() == {"groups": 4, "flat_right": 1, "flat_wrong": 1, "flat_mixed": 1}
    assert counts.flat == 3


def test_rewards_are_given_in_order_and_with_their_figures() -> None:
    told: dict[str, float] = {}
    gathered: dict[str, list[bool]] = {}
    given = {1: RIGHT, 2: WRONG, 3: BROKEN}
    function = RewardFunction([asked(), asked("fast")], lambda _, ids: given[ids[0]], RewardWeights())
    rewards = function(
        prompts=["0", "0", "1"],
        completion_ids=[[1], [3], [2]],
        log_extra=gathered.__setitem__,
        log_metric=told.__setitem__,
        completions=["never", "looked", "at"],
        trainer_state=None,
    )
    assert rewards == pytest.approx([1.0, 0.0, 0.1])
    assert gathered == {"right": [True, False, False]}
    assert told["format"] == pytest.approx(2 / 3)
    assert (told["accuracy_think"], told["accuracy_fast"]) == (0.5, 0.0)
    assert told["fault_no_verdict"] == pytest.approx(1 / 3)
    assert "accuracy_safe" not in told


def test_every_fault_has_a_figure() -> None:
    figures = reward_figures([asked()], [BROKEN])
    assert {f"fault_{fault}" for fault in FAULTS} <= figures.keys()
    assert sum(figures[f"fault_{fault}"] for fault in FAULTS) == 1.0
