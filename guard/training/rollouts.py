"""What is made of drawn answers: their rewards, and what a step says of them in figures.

Groups whose answers all have one reward teach nothing: the advantage of each is 0. They are counted, apart
for those that are all right (too easy) and all wrong (too hard, or not in form).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from guard.answer import Reason
from guard.training.grpo_settings import RewardWeights
from guard.training.rewards import Parts
from guard.training.row_encoding import Asked

DRAWN: Final = "right"
"""Under this name TRL gathers, for each drawn answer, whether it is right."""
FAULTS: Final[tuple[str, ...]] = get_args(Reason)
# Rewards are float32 by then.
_SAME_REWARD: Final = 1e-6


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """Of the groups of one drawing: all, and those that are flat, by what their answers are."""

    groups: int
    flat_right: int
    flat_wrong: int
    flat_mixed: int
    """One reward for right and wrong answers: only weights that say so can bring this about."""

    @property
    def flat(self) -> int:
        return self.flat_right + self.flat_wrong + self.flat_mixed

    def figures(self) -> dict[str, int]:
        """The counts by the names that they have in `progress.jsonl`."""
        return {
            "groups": self.groups,
            "flat_right": self.flat_right,
            "flat_wrong": self.flat_wrong,
            "flat_mixed": self.flat_mixed,
        }


def count_groups(rewards: Sequence[float], right: Sequence[bool], group: int) -> GroupCounts:
    """Counts of consecutive groups of `group` answers; both sequences have one entry an answer."""
    flat_right = flat_wrong = flat_mixed = 0
    for start in range(0, len(rewards), group):
        drawn = rewards[start : start + group]
        if max(drawn) - min(drawn) > _SAME_REWARD:
            continue
        truths = right[start : start + group]
        flat_right += all(truths)
        flat_wrong += not any(truths)
        flat_mixed += any(truths) and not all(truths)
    return GroupCounts(len(rewards) // group, flat_right, flat_wrong, flat_mixed)


class RewardFunction:
    """The reward as TRL calls it: by the ids of the completions, whatever TRL made of them as text."""

    __name__ = "reward"

    def __init__(
        self,
        asked: Sequence[Asked],
        judge: Callable[[Asked, Sequence[int]], Parts],
        weights: RewardWeights,
    ) -> None:
        self._asked, self._judge, self._weights = asked, judge, weights

    def __call__(
        self,
        prompts: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        log_extra: Callable[[str, list[Any]], None],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        """One reward a completion, in order. `prompts` are numbers of rows."""
        rows = [self._asked[int(prompt)] for prompt in prompts]
        parts = [self._judge(row, ids) for row, ids in zip(rows, completion_ids, strict=True)]
        log_extra(DRAWN, [one.right for one in parts])
        for name, value in reward_figures(rows, parts).items():
            log_metric(name, value)
        return [one.reward(self._weights) for one in parts]


def reward_figures(rows: Sequence[Asked], parts: Sequence[Parts]) -> dict[str, float]:
    """Means over the drawn answers, each from 0 to 1: the parts, accuracy by way, and shares of the faults.

    A mean over nothing is left out.
    """
    figures = {
        "format": _mean(one.parsed for one in parts),
        "accuracy": _mean(one.right for one in parts),
        "category": _mean(one.category for one in parts),
        "brevity": _mean(one.brevity for one in parts),
        "evidence": _mean(one.evidence for one in parts),
    }
    for way in ("think", "fast"):
        figures[f"accuracy_{way}"] = _mean(p.right for r, p in zip(rows, parts, strict=True) if r.way == way)
    for label in ("safe", "unsafe"):
        of_label = (p.right for r, p in zip(rows, parts, strict=True) if r.truth.label == label)
        figures[f"accuracy_{label}"] = _mean(of_label)
    for fault in FAULTS:
        figures[f"fault_{fault}"] = _mean(one.fault == fault for one in parts)
    return {name: value for name, value in figures.items() if value is not None}


def _mean(values: Iterable[float]) -> float | None:
    found = [float(value) for value in values]
    return sum(found) / len(found) if found else None
