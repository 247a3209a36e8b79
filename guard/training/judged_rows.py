"""Rows with their truth and what both modes said of them: what calibrations are fitted and measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np

from guard.scores import ThinkScore, mean_of_both
from guard.training.data.rows import LabelledRow
from guard.training.generator.conversations import Row
from guard.training.score_figures import Scores, Truths
from schemas.identifiers import Role

FittedMode = Literal["fast", "think"]
MODES: Final[tuple[FittedMode, ...]] = ("fast", "think")


class Said(Protocol):
    """What one mode said of a row."""

    @property
    def label(self) -> str | None:
        """None: no verdict."""
        ...

    @property
    def score(self) -> float | None: ...

    @property
    def completions(self) -> tuple[int, ...]:
        """Tokens of each call's completion; two calls where a rationale was closed by force."""
        ...


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A row, its truth, and what both modes said of it."""

    role: Role
    unsafe: bool
    fast: Said
    think: Said

    def score(self, mode: FittedMode, think_score: ThinkScore) -> float | None:
        """The raw score in a mode; None where there was no verdict, or none with a score."""
        if mode == "fast":
            return self.fast.score
        if think_score == "verdict":
            return self.think.score
        return mean_of_both(self.fast.score, self.think.score)


def judged_rows(
    sets: Mapping[str, Sequence[Row]], outcomes: Mapping[str, Mapping[str, Sequence[Said]]]
) -> list[JudgedRow]:
    """The rows of the sets; `outcomes`: mode → set → what was said of each row."""
    return [
        JudgedRow(row.exchange.turns[-1].role, row.exchange.label == "unsafe", fast, think)
        for name, rows in sets.items()
        for row, fast, think in zip(rows, outcomes["fast"][name], outcomes["think"][name], strict=True)
    ]


def judged_labelled(rows: Sequence[LabelledRow], outcomes: Mapping[str, Sequence[Said]]) -> list[JudgedRow]:
    """The rows, in their order; `outcomes`: mode → what was said of each."""
    return [
        JudgedRow(row.turns[-1].role, row.label == "unsafe", fast, think)
        for row, fast, think in zip(rows, outcomes["fast"], outcomes["think"], strict=True)
    ]


def scores_and_truths(
    rows: Sequence[JudgedRow], mode: FittedMode, think_score: ThinkScore
) -> tuple[Scores, Truths]:
    """Raw scores and truths of the rows that have a score, in their order."""
    pairs = [(row.score(mode, think_score), row.unsafe) for row in rows]
    scores = np.array([score for score, _ in pairs if score is not None], dtype=np.float64)
    truths = np.array([unsafe for score, unsafe in pairs if score is not None], dtype=np.bool_)
    return scores, truths


def right(rows: Sequence[JudgedRow], said: Callable[[JudgedRow], Said]) -> Truths:
    """Whether the label is right; no verdict is wrong."""
    return np.array([said(row).label == ("unsafe" if row.unsafe else "safe") for row in rows], dtype=np.bool_)
