"""`rsafe judge --explain`: what was in the prompt, and how its answer became an action."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from guard.calibration import Scales
from guard.serving.explanation import PromptRead, PromptsRead, TurnRead
from guard.serving.judge import Seen
from guard.serving.question import Question
from schemas.decision import GuardUsed
from schemas.identifiers import Mode
from schemas.policy import Category, Policy, canonical_categories
from schemas.verdict import Unjudged, Verdict
from workers.moderation.make_decision import read_score, weigh, worst_reading
from workers.moderation.outcome import ChosenPolicy, Judged, NotJudged, Yardstick
from workers.terminal import harmless


class WindowRead(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt, and what the guard said to it."""

    prompt: PromptRead
    label: str | None = None
    score: float | None = None
    """As the decision would show it."""
    raw_score: float | None = None
    unjudged: str | None = None
    """Why there is no verdict."""


class ScoreRead(msgspec.Struct, frozen=True, kw_only=True):
    """From the model's own score to the one that is compared."""

    raw: float | None
    shown: float | None
    safe_rows: int | None = None
    """Rows of the curve that was applied; None: the score stays raw."""
    unsafe_rows: int | None = None
    calibration_digest: str | None = None
    why_raw: str = ""


class ThresholdRead(msgspec.Struct, frozen=True, kw_only=True):
    """A score from which something counts as a violation, and whence it is."""

    of: str
    """`policy`, or a category's code."""
    score: float
    origin: str


class CategoryRead(msgspec.Struct, frozen=True, kw_only=True):
    """A category that the verdict names, or scores."""

    code: str
    violated: bool


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    turns: tuple[TurnRead, ...]
    categories: dict[str, str]
    """Titles by code, in the order in which the model reads them."""
    system: str
    system_tokens: int
    opening: str
    opening_tokens: int
    mark: str
    prompts: tuple[WindowRead, ...]
    score: ScoreRead
    thresholds: tuple[ThresholdRead, ...]
    """The policy's, then those of categories with one of their own."""
    named: tuple[CategoryRead, ...]
    action: str
    steps: tuple[dict[str, Any], ...]


def explain_verdict(
    read: PromptsRead,
    question: Question,
    outcome: Verdict | Unjudged,
    seen: Seen | None,
    chosen: ChosenPolicy,
    scales: Scales,
    used: GuardUsed,
) -> Explanation:
    """What was read, what came of it, and what the policy makes of that."""
    role = question.turns[-1].role
    ways = chosen.yardsticks[role]
    raw, way = (None, None) if isinstance(outcome, Unjudged) else worst_reading(outcome, ways)
    yardstick = ways if way is None else ways.of(way)
    outcomes: Sequence[Verdict | Unjudged] = () if seen is None else seen.outcomes
    known = NotJudged(outcome, used) if isinstance(outcome, Unjudged) else Judged(outcome, used, "")
    weighed = weigh(known, chosen, role)
    return Explanation(
        turns=read.turns,
        categories={one.code: one.title for one in canonical_categories(question.policy)},
        system=read.system,
        system_tokens=read.system_tokens,
        opening=read.opening,
        opening_tokens=read.opening_tokens,
        mark=read.mark,
        prompts=tuple(_window(prompt, one, ways) for prompt, one in zip(read.prompts, outcomes, strict=True)),
        score=_score(raw, way or question.mode, yardstick, scales),
        thresholds=tuple(_thresholds(question.policy, yardstick)),
        named=tuple(CategoryRead(code=one.code, violated=one.violated) for one in weighed.categories),
        action=weighed.action,
        steps=tuple(msgspec.to_builtins(step) for step in outcome.steps),
    )


def _window(prompt: PromptRead, outcome: Verdict | Unjudged, yardstick: Yardstick) -> WindowRead:
    if isinstance(outcome, Unjudged):
        return WindowRead(prompt=prompt, unjudged=outcome.reason)
    score, _ = read_score(outcome.score, yardstick.of(outcome.way))
    return WindowRead(prompt=prompt, label=outcome.label, score=score, raw_score=outcome.score)


def _score(raw: float | None, way: Mode, yardstick: Yardstick, scales: Scales) -> ScoreRead:
    shown, _ = read_score(raw, yardstick)
    curve = yardstick.curve
    if curve is None:
        return ScoreRead(raw=raw, shown=shown, why_raw=scales.why(way))
    return ScoreRead(
        raw=raw,
        shown=shown,
        safe_rows=curve.safe,
        unsafe_rows=curve.unsafe,
        calibration_digest=scales.digest_of(way),
    )


