"""The warm start: from random weights to a guard that reads its policy. Reads top to bottom.

Stages come from the recipe: drills (look-up), policies (conversations under growing policies), polish (the
same at a falling rate), widen (many more frames, odd spellings and forged endings), sharpen (verbs that
decide, and more weight on fast verdicts). Each stage writes its weights, so that a run that was cut off goes
on at the next stage.
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from guard.prompt import PromptRenderer
from guard.training.drills import LookupDrill, RepeatDrill, WordDrill
from guard.training.encoding import TreeEncoder
from guard.training.generator.conversations import Style, draw_group
from guard.training.model import TinyGuard
from guard.training.optimisers import make_optimisers
from guard.training.packing import FAST, MARK_NAMES, Batch, Tree, collate
from guard.training.settings import BatchSettings, Recipe, Stage

# Deciding tokens count four times, codes after a fast verdict twice: they are few, and everything hangs on
# them.
_WEIGHTS = (0.0, 1.0, 4.0, 4.0, 4.0, 4.0, 2.0)
_LOG_EVERY = 50
_SAVE_EVERY = 100
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
}

Log = Callable[[str], None]


class BatchSource:
    """Writes the batches; each follows from stage seed, step and task alone."""

    def __init__(self, renderer: PromptRenderer) -> None:
        self._repeats = RepeatDrill(renderer)
        self._lookups, self._words = LookupDrill(renderer), WordDrill(renderer)
        self._trees = TreeEncoder(renderer)

    def draw(self, stage_seed: int, step: int, batch: BatchSettings) -> Batch:
        base = (stage_seed * 1_000_003 + step * 7_919 + _task_number(batch.task)) * 1_000
        trees = [self._tree(base + row, batch) for row in range(batch.policies)]
        if batch.task in _STYLES:
            return collate(trees)
        return collate(trees, prefix_groups=1, blocks=1, merge=True)

    def _tree(self, seed: int, batch: BatchSettings) -> Tree:
        if batch.task == "repeats":
            return self._repeats.draw(seed, batch.exchanges)
        if batch.task in _DRILL_TASKS:
            longest, in_text = _DRILL_TASKS[batch.task]
            return self._lookups.draw(seed, batch.exchanges, longest=longest, in_text=in_text)
        if batch.task in ("words", "words_small"):
            return self._words.draw(seed, batch.exchanges, small=batch.task == "words_small")
        style = _STYLES[batch.task]
        policy, exchanges = draw_group(seed, batch.exchanges, style)
        return self._trees.encode(policy, exchanges, random.Random(seed + 1))


class Progress:
    """Loss and accuracy per kind of target since the last line of the log."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, name: str, value: float, count: float = 1.0) -> None:
        entry = self._sums[name]
        entry[0] += value
        entry[1] += count

    def take(self) -> dict[str, float]:
        means = {name: total / count for name, (total, count) in self._sums.items() if count}
        self._sums.clear()
        return means


def warm_start(
    recipe: Recipe, renderer: PromptRenderer, folder: Path, log: Log, *, max_steps: int | None = None
) -> TinyGuard:
    """Run all stages; `folder` gets `<stage>.safetensors` and `progress.jsonl`, and is resumed from them."""
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    model = TinyGuard(recipe.model)
    source = BatchSource(renderer)
    for stage in recipe.stages:
        done = folder / f"{stage.name}.safetensors"
        if done.is_file():
            model.load_state_dict(load_file(done))
            log(f"stage {stage.name}: already there")
            continue
        started = time.monotonic()
        for record in run_stage(model, source, stage, folder, max_steps=max_steps):
            record["stage"], record["seconds"] = stage.name, round(time.monotonic() - started, 1)
            log(" ".join(f"{k}={v:.4f}" if isinstance(v, float) else f"{k}={v}" for k, v in record.items()))
            with (folder / "progress.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(record) + "\n")
        _save(model, done)
    return model


def run_stage(
    model: TinyGuard,
    source: BatchSource,
    stage: Stage,
    folder: Path | None = None,
    *,
    max_steps: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Train one stage; yields a record of means every 50 steps and at the end."""
    optimisers = make_optimisers(model, stage.muon_lr, stage.adam_lr)
    progress = Progress()
    weights = torch.tensor(_WEIGHTS)
    weights[FAST] = stage.fast_weight
    tokens = 0
    limit = min(stage.steps, max_steps or stage.steps)
    for step, batch_settings in enumerate(_batches(stage), 1):
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * _rate(stage, step)
        batch = source.draw(stage.seed, step, batch_settings)
        tokens += _backward(model, batch, weights, 1.0, "", progress)
        if stage.drills:
            drill = stage.drills[step % len(stage.drills)]
            batch = source.draw(stage.seed, step, drill)
            tokens += _backward(model, batch, weights, stage.drill_weight, "drill_", progress)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        model.zero_grad()
        if step % _LOG_EVERY == 0 or step == limit:
            yield {"step": step, "task": batch_settings.task, **progress.take(), "tokens": tokens}
        if folder is not None and step % _SAVE_EVERY == 0:
            _save(model, folder / f"{stage.name}.partial.safetensors")
        if step == limit:
            return


def _backward(
    model: TinyGuard, batch: Batch, by_mark: Any, weight: float, prefix: str, progress: Progress
) -> int:
    """Add the gradients of one batch; returns its number of tokens."""
    targets = batch.marks.nonzero()[:, 0]
    marks, wanted = batch.marks[targets], batch.ids[targets]
    logits = model.logits(model(batch).index_select(0, targets - 1))
    weights = by_mark[marks]
    loss = (functional.cross_entropy(logits, wanted, reduction="none") * weights).sum() / weights.sum()
    (loss * weight).backward()
    progress.add(f"{prefix}loss", float(loss.detach()))
    right = (logits.detach().argmax(-1) == wanted).float()
    for mark, name in MARK_NAMES.items():
        chosen = right[marks == mark]
        if chosen.numel():
            progress.add(prefix + name, float(chosen.sum()), chosen.numel())
    return int(batch.ids.numel())


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


def _save(model: TinyGuard, path: Path) -> None:
    partial = path.with_suffix(".writing")
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, partial)
    partial.replace(path)
