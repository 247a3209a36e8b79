"""A verdict: what the guard said of one question. Cacheable; no thresholds applied."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.identifiers import CategoryCode, Count, Label, Milliseconds, Mode, Probability, Way

UnjudgedReason = Literal[
    "unparseable",  # the completion does not follow the grammar; `detail` says how
    "prompt_too_long",  # the question does not fit the model's length
    "timed_out",  # no answer within the hard deadline of a guard call
    "late",  # the event's or the policy's deadline had passed
    "engine_failed",  # the engine refused or failed, after bounded retries
    "unavailable",  # the guard is down and the policy does not hold
]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the engine."""

    mode: Mode
    """How the model was asked."""
    prompt_tokens: Count
    """Tokens of the prompt."""
    completion_tokens: Count
    """Tokens of the answer."""
    finish_reason: str
    """Why the engine stopped: `stop`, `length` and the like."""
    took_ms: Milliseconds = 0.0
    """Milliseconds of the call, tries that failed included."""
    cached_tokens: Count = 0
    """Of the prompt's tokens, those that the engine had from earlier prompts (prefix caching)."""


class WindowVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard says of one text window."""

    label: Label
    """The model's word."""
    score: Probability | None
    """p(unsafe) at the verdict token, raw; absent where the engine gives no log-probs."""
    codes: tuple[CategoryCode, ...] = ()
    """Categories that the model named."""
    category_scores: dict[CategoryCode, Probability] = {}
    """p(violated) of each category that may be meant, raw, where the guard is asked for it."""
    answered_in: Way | None = None
    """Which way this window's verdict came about; absent: that of the verdict."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard says; raw, so that thresholds can change without judging again.

    Of a message in text windows it is the worst of what was said of each: `unsafe` when one is, the highest
    score, all codes, and the rationale of the worst window.
    """

    label: Label
    """The model's word."""
    score: Probability | None
    """p(unsafe) at the verdict token, raw; absent where the engine gives no log-probs."""
    codes: tuple[CategoryCode, ...] = ()
    """Categories that the model named; of several text windows in canonical order."""
    category_scores: dict[CategoryCode, Probability] = {}
    """p(violated) of each category that may be meant, raw, where the guard is asked for it; up to `score`."""
    rationale: str = ""
    """The model's reasoning, masked as the setting says."""
    mode: Mode = "think"
    """The mode in which the question was asked."""
    steps: tuple[Step, ...] = ()
    """Calls of the engine, in order."""
    windows: Count = 1
    """Text windows into which the message was cut; 1: it was not."""
    turns_left_out: Count = 0
    """Earlier turns that the guard did not see."""
    by_window: tuple[WindowVerdict, ...] = ()
    """Of several text windows each one's, the last of the text first, without those that got no verdict."""
    answered_in: Way | None = None
    """Which way the verdict, and its score, came about; absent: the mode's own."""

    @property
    def way(self) -> Way:
        """As `answered_in`, also of a verdict that was kept before there was such a field."""
        return self.answered_in or ("fast" if self.mode == "fast" else "think")

    @property
    def windows_unjudged(self) -> int:
        """Text windows without a verdict, where another one is unsafe."""
        return max(0, self.windows - len(self.by_window)) if self.by_window else 0


class Unjudged(msgspec.Struct, frozen=True, kw_only=True):
    """The question got no verdict. Never cached, never `safe`."""

    reason: UnjudgedReason
    """Why there is no verdict."""
    detail: str = ""
    """More about the reason in stable words; never message text."""
    steps: tuple[Step, ...] = ()
    """Calls of the engine, in order."""
    windows: Count = 1
    """Text windows into which the message was cut; 1: it was not."""
    turns_left_out: Count = 0
    """Earlier turns that the guard did not see."""
