"""The warm start: from random weights to a guard that reads its policy. Reads top to bottom.

Stages come from the recipe; those of `tiny` are drills (look-up), policies (conversations under growing
policies), sentences (their sentences alone), widen (many more frames, odd spellings and forged endings, then
verbs that decide), cross and settle (acts with another act's verb, forged turns, at falling rates). A stage
saves its state every `save_every` steps and its weights at the end; a run that was killed goes on there, and
ends with the same weights.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file

from guard.prompt import PromptRenderer
from guard.training.drills import LookupDrill, RepeatDrill, WordDrill
from guard.training.durable import write_durably
from guard.training.encoding import TreeEncoder
from guard.training.generator.conversations import Style, draw_group
from guard.training.generator.policies import wordings_with
from guard.training.model import TinyGuard
from guard.training.optimisers import make_optimisers
from guard.training.packing import FAST, Batch, Tree, collate
from guard.training.run_log import Log
from guard.training.settings import ROWS_TASK, BatchSettings, Recipe, Stage
from guard.training.shares import Progress, Workers, dealt, shares_of
from guard.training.training_state import Position, load_state, save_state, save_tensors

# Deciding tokens count four times, codes after a fast verdict twice: they are few, and everything hangs on
# them.
_WEIGHTS = (0.0, 1.0, 4.0, 4.0, 4.0, 4.0, 2.0)
_LOG_EVERY = 50
PROGRESS = "progress.jsonl"
_DRILL_TASKS = {
    "short_lookups": (1, False),
    "lookups": (2, False),
    "lookups_in_text": (2, True),
    "long_lookups": (4, True),
}

_STYLES: dict[str, Style] = {
    "bare": "words",
    "single": "single",
    "full": "full",
    "wide": "wide",
    "sharp": "sharp",
    "crossed": "crossed",
}


class RowSource(Protocol):
    """Labelled rows as trees (`row_trees.py`, which other stages of training have no use of)."""

    def draw(self, stage_seed: int, step: int, batch: BatchSettings) -> list[Tree]: ...


class BatchSource:
    """Writes the batches; each follows from stage seed, step and task alone, and from its rows."""

    def __init__(self, renderer: PromptRenderer, rows: RowSource | None = None) -> None:
        self._rows = rows
        self._repeats = RepeatDrill(renderer)
        self._lookups, self._words = LookupDrill(renderer), WordDrill(renderer)
        self._encoder = TreeEncoder(renderer)

    def draw(self, stage_seed: int, step: int, batch: BatchSettings, hands: int = 1) -> list[Batch]:
        """A batch, dealt in `hands` of about as many tokens."""
        trees = dealt(self._trees(stage_seed, step, batch), hands)
        if batch.task in _STYLES or batch.task == ROWS_TASK:
            return [collate(hand) for hand in trees]
        return [collate(hand, prefix_groups=1, blocks=1, merge=True) for hand in trees]

    def _trees(self, stage_seed: int, step: int, batch: BatchSettings) -> list[Tree]:
        if batch.task == ROWS_TASK:
            if self._rows is None:
                raise ValueError("there are no labelled rows to draw from")
            return self._rows.draw(stage_seed, step, batch)
        base = (stage_seed * 1_000_003 + step * 7_919 + _task_number(batch.task)) * 1_000
        return [self._tree(base + row, batch) for row in range(batch.policies)]

    def _tree(self, seed: int, batch: BatchSettings) -> Tree:
        if batch.task == "repeats":
            return self._repeats.draw(seed, batch.exchanges)
        if batch.task in _DRILL_TASKS:
            longest, in_text = _DRILL_TASKS[batch.task]
            return self._lookups.draw(seed, batch.exchanges, longest=longest, in_text=in_text)
        if batch.task in ("words", "words_small"):
            return self._words.draw(
                seed, batch.exchanges, small=batch.task == "words_small", wordings=wordings_with(batch.prose)
            )
        style = _STYLES[batch.task]
        policy, exchanges = draw_group(seed, batch.exchanges, style, wordings_with(batch.prose))
        return self._encoder.encode(policy, exchanges, random.Random(seed + 1))


def warm_start(
    recipe: Recipe,
    renderer: PromptRenderer,
    folder: Path,
    log: Log,
    *,
    rows: RowSource | None = None,
    max_steps: int | None = None,
) -> TinyGuard:
    """Run all stages; `folder` gets `<stage>.safetensors` and `progress.jsonl`, and is resumed from them.

    `rows`: for the recipe's batches of labelled rows.
    """
    torch.manual_seed(recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    model = TinyGuard(recipe.model, recipe.precision)
    source = BatchSource(renderer, rows)
    for stage in recipe.stages:
        done = folder / f"{stage.name}.safetensors"
        if done.is_file():
            model.load_state_dict(load_file(done))
            log(f"stage {stage.name}: already there")
        else:
            records = run_stage(
                model,
                source,
                stage,
                folder,
                threads=recipe.threads,
                max_steps=max_steps,
                save_every=recipe.save_every,
            )
            for record in records:
                record["stage"] = stage.name
                parts = (f"{k}={v:.4f}" if isinstance(v, float) else f"{k}={v}" for k, v in record.items())
                log(" ".join(parts))
                with (folder / PROGRESS).open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(record) + "\n")
            save_tensors(done, model.state_dict())
        _state_of(folder, stage).unlink(missing_ok=True)
    return model


def run_stage(
    model: TinyGuard,
    source: BatchSource,
    stage: Stage,
    folder: Path | None = None,
    *,
    threads: int = 1,
    max_steps: int | None = None,
    save_every: int = 100,
) -> Iterator[dict[str, Any]]:
    """Train one stage; yields a record of means every 50 steps and at the end.

    With a folder it goes on where the state in it is, and saves one every `save_every` steps.
    """
    optimisers = make_optimisers(model, stage.muon_lr, stage.adam_lr)
    position = Position()
    if folder is not None:
        if _state_of(folder, stage).is_file():
            position = load_state(_state_of(folder, stage), model, optimisers)
        _forget_after(folder / PROGRESS, stage.name, position.step)
    progress, started = Progress(position.sums), time.monotonic() - position.seconds
    limit = min(stage.steps, max_steps or stage.steps)
    with Workers(model, threads) as workers:
        for step, batch_settings in enumerate(_batches(stage), 1):
            if step <= position.step:
                continue
            position.tokens += _step(workers, source, stage, step, batch_settings, optimisers, progress)
            position.step, position.seconds = step, round(time.monotonic() - started, 1)
            if step % _LOG_EVERY == 0 or step == limit:
                counts = {"tokens": position.tokens, "seconds": position.seconds}
                yield {"step": step, "task": batch_settings.task, **progress.take(), **counts}
            if step == limit:
                return
            # After the line of the log: the lines up to a state's step are all there.
            if folder is not None and step % save_every == 0:
                position.sums = progress.sums()
                save_state(_state_of(folder, stage), model, optimisers, position)


def _step(
    workers: Workers,
    source: BatchSource,
    stage: Stage,
    step: int,
    settings: BatchSettings,
    optimisers: list[torch.optim.Optimizer],
    progress: Progress,
) -> int:
    """One step of all optimisers; returns its number of tokens."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * _rate(stage, step)
    weights = torch.tensor(_WEIGHTS)
    weights[FAST] = stage.fast_weight
    shares = shares_of(source.draw(stage.seed, step, settings, workers.threads), weights, 1.0, "")
    if stage.drills and step % stage.drill_every == 0:
        drill = stage.drills[step // stage.drill_every % len(stage.drills)]
        drawn = source.draw(stage.seed, step, drill, workers.threads)
        shares += shares_of(drawn, weights, stage.drill_weight, "drill_")
    workers.backward(shares, progress)
    torch.nn.utils.clip_grad_norm_(workers.model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
    return sum(int(share.batch.ids.numel()) for share in shares)


def read_progress(path: Path) -> list[dict[str, Any]]:
    """The records of a `progress.jsonl`; without a last line that was cut off."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def _forget_after(path: Path, stage: str, step: int) -> None:
    """Drop the stage's lines after a step, which are written again, and half a line."""
    if path.is_file():
        kept = [one for one in read_progress(path) if one["stage"] != stage or one["step"] <= step]
        write_durably(path, "".join(json.dumps(record) + "\n" for record in kept).encode())


def _state_of(folder: Path, stage: Stage) -> Path:
    return folder / f"{stage.name}.state.safetensors"


def _batches(stage: Stage) -> Iterator[BatchSettings]:
    for phase in stage.phases:
        for _ in range(phase.steps):
            yield phase.batch


def _rate(stage: Stage, step: int) -> float:
    """Fraction of the peak rate at a step (from 1)."""
    warm = min(1.0, step / stage.warm_up_steps)
    cooling = stage.steps * stage.cool_down
    if not cooling or step < stage.steps - cooling:
        return warm
    return warm * max(0.02, (stage.steps - step) / cooling)


def _task_number(task: str) -> int:
    return 31 * sum(map(ord, task))
