"""The warm start on TRL: any causal language model learns to answer in form. Reads top to bottom.

Rows become answers with reasoning (`think`) and without (`fast`), in token ids; the loss is over the answers
alone. A run that was cut off goes on at its last whole state and ends with the weights of one that was not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from guard.errors import TrainingError
from guard.training.batches import order_by_length
from guard.training.data.rows import LabelledRow
from guard.training.grpo_settings import SupervisedSettings
from guard.training.launch import Stage
from guard.training.one_run import run_once
from guard.training.resume import records, write_summary
from guard.training.row_encoding import Ids, RowEncoder, naming_rationale, training_renderer
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

STAGE: Final[Stage] = "supervised"
_FIGURES: Final = {
    "loss": "loss",
    "mean_token_accuracy": "token_accuracy",
    "entropy": "entropy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "num_tokens": "tokens_seen",
}


def run_supervised(
    settings: SupervisedSettings, model: Path, rows: Sequence[LabelledRow], folder: Path, log: Log
) -> Path:
    """Train `model` on the answers of the rows; the folder of the new weights, `<folder>/model`.

    `folder` gets `progress.jsonl` (a line a step), `summary.json` and states to go on from; it is made where
    it is absent, and a finished one is left as it is. Raises `TrainingError` for a folder of another run, for
    rows that do not fill a step, and for a model that cannot be read.
    """
    return run_once(STAGE, _train, settings, model, rows, folder, log)


def encode_answers(
    settings: SupervisedSettings, rows: Sequence[LabelledRow], encoder: RowEncoder
) -> tuple[list[Ids], list[Ids], Counter[str]]:
    """Prompts and answers, one a row and way, in the order of the rows; and how many of each way.

    Twins are taught in the same ways, so labels under a text stay in balance: an answer that only one of them
    has is left out, and so are those of a row whose twin is not there (`twin_left_out`, counted by answers).
    """
    prompts: list[Ids] = []
    answers: list[Ids] = []
    taught: Counter[str] = Counter()
    fitting = {row.id: (row, _fitting(settings, row, encoder)) for row in rows}
    for row, own in fitting.values():
        ways = set(own)
        if row.twin:
            twin, others = fitting.get(row.twin, (row, {}))
            ways = ways & set(others) if twin.twin == row.id else set()
            if lost := len(own) - len(ways):
                encoder.left_out["twin_left_out"] += lost
        for way, (prompt, answer) in own.items():
            if way in ways:
                prompts.append(prompt)
                answers.append(answer)
                taught[way] += 1
    return prompts, answers, taught


def _fitting(
    settings: SupervisedSettings, row: LabelledRow, encoder: RowEncoder
) -> dict[str, tuple[Ids, Ids]]:
    """Prompt and answer of the row in every way in which it can be taught."""
    found: dict[str, tuple[Ids, Ids]] = {}
    for way in settings.ways:
        rationale = row.rationale
        if way == "think" and not rationale.strip():
            if settings.without_rationale == "fast_only":
                continue
            rationale = naming_rationale(row)
        asked = encoder.ask(row, way)
        answer = encoder.answer(row, way, rationale) if asked is not None else None
        if asked is not None and answer is not None:
            found[way] = (asked.prompt, answer)
    return found


def _train(
    settings: SupervisedSettings, model: Path, rows: Sequence[LabelledRow], folder: Path, log: Log
) -> None:
    prepare_torch(settings)
    renderer = training_renderer(model, template_for(model, settings.template), settings.seed)
    encoder = RowEncoder(renderer, settings.max_prompt_tokens, settings.max_completion_tokens)
    prompts, answers, taught = encode_answers(settings, rows, encoder)
    if not answers:
        raise TrainingError(f"none of {len(rows)} rows gives an answer to learn; expected one that fits")
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
    batch = settings.batch_rows
    order = order_by_length(lengths, batch=batch, epochs=settings.epochs, seed=settings.seed)
    steps = len(order) // batch
    if settings.max_steps:
        steps = min(steps, settings.max_steps)
    log(
        f"{STAGE}: {len(rows)} rows, {taught['think']} think and {taught['fast']} fast answers;"
        f" {steps} steps; left out {dict(encoder.left_out)}"
    )
    trainer = _trainer(settings, model, folder, log, prompts, answers, order[: steps * batch])
    go_on(trainer, STAGE, folder, log)
    if trainer.args.should_save:
        figures = {
            "rows": len(rows),
            "answers": dict(taught),
            "left_out": dict(encoder.left_out),
            "steps": steps,
            "target_tokens": sum(map(len, answers)),
            "seconds": round(sum(record["seconds"] for record in records(folder)), 1),
            "seed": settings.seed,
            "versions": versions(),
        }
        write_summary(folder, figures)


def _trainer(
    settings: SupervisedSettings,
    model: Path,
    folder: Path,
    log: Log,
    prompts: Sequence[Ids],
    answers: Sequence[Ids],
    order: Sequence[int],
) -> Any:
    # Imported here: TRL takes ten seconds, and many commands only ask for the settings.
    from guard.training.sft_trainer import make_trainer

    steps = len(order) // settings.batch_rows
    arguments = common_arguments(settings, folder, sequences=settings.batch_rows, steps=steps)
    recorder = StepRecorder(STAGE, folder, _FIGURES, log, every=settings.log_every)
    trainer = make_trainer(
        load_weights(model, settings.precision, settings.lora),
        load_tokenizer(model),
        arguments,
        prompts=prompts,
        answers=answers,
        order=order,
        run_folder=folder,
        callback=recorder,
    )
    return without_printing(trainer)
