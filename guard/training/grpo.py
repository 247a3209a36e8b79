"""Reinforced alignment: GRPO with rule rewards on TRL. Reads top to bottom.

Every row is asked `group` times; each answer's reward is compared with the mean of its group (DeepSeekMath,
arXiv 2402.03300; RSafe, arXiv 2506.07736). Twins, the same text with the category switched on and off, stand
in one generation. With one step a generation (`updates_per_generation` 1, the default) no step sees more of
one label than of the other under a text; with more, TRL mixes the answers of a generation over its steps, and
the balance holds over the generation alone. States lie between two generations: TRL forgets answers that are
drawn and not yet used, and would draw others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, Final

from guard.errors import TrainingError
from guard.training.batches import order_of_units, twin_units
from guard.training.data.rows import LabelledRow
from guard.training.grpo_settings import GrpoSettings
from guard.training.launch import Stage
from guard.training.one_run import run_once
from guard.training.resume import records, write_summary
from guard.training.rewards import Parts, judge_completion
from guard.training.rollouts import FAULTS
from guard.training.row_encoding import Asked, RowEncoder, training_renderer
from guard.training.run_log import Log
from guard.training.trainer_parts import (
    StepRecorder,
    common_arguments,
    go_on,
    prepare_torch,
    versions,
    without_printing,
)
from guard.training.weights import load_tokenizer, load_weights, template_for

STAGE: Final[Stage] = "grpo"
_COUNTS: Final = ("groups", "flat_right", "flat_wrong", "flat_mixed")
_FIGURES: Final = {
    "loss": "loss",
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "flat_groups",
    "entropy": "entropy",
    "kl": "kl",
    "completions/mean_length": "completion_tokens",
    "completions/clipped_ratio": "cut_off",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    **{
        name: name
        for name in (
            *("format", "accuracy", "accuracy_think", "accuracy_fast", "accuracy_safe", "accuracy_unsafe"),
            *("category", "brevity", "evidence"),
            *(f"fault_{fault}" for fault in FAULTS),
            *_COUNTS,
        )
    },
}


def run_grpo(
    settings: GrpoSettings, model: Path, rows: Sequence[LabelledRow], folder: Path, log: Log
) -> Path:
    """Train `model` by the rewards of its own answers; the folder of the new weights, `<folder>/model`.

    `folder` gets `progress.jsonl` (a line a step), `summary.json` and states to go on from; it is made where
    it is absent, and a finished one is left as it is. Raises `TrainingError` for a folder of another run, for
    rows that do not fill a step, for twins that do not belong together, and for a model that cannot be read.
    """
    return run_once(STAGE, _train, settings, model, rows, folder, log)


def ask_rows(
    settings: GrpoSettings, rows: Sequence[LabelledRow], encoder: RowEncoder
) -> tuple[list[Asked], list[tuple[int, ...]]]:
    """The questions that fit, and which of them are asked together; twins are asked in one way.

    What does not fit is counted in `encoder.left_out`.
    """
    rng = Random(f"ways {settings.seed}")
    ways: dict[str, str] = {}
    asked = []
    for row in rows:
        drawn = "fast" if rng.random() < settings.fast_share else "think"
        way = ways.get(row.twin, drawn)
        ways[row.id] = way
        one = encoder.ask(row, "fast" if way == "fast" else "think")
        if one is not None:
            asked.append(one)
    units, lost = twin_units(asked)
    if lost:
        encoder.left_out["twin_left_out"] += lost
    return asked, units


def uses_vllm(settings: GrpoSettings) -> bool:
    """Whether answers are drawn through vLLM. Raises `TrainingError` where it is asked for and not there."""
    import torch

    there = torch.cuda.is_available() and find_spec("vllm") is not None
    if settings.rollouts == "vllm" and not there:
        raise TrainingError(
            "rollouts: vllm needs a GPU and the extra `gpu`; expected `auto` or `transformers`"
        )
    return there and settings.rollouts != "transformers"


def _train(settings: GrpoSettings, model: Path, rows: Sequence[LabelledRow], folder: Path, log: Log) -> None:
    prepare_torch(settings)
    renderer = training_renderer(model, template_for(model, settings.template), settings.seed)
    encoder = RowEncoder(renderer, settings.max_prompt_tokens, settings.max_completion_tokens)
    asked, units = ask_rows(settings, rows, encoder)
    at_once = settings.rows_per_generation
    order = order_of_units(units, batch=at_once, epochs=settings.epochs, seed=settings.seed)
    steps = len(order) // settings.rows_per_step
    if settings.max_steps:
        # Whole generations: answers that nothing is learnt from are not drawn.
        most = -(-settings.max_steps // settings.updates_per_generation) * settings.updates_per_generation
        steps = min(steps, most)
    pairs = sum(len(unit) == 2 for unit in units)
    log(
        f"{STAGE}: {len(rows)} rows, {sum(map(len, units))} asked, {pairs} pairs of twins, {steps} steps;"
        f" left out {dict(encoder.left_out)}"
    )
    order = order[: steps * settings.rows_per_step]
    trainer = _trainer(settings, model, folder, log, encoder, asked, order)
    go_on(trainer, STAGE, folder, log)
    if trainer.args.should_save:
        write_summary(folder, _summary(settings, len(rows), encoder, asked, units, steps, folder))


def _trainer(
    settings: GrpoSettings,
    model: Path,
    folder: Path,
    log: Log,
    encoder: RowEncoder,
    asked: Sequence[Asked],
    order: Sequence[int],
) -> Any:
    # Imported here: TRL takes ten seconds, and many commands only ask for the settings.
    from guard.training.grpo_trainer import VLLM_VERSIONS, make_trainer

    through_vllm = uses_vllm(settings)
    if through_vllm:
        log(f"{STAGE}: rollouts through vLLM {versions()['vllm']}; TRL was made for {VLLM_VERSIONS}")
    sequences = settings.rows_per_step * settings.group
    steps = len(order) // settings.rows_per_step
    measured = settings.measure_kl and settings.kl_weight == 0.0 and settings.lora is None

    def judge(one: Asked, completion: Sequence[int]) -> Parts:
        text = encoder.completion_text(one, completion)
        return judge_completion(text, len(completion), one.truth, limit=settings.max_completion_tokens)

    trainer = make_trainer(
        load_weights(model, settings.precision, settings.lora),
        load_tokenizer(model),
        common_arguments(settings, folder, sequences=sequences, steps=steps),
        settings=settings,
        asked=asked,
        order=order,
        judge=judge,
        use_vllm=through_vllm,
        run_folder=folder,
        start=load_weights(model, settings.precision, None) if measured else None,
        callback=StepRecorder(STAGE, folder, _FIGURES, log, every=settings.log_every),
    )
    return without_printing(trainer)


def _summary(
    settings: GrpoSettings,
    rows: int,
    encoder: RowEncoder,
    asked: Sequence[Asked],
    units: Sequence[tuple[int, ...]],
    steps: int,
    folder: Path,
) -> dict[str, Any]:
    used = [asked[place] for unit in units for place in unit]
    counts: Counter[str] = Counter()
    seconds = 0.0
    for record in records(folder):
        seconds += record["seconds"]
        for name in _COUNTS:
            counts[name] += int(record.get(name, 0))
    return {
        "rows": rows,
        "asked": {way: sum(one.way == way for one in used) for way in ("think", "fast")},
        "pairs": sum(len(unit) == 2 for unit in units),
        "left_out": dict(encoder.left_out),
        "steps": steps,
        "answers": steps * settings.rows_per_step * settings.group,
        **counts,
        "seconds": round(seconds, 1),
        "seed": settings.seed,
        "versions": versions(),
    }
