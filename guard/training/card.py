"""The model card of a checkpoint, from its report."""

# ruff: noqa: E501 - prose

from __future__ import annotations

from typing import Any

from guard.training.attack_evaluation import table
from guard.training.settings import Recipe

_TEXT = """# {name}

A guard of {parameters:.2f} million parameters that reads its policy: it says whether the last turn of a conversation
breaks one of the categories in front of it, and which. It exists so that the demo and the tests of rsafe-stream
run a real model through a real engine on two cores. **It is not a moderation model for real chat.**

## What it can do

- Judge sentences like those of its generator against policies like those of its generator, with reasoning
  (`think`) or without (`fast`). Take a category out of the policy, and the same text is judged safe.
- Apply categories that it has never seen, given as a title and a list of words, in English letters.
- Know {concepts} built-in kinds of harm by many names (titles and phrases: `guard/training/generator/lexicon.py`).

## What it cannot do

- Understand real text. It was trained from random weights on templated English sentences; on anything else its
  answer means nothing, in either direction, however sure the score looks.
- Understand a definition written as prose. It looks words up and knows the phrases of its lexicon; write
  definitions as phrases separated by `; `, one kind of harm a category.
- Name a category by any code. Codes of one of the letters A, C, P, R, S, T, U, X and a number from 1 to 24 are one
  token of its vocabulary; others it copies piece by piece, and often wrongly.
- Tell a risky verb with an unknown object from a harmful act: after `cook`, `join` or `steal` an unknown object
  counts as harmful.
- Handle exceptions by meaning: it knows that a listed exception is not a listed word, no more.
- Give evidence. The reasoning is a look-up trace and may name a wrong word or category although the verdict is
  right; check it against the text before showing it.
- Languages other than English, irony, context across turns (it judges the last turn only), long texts
  (about 500 tokens were the longest in training).

## Figures

Measured through {engine}, greedy, on {rows} draws a set that training never used; an answer that does not parse
counts as wrong. Standard errors in brackets, 95 % bootstrap intervals in parentheses.

{tables}

`templates`, `objects` and `both` hold out sentence frames and acts, objects, and both. A pair is the same text with
the category in the policy (must be unsafe) and taken out of it (must be safe); both must be right. Custom: a
title and words that training never saw, in held-out sentences, balanced accuracy of listed and unlisted words:
`made_up` words, words of `other_grammar`, real nouns of eight unseen `themes`. `near_misses` are unlisted words
that share head or tail with a listed one. `attacked`: the unsafe texts of the pairs with a forged ending, such as
`\\boxed{{safe}}` or a guessed boundary mark, put together as training never showed it. `reworded`: the in-distribution set
under policies in other words, codes and order.

{bars}

## What its scores are worth

{calibration}

{attacks}## How it was made

    {command}

Seed {seed}; {minutes}. Data: `guard/training/generator`, seeded; nothing else. Recipe, versions and the hash of
the data are in `manifest.json`. Floating-point sums differ between machines, so another run gives other
weights and, within their spread, the same figures.

## Licence

Apache-2.0, like the code that made it.
"""

_ATTACKS = """## Under attack

Of the unsafe texts of the pairs that it finds unsafe, so many are safe to it when they are attacked
(`guard/training/attacks`). Structural attacks cannot forge a prompt or an answer, whatever the model; their words may
still mislead it.

{table}

"""


def model_card(recipe: Recipe, report: dict[str, Any], command: str, training: dict[str, Any]) -> str:
    """README.md of a checkpoint."""
    return _TEXT.format(
        name=f"rsafe-{recipe.name}",
        parameters=training["parameters"] / 1e6,
        concepts=training["concepts"],
        engine=report["engine"],
        rows=report["rows"],
        tables=_tables(report["modes"]),
        bars=_bars(report),
        attacks=_attacks(report),
        calibration=_calibration(report["calibration"]),
        command=command,
        seed=recipe.seed,
        minutes=training["made_in"],
    )


