"""The model card of a checkpoint, from its report."""

# ruff: noqa: E501 - prose

from __future__ import annotations

from typing import Any

from guard.training.attack_evaluation import table
from guard.training.card_text import ATTACKS, BASE, ROWS, SCORES, SCRATCH, SUITES
from guard.training.settings import Recipe


def model_card(recipe: Recipe, report: dict[str, Any], command: str, training: dict[str, Any]) -> str:
    """README.md of a checkpoint. `training`: as the manifest has it."""
    common = {
        "name": f"rsafe-{recipe.name}",
        "engine": report["engine"],
        "rows": report["rows"],
        "tables": _tables(report["modes"]),
        "suites": _suites(report.get("suites", {})),
        "bars": _bars(report),
        "attacks": _attacks(report),
        "calibration": _calibration(report["calibration"]),
        "command": command,
        "seed": recipe.seed,
    }
    if not recipe.from_scratch:
        return BASE.format(**common, base=_base(training), how=_how(recipe))
    made: dict[str, Any] = {
        "parameters": training["parameters"] / 1e6,
        "minutes": training["made_in"],
        "reinforced": "" if recipe.grpo is None else " Reinforced alignment (GRPO) followed the warm start.",
    }
    if recipe.draws_rows:
        return ROWS.format(**common, **made)
    return SCRATCH.format(**common, **made, concepts=training["concepts"])


def _base(training: dict[str, Any]) -> str:
    parent = training["parent"]
    digest = f"commit {parent['commit']}" if "commit" in parent else f"SHA-256 {parent['sha256']}"
    return f"{parent['name']} ({digest})"


def _how(recipe: Recipe) -> str:
    steps = [
        "a warm start on answers in form" if recipe.warm_start is not None else "",
        "reinforced alignment (GRPO) on rule rewards" if recipe.grpo is not None else "",
    ]
    done = ", then ".join(step for step in steps if step)
    return f"Trained by {done}." if done else "Its weights are the base's; nothing was trained."


_SUITE_FIGURES = ("f1", "misses", "false_positives", "parse")


def _suites(suites: dict[str, Any]) -> str:
    """A table a mode of the suites of rows that people labelled; none where none were measured."""
    tables = []
    for mode, found in suites.items():
        real = {name: one for name, one in found.items() if name.startswith(("real/", "language/"))}
        if real:
            lines = [
                f"| {mode}: suite | n | F1 | Missed | Refused wrongly | Parses |",
                "|---|---|---|---|---|---|",
            ]
            for name, one in real.items():
                cells = [_interval(one["figures"].get(figure)) for figure in _SUITE_FIGURES]
                lines.append(f"| {name} | {one['n']} | " + " | ".join(cells) + " |")
            tables.append("\n".join(lines))
    return SUITES.format(tables="\n\n".join(tables)) if tables else ""


def _interval(figure: dict[str, float] | None) -> str:
    return "–" if figure is None else f"{figure['value']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})"


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
    return ATTACKS.format(table=figures) if figures else ""


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


def _calibration(section: dict[str, Any]) -> str:
    modes = section["modes"]
    if not modes:
        return "Nothing: they could not be calibrated, and decisions label them `raw`."
    everyone = next(iter(modes.values()))["groups"]["all"]
    return SCORES.format(
        rows=section["data"]["rows"],
        data=section["data"]["name"],
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
