"""The verdict of a message that was judged in text windows: the worst of what was said of each.

- One window `unsafe`: the whole is `unsafe`, whatever else is known of the others.
- `safe` needs a `safe` of every window. When there is none of one, and no other is `unsafe`, the whole is
  unjudged, for the reason of the newest such window.
- The score is the highest one, and `answered_in` is the way in which it came about. An `unsafe` without a
  score counts as certain, so the whole has none either, and the label decides.
- The codes are those of all windows, and a category has its highest score; the rationale is that of the
  worst window.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.identifiers import Way
from schemas.policy import Policy, canonical_categories
from schemas.verdict import Unjudged, Verdict, WindowVerdict


def worst(outcomes: Sequence[Verdict | Unjudged], policy: Policy) -> Verdict | Unjudged:
    """One outcome of those of 1 or more windows, newest first."""
    if len(outcomes) == 1:
        return outcomes[0]
    steps = tuple(step for outcome in outcomes for step in outcome.steps)
    verdicts = [outcome for outcome in outcomes if isinstance(outcome, Verdict)]
    unjudged = [outcome for outcome in outcomes if isinstance(outcome, Unjudged)]
    unsafe = [verdict for verdict in verdicts if verdict.label == "unsafe"]
    if unjudged and not unsafe:
        return msgspec.structs.replace(unjudged[0], steps=steps, windows=len(outcomes))
    named = {code for verdict in verdicts for code in verdict.codes}
    scores: dict[str, float] = {}
    for verdict in verdicts:
        for code, one in verdict.category_scores.items():
            scores[code] = max(one, scores.get(code, 0.0))
    codes = [category.code for category in canonical_categories(policy)]
    chosen, score = max(unsafe or verdicts, key=_weight), _highest_score(verdicts)
    return msgspec.structs.replace(
        chosen,
        score=score,
        answered_in=_way_of(score, verdicts) or chosen.answered_in,
        codes=tuple(code for code in codes if code in named),
        category_scores={code: scores[code] for code in codes if code in scores},
        steps=steps,
        windows=len(outcomes),
        by_window=tuple(
            WindowVerdict(
                label=v.label,
                score=v.score,
                codes=v.codes,
                category_scores=v.category_scores,
                answered_in=v.answered_in,
            )
            for v in verdicts
        ),
    )


def _way_of(score: float | None, verdicts: Sequence[Verdict]) -> Way | None:
    return next((v.answered_in for v in verdicts if score is not None and v.score == score), None)


def _weight(verdict: Verdict) -> float:
    return float(verdict.label == "unsafe") if verdict.score is None else verdict.score


def _highest_score(verdicts: Sequence[Verdict]) -> float | None:
    if any(verdict.score is None and verdict.label == "unsafe" for verdict in verdicts):
        return None
    return max((verdict.score for verdict in verdicts if verdict.score is not None), default=None)