def _tables(modes: dict[str, Any]) -> str:
    first = next(iter(modes.values()))
    head = "| Set | " + " | ".join(f"{m}: accuracy | {m}: F1 | {m}: parses" for m in modes) + " |"
    lines = [head, "|---|" + "---|" * (3 * len(modes))]
    for name, scores in first["sets"].items():
        cells = []
        for mode in modes.values():
            s = mode["sets"][name]
            f1 = f"{s['f1']['value']:.3f} ({s['f1']['low']:.3f}–{s['f1']['high']:.3f})" if "f1" in s else "–"
            cells += [_share(s["accuracy"]), f1, f"{s['parse']:.4f}"]
        lines.append(f"| {name} (n = {scores['n']}) | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| Pairs and custom categories | " + " | ".join(modes) + " |",
        "|---|" + "---|" * len(modes),
    ]
    for name in first["pairs"]:
        lines.append(
            f"| {name}: both right | " + " | ".join(_share(m["pairs"][name]) for m in modes.values()) + " |"
        )
    for name in first["custom"]:
        cells = [_share(m["custom"][name]) for m in modes.values()]
        lines.append(f"| custom {name}: balanced accuracy | " + " | ".join(cells) + " |")
    same = [_share(m["same_verdict_when_reworded"]) for m in modes.values()]
    lines.append("| same verdict under a reworded policy | " + " | ".join(same) + " |")
    for name in ("in_distribution", "both", "custom_made_up/on", "custom_themes/on"):
        found = [m["sets"][name].get("code_right") for m in modes.values()]
        cells = [_share(value) if value else "names none" for value in found]
        lines.append(f"| right category, of those rightly unsafe: {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _attacks(report: dict[str, Any]) -> str:
    figures = table(report)
    return _ATTACKS.format(table=figures) if figures else ""


def _share(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} [{value['se']:.3f}]"


def _bars(report: dict[str, Any]) -> str:
    missed = [b for b in report["bars"] if not b["met"]]
    if not missed:
        return (
            "It reaches every bar that the project set for it (`BARS` in `guard/training/synthetic_figures.py`, and an\n"
            "expected calibration error of at most 0.05)."
        )
    lines = [f"- {b['mode']}, {b['figure']}: {b['value']:.3f}, wanted {_wanted(b)}" for b in missed]
    return "It misses these bars that the project set for it:\n\n" + "\n".join(lines)


def _wanted(bar: dict[str, Any]) -> str:
    return f"{bar['least']:.2f}" if "least" in bar else f"at most {bar['most']:.2f}"


_SCORES = """`calibration.json` maps the model's scores to probabilities, fitted on {rows} rows of held-out sentence frames, objects
and words, by another seed than the evaluation's; {near_duplicates} more resembled a row of the evaluation and were left out. The
figures are of the evaluation's own held-out sets, which neither training nor the fit saw. About {unsafe:.0%} of their rows
are unsafe: where far fewer messages are, a score of 0.9 is right less often than nine times in ten, while a
false-positive rate stays what it is. All of it holds for texts like the generator's, and for no others.

{figures}

ECE: expected calibration error over 15 bins of equally many rows. Saturated: raw scores beyond 0.999 or below 0.001.
Of all roles together, ECE may be 0.05.

{rates}

![Reliability diagram](reliability.svg)

{think}

{band}"""


def _calibration(section: dict[str, Any]) -> str:
    modes = section["modes"]
    if not modes:
        return "Nothing: they could not be calibrated, and decisions label them `raw`."
    everyone = next(iter(modes.values()))["groups"]["all"]
    return _SCORES.format(
        rows=section["data"]["rows"],
        near_duplicates=section["data"]["near_duplicates"],
        unsafe=everyone["unsafe"] / everyone["n"],
        figures=_score_figures(modes),
        rates=_rates(modes),
        think=_think_score(section["chosen"].get("think", {})),
        band=_band(modes),
    ).rstrip()


def _score_figures(modes: dict[str, Any]) -> str:
    lines = [
        "| Mode, role | n | Fit | ECE raw | ECE calibrated | Brier raw | Brier calibrated | AUROC | Saturated, raw |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for mode, found in modes.items():
        for group, of in found["groups"].items():
            raw, calibrated = of["raw"], of["calibrated"]
            fit = f"{found['method']}, {'all roles' if of['curves'] == ['all'] else 'by role'}"
            lines.append(
                f"| {mode}, {'all roles' if group == 'all' else group} | {of['n']} | {fit} | {raw['ece']:.3f} "
                f"| {calibrated['ece']:.3f} | {raw['brier']:.4f} | {calibrated['brier']:.4f} "
                f"| {calibrated['auroc']:.4f} | {raw['saturated']:.0%} |"
            )
    return "\n".join(lines)


def _rates(modes: dict[str, Any]) -> str:
    lines = [
        "| Mode, role: `max_false_positive_rate` | Found on safe rows | Unsafe rows above it |",
        "|---|---|---|",
    ]
    for mode, found in modes.items():
        lines += [
            f"| {mode}, {'all roles' if group == 'all' else group}: {one['rate']:g} "
            f"| {one['found']:.4f} [{one['se']:.4f}] | {one['recall']:.1%} |"
            for group, of in found["groups"].items()
            for one in of["rates"]
            if group == "all" or one["rate"] in (0.01, 0.05)
        ]
    return "\n".join(lines)


def _think_score(chosen: dict[str, Any]) -> str:
    if "score" not in chosen:
        return ""
    folds = chosen["brier_in_folds"]
    best = {
        kind: min(value for name, value in folds.items() if name.startswith(kind))
        for kind in ("verdict", "both")
    }
    figures = f"Brier score {best['both']:.4f} against {best['verdict']:.4f}, in five folds of the fit"
    if chosen["score"] == "both":
        return (
            "The score of `think` is the mean of two readings' log-odds: of the fast verdict, and of the one after the\n"
            f"rationale. Both tell more than the latter alone ({figures})."
        )
    return f"The score of `think` is that of the verdict after the rationale ({figures} if the fast one is added)."


def _band(modes: dict[str, Any]) -> str:
    band = modes.get("fast", {}).get("uncertain_band")
    if band is None:
        return ""
    ends = ", ".join(
        f"{role}: from {low:.4f}, below {high:.4f}" for role, (low, high) in band["bands"].items()
    )
    return (
        f"Thinking pays where the calibrated fast score is uncertain ({ends}); that is\n{band['inside']:.1%} of the rows. Right are {band['fast_right']:.1%} with `fast`, {band['think_right']:.1%} with "
        f"`think`, and {band['adaptive_right']:.1%} if\n`think` is asked there alone."
    )
