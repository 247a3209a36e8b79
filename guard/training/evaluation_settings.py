"""What an evaluation measures beside the generator's sets, and RSafe's ablations as switches."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

MeasuredMode = Literal["think", "fast"]
MODES: Final[tuple[MeasuredMode, ...]] = ("think", "fast")
Ablation = Literal["", "without reasoning", "without reinforcement"]
"""RSafe's ablations. `without reasoning` asks in `fast` alone; `without reinforcement` names that the weights
are those of the warm start: the caller gives their folder as the checkpoint."""


class EvaluationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How labelled rows of real sources are measured; the defaults measure all of them in both modes."""

    modes: Annotated[tuple[MeasuredMode, ...], Meta(min_length=1, max_length=2)] = MODES
    """Modes to measure; a calibration is fitted only when both are."""
    ablation: Ablation = ""
    """Which ablation this is; a report says so, and none is packaged as a guard to serve."""
    most_rows_per_source: Annotated[int, Meta(ge=0)] = 0
    """Rows of a real source that are judged, chosen by a hash of their ids; 0: all."""
    look_alikes: tuple[str, ...] = (
        "coconot_prompts",
        "coconot_responses",
        "cyber_false_refusal",
        "dolly_sensitive",
        "jbb_behaviors",
    )
    """Sources whose safe rows resemble unsafe ones: the suite `over_refusal/real`."""
    least_rows_of_language: Annotated[int, Meta(ge=1)] = 50
    """A language with fewer rows has no suite of its own."""
    least_rows_of_category: Annotated[int, Meta(ge=1)] = 50
    """A category that fewer rows violate has no suite of its own."""
    calibrate_on: Literal["labelled", "generator"] = "labelled"
    """What the calibration is fitted on. `labelled`: half of the rows of real sources, by their groups, where
    there are any; else, and with `generator`, rows of the generator."""
    draws: Annotated[int, Meta(ge=100, le=100_000)] = 1000
    """Bootstrap draws of an interval."""

    def __post_init__(self) -> None:
        if len(set(self.modes)) != len(self.modes):
            raise ValueError("modes: expected each mode once")
        if self.ablation == "without reasoning" and self.modes != ("fast",):
            raise ValueError('modes: expected ["fast"] alone with ablation "without reasoning"')

    @property
    def calibrates(self) -> bool:
        """Whether a calibration is fitted: of a guard that may serve, in both modes."""
        return not self.ablation and len(self.modes) == 2
