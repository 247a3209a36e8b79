"""Step 6, make decision: answer + policy → what is to be done. Pure.

How a verdict becomes an action:

- A category that the verdict names, or scores, is violated when its score (its own, else the overall one) is
  at or above its threshold (its own, else the policy's). Several violated: the most severe action.
- When no category is named or scored, the overall score is compared with the policy's threshold, and the
  most severe action of any of the policy's categories applies: it cannot be known which one is meant.
- Without scores the label decides.
- A verdict of `adaptive` is compared with the thresholds of the way in which it came about.
- Of a message in text windows each window is weighed so, and the most severe action applies. A window without
  a verdict beside an unsafe one counts as `on_unjudged` says.

Scores are compared as the decision shows them: calibrated where the policy's mode and the message's role have
a calibration, and rounded. A category's own score is shown as the same part of the overall score as it is of
the raw one. So it is never above that, and a category with a false-positive rate, which is one of the overall
score, is hit no more often than the rate says.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import assert_never

from guard.calibration import SCORE_DIGITS
from schemas.decision import (
    CacheUse,
    CategoryDecision,
    Coverage,
    Decision,
    GuardUsed,
    ScoreKind,
    Timings,
    Tokens,
)
from schemas.identifiers import Action, Role, Way
from schemas.verdict import Step, Unjudged, Verdict
from workers.moderation.outcome import (
    SEVERITY,
    Answer,
    Asked,
    ChosenPolicy,
    Judged,
    Judgement,
    NotApplicable,
    NotJudged,
    Source,
    Took,
    Weighed,
    Yardstick,
)

OUTSIDE_SURFACES = "role_not_judged"


def weigh(answer: Answer, chosen: ChosenPolicy, role: Role) -> Weighed:
    """The answer under the policy; `role` is the message's."""
    match answer:
        case Judged(verdict=verdict):
            ways = chosen.yardsticks[role]
            raw, way = worst_reading(verdict, ways)
            yardstick = ways.of(way)
            score, kind = read_score(raw, yardstick)
            action, categories = apply_policy(verdict, score, chosen, ways)
            return Weighed(
                "judged",
                action,
                guard=answer.guard,
                label=verdict.label,
                answered_in=way,
                score=score,
                score_kind=kind,
                raw_score=_rounded(raw) if kind == "calibrated" else None,
                threshold=yardstick.threshold,
                categories=categories,
                rationale=answer.rationale or None,
                windows=verdict.windows,
                windows_unjudged=verdict.windows_unjudged,
                turns_left_out=verdict.turns_left_out,
            )
        case NotJudged(unjudged=unjudged):
            policy = chosen.policy
            action = policy.on_unjudged
            if unjudged.reason == "unavailable":
                # An event whose policy holds is never answered so; were it, a person should look.
                action = "review" if policy.on_unavailable == "hold" else policy.on_unavailable
            return Weighed(
                "unjudged",
                action,
                guard=answer.guard,
                reason=unjudged.reason,
                detail=unjudged.detail or None,
                windows=unjudged.windows,
                turns_left_out=unjudged.turns_left_out,
            )
        case NotApplicable():
            return Weighed("not_applicable", "allow", reason=OUTSIDE_SURFACES)
        case _:
            assert_never(answer)


def make_decision(asked: Asked, weighed: Weighed, source: Source, took: Took) -> Decision:
    """The decision about an event. Written out, since every event passes here."""
    record, event = asked.record, asked.event
    message = event.message
    return Decision(
        decision_id=asked.decision_id,
        origin=asked.origin,
        event_id=event.event_id,
        tenant=event.tenant,
        conversation_id=event.conversation_id,
        message_id=message.id,
        author=message.author,
        role=message.role,
        sent_at=message.sent_at,
        received_at=moment(record.timestamp_ms),
        content_mac=asked.content_mac,
        status=weighed.status,
        action=weighed.action,
        policy=asked.chosen.used,
        coverage=Coverage(
            windows=weighed.windows,
            windows_unjudged=weighed.windows_unjudged,
            turns_left_out=weighed.turns_left_out,
            context_digest=asked.context_digest,
        ),
        guard=weighed.guard,
        reason=weighed.reason,
        detail=weighed.detail,
        label=weighed.label,
        answered_in=weighed.answered_in,
        score=weighed.score,
        score_kind=weighed.score_kind,
        raw_score=weighed.raw_score,
        threshold=weighed.threshold,
        categories=weighed.categories,
        rationale=weighed.rationale,
        message_revision=message.revision,
        language=message.language,
        cache=source.cache,
        timings=Timings(
            lag_ms=asked.read_at_ms - record.timestamp_ms,
            queue_ms=took.queue_ms,
            guard_ms=took.guard_ms,
            total_ms=took.total_ms,
        ),
        tokens=source.tokens,
        steps=source.steps,
        trace_id=asked.trace.trace_id,
    )


