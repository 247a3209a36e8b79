"""What is set of the warm start and of reinforced alignment on TRL.

Every bound stands on its field; rules between fields are checked when a struct is made, and the sentence
names the fields. Rows are counted before groups are made of them: a row of GRPO is asked `group` times.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Weight = Annotated[float, Meta(ge=0.0, le=10.0)]
Rate = Annotated[float, Meta(gt=0.0, le=1.0)]
Precision = Literal["float32", "bfloat16"]
Schedule = Literal["constant", "linear", "cosine"]


class LoraSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adapters instead of all weights; merged into them when the model is written."""

    rank: Annotated[int, Meta(ge=1, le=1024)] = 32
    alpha: Annotated[int, Meta(ge=1, le=4096)] = 64
    """The adapter's output is scaled by `alpha / rank`."""
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    modules: Annotated[tuple[str, ...], Meta(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Names of the linear layers that get an adapter. `lm_head` is refused: TRL would never train it."""

    def __post_init__(self) -> None:
        if "lm_head" in self.modules:
            raise ValueError("modules: lm_head cannot have an adapter; expected layers below it")


class RewardWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """R = accuracy · format · right label + format · parses + the optional parts.

    The first two defaults are the paper's: R = 0.9 · format · accuracy + 0.1 · format.
    """

    accuracy: Weight = 0.9
    format: Weight = 0.1
    category: Weight = 0.0
    """Of the named categories, as far as they are the violated ones; only where the label is right."""
    brevity: Weight = 0.0
    """For every token that is left of the limit; only where the label is right."""
    evidence: Weight = 0.0
    """Of the quotations in the reasoning, the share that stands in the question; only where it is right."""

    def __post_init__(self) -> None:
        if not self.accuracy > 0.0:
            raise ValueError(f"accuracy: found {self.accuracy}; expected more than 0")


class _Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both stages set."""

    seed: Count = 0
    template: str = ""
    """A prompt template by name or file; empty: the one that lies beside the model, else the default."""
    epochs: Positive = 1
    max_steps: Count = 0
    """Optimiser steps after which training ends; 0: when the epochs do."""
    device_rows: Positive = 4
    """Sequences in one forward pass on one device; sets the memory, not the result."""
    processes: Positive = 1
    """Processes that train together, one a GPU; more than one are started through accelerate with FSDP2."""
    weight_decay: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    max_grad_norm: Annotated[float, Meta(gt=0.0)] = 1.0
    warm_up: Share = 0.0
    """Share of the steps over which the learning rate rises from 0."""
    schedule: Schedule = "constant"
    """How the learning rate goes on after the warm-up."""
    max_prompt_tokens: Positive = 2048
    """Rows with a longer prompt are left out and counted; never cut."""
    max_completion_tokens: Positive = 512
    precision: Precision = "float32"
    """Of the computation. Weights that are trained stay float32: at small rates bfloat16 would round every
    step away. bfloat16 is slower on CPUs."""
    saved_as: Literal["source", "float32", "bfloat16"] = "source"
    """Type of the written weights; `source`: as those that training started from."""
    gradient_checkpointing: bool = False
    """Compute activations twice and keep fewer: less memory, a third more time."""
    lora: LoraSettings | None = None
    """Absent: all weights are trained."""
    threads: Count = 0
    """CPU threads; 0: as torch chooses. Another number may round sums otherwise."""
    save_every: Positive = 50
    """Steps between two states from which a run that was cut off goes on."""
    log_every: Positive = 10
    """Steps between two lines for people; `progress.jsonl` has every step."""


class SupervisedSettings(_Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The warm start: answers in form, with reasoning (`think`) and without (`fast`)."""

    learning_rate: Rate = 2e-5
    batch_rows: Positive = 32
    """Answers in one optimiser step, over all devices."""
    ways: Annotated[tuple[Literal["think", "fast"], ...], Meta(min_length=1, max_length=2)] = (
        "think",
        "fast",
    )
    """Which answers are taught for every row."""
    without_rationale: Literal["fast_only", "name_category"] = "fast_only"
    """Rows without a rationale teach the fast answer alone, or a rationale that names the category."""

    def __post_init__(self) -> None:
        if len(set(self.ways)) != len(self.ways):
            raise ValueError(f"ways: found {', '.join(self.ways)}; expected each once")
        _divides("batch_rows", self.batch_rows, self.device_rows, self.processes)


class GrpoSettings(_Training, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reinforced alignment by GRPO; defaults are RSafe's where the paper names them (arXiv 2506.07736)."""

    learning_rate: Rate = 1e-7
    group: Annotated[int, Meta(ge=2, le=256)] = 4
    """Answers that are drawn for one row and compared with each other."""
    temperature: Annotated[float, Meta(gt=0.0, le=5.0)] = 0.7
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.8
    kl_weight: Annotated[float, Meta(ge=0.0)] = 0.0
    """Of the divergence from the weights at the start; 0 trains without."""
    measure_kl: bool = False
    """Log the divergence although its weight is 0; costs a second model, or with LoRA a second pass."""
    rewards: RewardWeights = RewardWeights()
    rows_per_step: Positive = 16
    """Rows in one optimiser step, over all devices."""
    updates_per_generation: Positive = 1
    """Optimiser steps for which answers are drawn at once. 1 learns from its own answers alone, and has twins
    in one step; with more, they stand in one generation and may be parted between its steps."""
    fast_share: Share = 0.0
    """Of the rows, the share that is asked for the fast answer."""
    flat_groups: Literal["keep", "leave_out"] = "keep"
    """Groups whose answers all have one reward teach nothing; left out, the others weigh more instead."""
    loss: Literal["grpo", "dr_grpo"] = "grpo"
    clip: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.2
    """How far a token's probability may move from that of the drawn answer, as a ratio above or below 1."""
    rollouts: Literal["auto", "vllm", "transformers"] = "auto"
    """What draws the answers; `auto`: vLLM where a GPU and vLLM are there."""
    vllm_memory: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.3
    """Share of the GPU's memory for vLLM, beside the training."""

    def __post_init__(self) -> None:
        _divides("rows_per_step", self.rows_per_step * self.group, self.device_rows, self.processes)
        if self.measure_kl and self.processes > 1 and self.lora is None:
            raise ValueError("measure_kl: one process, or lora, is needed without a kl_weight")
        if self.save_every % self.updates_per_generation:
            raise ValueError(
                f"save_every: found {self.save_every}; expected a multiple of updates_per_generation"
                f" ({self.updates_per_generation}), so that a state lies between two drawings of answers"
            )

    @property
    def rows_per_generation(self) -> int:
        """Rows that are asked at once."""
        return self.rows_per_step * self.updates_per_generation


def _divides(field: str, sequences: int, device_rows: int, processes: int) -> None:
    if sequences % (device_rows * processes):
        raise ValueError(
            f"{field}: found {sequences} sequences a step; expected a multiple of device_rows x processes"
            f" ({device_rows} x {processes})"
        )
