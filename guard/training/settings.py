"""What a recipe sets: everything that decides what comes out of a training run. Read by `recipe.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from schemas.identifiers import FieldError

SCRATCH: Final = "scratch"
"""The base of a recipe that begins with random weights."""

ABLATIONS: Final = {"reasoning": "without reasoning", "reinforcement": "without reinforcement"}
"""What an evaluation may go without → what its report calls that."""

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
    "crossed",
    "rows",
]
"""What a batch holds: look-ups of random ids, look-ups of words in traces, conversations of the generator, or
labelled rows of the section `data`."""
ROWS_TASK: Final = "rows"

Positive = Annotated[int, Meta(ge=1)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Weight = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Precision = Literal["float32", "bfloat16"]
# Names of recipes and of their stages become names of files, and a recipe's that of its checkpoint.
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}(?![\s\S])")]
Section = dict[str, Any]
"""Settings of a step that another module reads; `recipe.py` checks them against that module's struct."""


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shape of a model that is made from nothing."""

    vocabulary: Annotated[int, Meta(ge=300)] = 2240
    """Entries of the tokenizer; its bytes and marks take some 260."""
    width: Positive = 128
    layers: Positive = 4
    head_width: Annotated[int, Meta(ge=2, multiple_of=2)] = 32
    hidden: Positive = 336
    max_positions: Annotated[int, Meta(ge=64)] = 2048
    """Tokens of prompt and answer together."""
    tokenizer: Literal["generator", "rows"] = "generator"
    """Whose words the tokenizer knows: the generator's, or those of the labelled rows to train on."""

    def __post_init__(self) -> None:
        if self.width % self.head_width:
            raise FieldError(f"Expected a multiple of head_width, {self.head_width}", "width")


class BatchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One batch: policies, and exchanges under each. Of labelled rows both are limits: where few rows have a
    policy, or rows are long, a batch has fewer."""

    task: Task
    policies: Positive
    exchanges: Positive
    prose: Share = 0.0
    """Of the generator's policies: the share of definitions that are sentences instead of lists."""
    source_power: Share = 0.5
    """Of labelled rows: a source counts by its number of rows to this power. 1: every row alike; 0: every
    source alike."""
    label_power: Share = 0.5
    """Of labelled rows: likewise the two labels within a source; twins always count alike."""


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Steps of one kind."""

    steps: Positive
    batch: BatchSettings


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Phases under one optimiser and one learning-rate curve: warm-up, plateau, linear cool-down."""

    name: Name
    seed: Seed
    phases: Annotated[tuple[Phase, ...], Meta(min_length=1)]
    drills: tuple[BatchSettings, ...] = ()
    """Taken in turn beside the batches, at `drill_weight`: without them look-up is forgotten."""
    drill_weight: Weight = 0.5
    drill_every: Positive = 1
    """Steps from one drill to the next."""
    fast_weight: Weight = 4.0
    """Of the fast verdict in the loss, beside 1 for a copied token."""
    muon_lr: Rate = 0.02
    adam_lr: Rate = 3e-3
    warm_up_steps: Positive = 60
    cool_down: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Fraction of the stage over which the rate falls to two hundredths."""

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides what comes out of a training run.

    From scratch, `model` and `stages` say how the warm start goes; over a base, `warm_start` does, and
    without it the base is taken as it is. Without `grpo` or `gate` there is no such step.
    """

    name: Name
    template: str
    """A prompt template, built in or a file: the words that serving will use."""
    seed: Seed
    stages: tuple[Stage, ...] = ()
    """Of the warm start from scratch, in turn."""
    model: ModelSettings = ModelSettings()
    threads: Positive = 2
    """CPU threads; sums differ with their number."""
    precision: Precision = "float32"
    """In which a model from scratch multiplies by its matrices; all else, and the weights, are float32.
    bfloat16 takes three quarters of the time on CPUs that have it (AVX512-BF16 or AMX), longer on others."""
    evaluation_rows: Annotated[int, Meta(ge=10)] = 500
    """Draws of a set of the evaluation."""
    evaluation_seed: Seed = 4242
    save_every: Positive = 100
    """Steps of the warm start from scratch between two states from which a run that was killed goes on."""
    base: str = SCRATCH
    """What is trained: `scratch`, a folder in the Hugging Face layout, or a name on the Hugging Face hub."""
    revision: str = "main"
    """Commit, tag or branch of a base on the hub; only a commit stays what it is."""
    champion: str = ""
    """A checkpoint, shipped or a folder, that the gate compares with; empty: floors alone."""
    data: Section | None = None
    """Labelled rows: `guard/training/data/settings.py`."""
    warm_start: Section | None = None
    """Supervised training of a base: `SupervisedSettings` in `guard/training/grpo_settings.py`."""
    grpo: Section | None = None
    """Reinforced alignment: `GrpoSettings` in `guard/training/grpo_settings.py`."""
    evaluation: Section | None = None
    """How rows of real sources are measured: `guard/training/evaluation_settings.py`; absent: as there."""
    gate: Section | None = None
    """Floors and allowed drops: `guard/training/gate_settings.py`."""

    @property
    def from_scratch(self) -> bool:
        return self.base == SCRATCH

    @property
    def prose(self) -> float:
        """The largest share of prose in any batch: the tokenizer should know its words."""
        return max((batch.prose for _, batch in self._batches()), default=0.0)

    @property
    def draws_rows(self) -> bool:
        """Whether a stage from scratch trains on labelled rows."""
        return self._place_of_rows() is not None

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise FieldError("Expected a name that no other stage has", "stages", number, "name")
        if not self.base or not self.template:
            raise FieldError("Expected a name or a folder", "template" if self.base else "base")
        if self.from_scratch and not self.stages:
            raise FieldError("Expected one stage or more, since the base is `scratch`", "stages")
        if self.from_scratch and self.warm_start is not None:
            raise FieldError("Expected none: the base is `scratch`, and `stages` are its", "warm_start")
        if not self.from_scratch and self.stages:
            raise FieldError("Expected none: only the base `scratch` has stages", "stages")
        if self.data is None and (self.warm_start is not None or self.grpo is not None):
            raise FieldError("Expected rows for `warm_start` and `grpo`", "data")
        if self.data is None and self.model.tokenizer == ROWS_TASK:
            raise FieldError(
                "Expected rows in `data`, whose words the tokenizer would know", "model", "tokenizer"
            )
        if self.data is None and (place := self._place_of_rows()):
            raise FieldError("Expected rows in `data` to draw from", *place, "task")
        if self.champion and self.gate is None:
            raise FieldError("Expected none without `gate`, which would compare with it", "champion")

    def _batches(self) -> Iterator[tuple[tuple[str | int, ...], BatchSettings]]:
        """Every batch and where it stands."""
        for number, stage in enumerate(self.stages):
            for place, phase in enumerate(stage.phases):
                yield ("stages", number, "phases", place, "batch"), phase.batch
            for place, drill in enumerate(stage.drills):
                yield ("stages", number, "drills", place), drill

    def _place_of_rows(self) -> tuple[str | int, ...] | None:
        """Where the first batch of labelled rows stands."""
        return next((place for place, batch in self._batches() if batch.task == ROWS_TASK), None)