def _thresholds(policy: Policy, yardstick: Yardstick) -> Iterator[ThresholdRead]:
    yield ThresholdRead(of="policy", score=yardstick.threshold, origin=_origin(policy))
    for category in canonical_categories(policy):
        if category.threshold is not None or category.max_false_positive_rate is not None:
            score = yardstick.by_code[category.code.casefold()]
            yield ThresholdRead(of=category.code, score=score, origin=_origin(category))


def _origin(one: Policy | Category) -> str:
    if one.max_false_positive_rate is None:
        return "threshold"
    return f"max_false_positive_rate {one.max_false_positive_rate:g}"


def explanation_lines(explanation: Explanation) -> Iterator[str]:
    """The same for people, harmless for a terminal.

    Lines of a prompt that come from people begin with `>`, those of the policy and of the frame with `|`.
    """
    yield ""
    for number, turn in enumerate(explanation.turns, start=1):
        yield f"turn {number:<6} {_turn(turn)}"
        for what, characters in (("gone", turn.gone), ("new", turn.new)):
            if characters:
                yield f"            {what}: " + ", ".join(f"{name} ({n})" for name, n in characters.items())
    codes = ", ".join(f"{code} {title}" for code, title in explanation.categories.items())
    yield harmless(
        f"policy      {explanation.system_tokens} tokens with the task, "
        f"{len(explanation.categories)} categories: {codes}"
    )
    yield from _margin("|", explanation.system)
    if not explanation.prompts:
        yield "prompt      none: nothing was asked"
    for number, window in enumerate(explanation.prompts, start=1):
        several = f" {number} of {len(explanation.prompts)}" if len(explanation.prompts) > 1 else ""
        yield f"{'prompt' + several:<11} {_prompt(window, explanation)}"
        yield from _margin(">", window.prompt.conversation)
    yield from _margin("|", explanation.opening)
    yield f"score       {_score_line(explanation.score)}"
    for threshold in explanation.thresholds:
        of = "the policy's" if threshold.of == "policy" else f"{threshold.of}'s own"
        yield f"threshold   {threshold.score:g}, {of} {threshold.origin}"
    named = ", ".join(
        f"{one.code} {'violated' if one.violated else 'below its threshold'}" for one in explanation.named
    )
    yield f"action      {explanation.action}" + (f": {named}" if named else "")
    for number, step in enumerate(explanation.steps, start=1):
        yield harmless(f"step {number:<6} " + ", ".join(f"{name} {value}" for name, value in step.items()))


def _turn(turn: TurnRead) -> str:
    told = [turn.role + (", judged" if turn.judged else "")]
    if not turn.kept:
        told.append("left out")
    elif turn.tokens is None:
        told.append("in text windows")
    else:
        told.append(f"{turn.tokens} tokens")
    told.append(f"{turn.characters:,} characters")
    if turn.gone or turn.new or turn.characters != turn.characters_read:
        told.append(f"{turn.characters_read:,} as read")
    return ", ".join(told)


def _prompt(window: WindowRead, explanation: Explanation) -> str:
    prompt = window.prompt
    between = prompt.tokens - explanation.system_tokens - explanation.opening_tokens
    told = [f"{prompt.tokens} tokens, {between} of them the conversation"]
    if prompt.span is not None:
        told.append(f"characters {prompt.span[0]:,} to {prompt.span[1]:,}")
    if window.unjudged is not None:
        told.append(f"unjudged: {window.unjudged}")
    elif len(explanation.prompts) > 1:
        score = "without a score" if window.score is None else f"{window.score:.4f}"
        told.append(f"{window.label} {score}")
    return ", ".join(told)


def _score_line(score: ScoreRead) -> str:
    if score.raw is None or score.shown is None:
        return "none"
    if score.safe_rows is None:
        return harmless(f"{score.shown:.6f} raw, since {score.why_raw}")
    return (
        f"{score.raw:.6f} raw, {score.shown:.6f} by the calibration's curve of {score.safe_rows:,} safe and "
        f"{score.unsafe_rows:,} unsafe rows"
    )


def _margin(sign: str, text: str) -> Iterator[str]:
    for line in text.removesuffix("\n").split("\n"):
        yield f"  {sign} {harmless(line)}".rstrip()