def worst_reading(verdict: Verdict, yardstick: Yardstick) -> tuple[float | None, Way]:
    """The raw score that a decision shows, and its way.

    Raw scores of two ways cannot be compared, so of text windows that went different ways it is the one that
    is the highest as the decision shows it.
    """
    reading = (verdict.score, verdict.way)
    if yardstick.fast is None or verdict.score is None:
        return reading
    readings = [(window.score, window.answered_in or verdict.way) for window in verdict.by_window]
    return max(
        (one for one in readings if one[0] is not None),
        key=lambda one: read_score(one[0], yardstick.of(one[1]))[0] or 0.0,
        default=reading,
    )


def read_score(raw: float | None, yardstick: Yardstick) -> tuple[float | None, ScoreKind | None]:
    """A raw score as a decision shows it, and its kind."""
    if raw is None:
        return None, None
    if yardstick.curve is None:
        return _rounded(raw), "raw"
    return _rounded(yardstick.curve.score(raw)), "calibrated"


def apply_policy(
    verdict: Verdict, shown: float | None, chosen: ChosenPolicy, yardstick: Yardstick
) -> tuple[Action, tuple[CategoryDecision, ...]]:
    """The action, and the categories that the verdict names or scores, in the policy's order of codes.

    `shown` is the verdict's score as the decision shows it.
    """
    if verdict.by_window:
        return _worst_of_windows(verdict, chosen, yardstick)
    yardstick = yardstick.of(verdict.way)
    codes = {code.casefold() for code in verdict.codes}
    scores = {code.casefold(): score for code, score in verdict.category_scores.items()}
    categories = []
    action: Action = "allow"
    overall = shown if shown is not None else float(verdict.label == "unsafe")
    named = codes | scores.keys()
    for name, category in chosen.by_code.items() if named else ():
        if name not in named:
            continue
        score, kind = _category_score(scores.get(name), verdict.score, shown, yardstick)
        threshold = yardstick.by_code[name]
        violated = (overall if score is None else score) >= threshold
        categories.append(
            CategoryDecision(
                code=category.code,
                threshold=threshold,
                violated=violated,
                score=score,
                score_kind=kind,
            )
        )
        if violated and SEVERITY[category.action] > SEVERITY[action]:
            action = category.action
    if not categories and overall >= yardstick.threshold and (shown is not None or verdict.label == "unsafe"):
        action = chosen.strictest
    return action, tuple(categories)


def _worst_of_windows(
    verdict: Verdict, chosen: ChosenPolicy, yardstick: Yardstick
) -> tuple[Action, tuple[CategoryDecision, ...]]:
    """Each text window is weighed by itself: what is worst in one is not made milder by another."""
    weighed = []
    for window in verdict.by_window:
        way = window.answered_in or verdict.way
        alone = Verdict(
            label=window.label,
            score=window.score,
            codes=window.codes,
            category_scores=window.category_scores,
            answered_in=way,
        )
        shown, _ = read_score(window.score, yardstick.of(way))
        weighed.append(apply_policy(alone, shown, chosen, yardstick))
    actions = [action for action, _ in weighed]
    if verdict.windows_unjudged:
        actions.append(chosen.policy.on_unjudged)
    named: dict[str, CategoryDecision] = {}
    for category in (category for _, categories in weighed for category in categories):
        other = named.get(category.code)
        if other is None or _how_sure(category) > _how_sure(other):
            named[category.code] = category
    ordered = [named[category.code] for category in chosen.by_code.values() if category.code in named]
    return max(actions, key=SEVERITY.__getitem__), tuple(ordered)


def _category_score(
    own: float | None, raw: float | None, shown: float | None, yardstick: Yardstick
) -> tuple[float | None, ScoreKind | None]:
    """A category's score as a decision shows it, and its kind: calibrated only where it is the message's."""
    if own is None:
        return None, None
    if raw is None or shown is None:
        return _rounded(own), "raw"
    if own >= raw:
        return shown, "raw" if yardstick.curve is None else "calibrated"
    return _rounded(shown * own / raw), "raw"


def _how_sure(category: CategoryDecision) -> tuple[bool, float]:
    # Without a score of its own it has that of its window, which is not known here.
    return category.violated, 1.0 if category.score is None else category.score


def answer_of(judgement: Judgement, guard: GuardUsed, *, shared: bool) -> tuple[Judged | NotJudged, Source]:
    """What a judgement means for one who asked; `shared`: another event's question was answered.

    The one who asked first bears the tokens.
    """
    kept = judgement.kept
    if isinstance(kept, Unjudged):
        return NotJudged(kept, guard), Source() if shared else _cost(kept.steps)
    judged = Judged(kept.verdict, guard, kept.verdict.rationale)
    if shared:
        return judged, Source(CacheUse(hit=True, origin_decision=judgement.decision_id, age_ms=0.0))
    return judged, _cost(kept.verdict.steps)


def _cost(steps: tuple[Step, ...]) -> Source:
    tokens = Tokens(
        prompt=sum(step.prompt_tokens for step in steps),
        completion=sum(step.completion_tokens for step in steps),
    )
    return Source(tokens=tokens, steps=steps)


@lru_cache(maxsize=4096)  # the broker stamps a whole batch with one time
def moment(timestamp_ms: int) -> datetime:
    """The broker's timestamp as a time."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def _rounded(score: float | None) -> float | None:
    # Digits beyond are noise of the engine's arithmetic.
    return None if score is None else round(score, SCORE_DIGITS)
