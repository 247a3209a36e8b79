"""What a recipe sets; `tiny` is the one that made the shipped checkpoint."""

from __future__ import annotations

from typing import Literal

import msgspec

Task = Literal[
    "repeats",
    "short_lookups",
    "lookups",
    "lookups_in_text",
    "long_lookups",
    "words",
    "words_small",
    "bare",
    "single",
    "full",
    "wide",
    "sharp",
]
"""What a batch holds: look-ups of random ids, look-ups of words in traces, or conversations."""


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shape of the model."""

    vocabulary: int = 2240
    width: int = 128
    layers: int = 4
    head_width: int = 32
    hidden: int = 336
    max_positions: int = 2048


class BatchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One batch: policies, and exchanges under each."""

    task: Task
    policies: int
    exchanges: int


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Steps of one kind."""

    steps: int
    batch: BatchSettings


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Phases under one optimiser and one learning-rate curve: warm-up, plateau, linear cool-down."""

    name: str
    seed: int
    phases: tuple[Phase, ...]
    drills: tuple[BatchSettings, ...] = ()
    """Taken in turn, one beside each batch, at `drill_weight`: without them look-up is forgotten."""
    drill_weight: float = 0.5
    fast_weight: float = 4.0
    """Of the fast verdict in the loss, beside 1 for a copied token."""
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    warm_up_steps: int = 60
    cool_down: float = 0.0
    """Fraction of the stage over which the rate falls to two hundredths."""

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides what comes out of a training run."""

    name: str
    template: str
    seed: int
    stages: tuple[Stage, ...]
    model: ModelSettings = ModelSettings()
    threads: int = 2
    evaluation_rows: int = 500
    evaluation_seed: int = 4242


def _batch(task: Task, policies: int, exchanges: int) -> BatchSettings:
    return BatchSettings(task=task, policies=policies, exchanges=exchanges)


def _phase(steps: int, task: Task, policies: int, exchanges: int) -> Phase:
    return Phase(steps=steps, batch=_batch(task, policies, exchanges))


_DRILLS = (_batch("long_lookups", 10, 20), _batch("words", 8, 20))

TINY = Recipe(
    name="tiny",
    template="rsafe-compact-1",
    seed=0,
    stages=(
        Stage(
            name="drills",
            seed=0,
            cool_down=0.15,
            phases=(
                _phase(170, "repeats", 32, 24),
                _phase(60, "short_lookups", 48, 24),
                _phase(100, "lookups_in_text", 40, 24),
                _phase(80, "long_lookups", 40, 24),
                _phase(170, "words_small", 40, 24),
            ),
        ),
        Stage(
            name="policies",
            seed=2,
            drills=_DRILLS,
            phases=(_phase(150, "single", 14, 8), _phase(150, "full", 12, 8)),
        ),
        Stage(
            name="sentences",
            seed=5,
            drills=_DRILLS[:1],
            phases=(_phase(120, "bare", 12, 20), _phase(60, "single", 14, 8)),
        ),
        Stage(
            name="polish",
            seed=3,
            drills=_DRILLS,
            muon_lr=0.016,
            adam_lr=2e-3,
            cool_down=0.7,
            phases=(_phase(1500, "full", 12, 8),),
        ),
        Stage(
            name="widen",
            seed=7,
            drills=_DRILLS,
            drill_weight=0.3,
            muon_lr=0.014,
            adam_lr=1.8e-3,
            cool_down=0.9,
            phases=(_phase(1900, "wide", 12, 8),),
        ),
        Stage(
            name="sharpen",
            seed=11,
            drills=_DRILLS,
            drill_weight=0.3,
            fast_weight=8.0,
            muon_lr=0.01,
            adam_lr=1.2e-3,
            cool_down=0.95,
            phases=(_phase(950, "sharp", 12, 8),),
        ),
    ),
)

SMOKE = msgspec.structs.replace(
    TINY,
    name="smoke",
    evaluation_rows=20,
    stages=tuple(
        msgspec.structs.replace(
            stage,
            phases=tuple(Phase(steps=3, batch=_batch(phase.batch.task, 4, 4)) for phase in stage.phases),
            drills=tuple(_batch(drill.task, 2, 4) for drill in stage.drills),
        )
        for stage in TINY.stages
    ),
)
"""Every stage for a few steps: shows that the commands work, not a guard."""

RECIPES = {recipe.name: recipe for recipe in (TINY, SMOKE)}
