"""What passes between the steps, which do not know each other: a question, its answer, its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from guard.calibration import Curve
from guard.scores import RawBand
from guard.serving.call_trace import TracedCall
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.decision import (
    CacheUse,
    CategoryDecision,
    Decision,
    GuardUsed,
    Origin,
    PolicyUsed,
    ScoreKind,
    Status,
    Tokens,
)
from schemas.event import Event
from schemas.identifiers import Action, Label, Role, Way
from schemas.policy import Category, Policy
from schemas.verdict import Step, Unjudged, Verdict
from workers.moderation.trace import Trace
from workers.ports import CachedVerdict, Record

SEVERITY: Final[dict[Action, int]] = {"allow": 0, "flag": 1, "review": 2, "block": 3}


class Rejection(msgspec.Struct, frozen=True):
    """Why a record is no event: a reason code, the field (`$` is the record) and what was expected."""

    reason: DeadLetterReason
    field: str
    sentence: str


class Yardstick(msgspec.Struct, frozen=True):
    """How the scores of one role's messages are read under a policy, rates resolved to scores."""

    curve: Curve | None
    """From raw to calibrated; None: scores stay raw."""
    threshold: float
    by_code: dict[str, float]
    """The threshold of each category, by code in lower case."""
    fast: Yardstick | None = None
    """With `adaptive`, for what was answered at once; this one is then for what was thought about."""

    def of(self, way: Way) -> Yardstick:
        """The one for a verdict that came about so."""
        return self.fast if way == "fast" and self.fast is not None else self


class ChosenPolicy(msgspec.Struct, frozen=True):
    """A policy, and what is worked out of it once instead of once an event."""

    policy: Policy
    used: PolicyUsed
    surfaces: frozenset[Role]
    by_code: dict[str, Category]
    """Categories by code in lower case, in the order in which the model reads them."""
    strictest: Action
    """The most severe action of any category."""
    yardsticks: dict[Role, Yardstick]
    """For each role that is judged."""
    uncertain: dict[Role, RawBand]
    """With `adaptive`, the band in force for each role that is judged; else empty."""
    asking: str
    """What of the policy changes an answer: equal texts, comparable verdicts."""
    mapping: str = ""
    """What the codes of a guard with a taxonomy of its own mean under the policy; empty where it reads it."""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """An event under the policy that was in force when it was read."""

    record: Record
    event: Event
    chosen: ChosenPolicy
    origin: Origin
    decision_id: str
    line: bytes
    """Key of the decision: publications of one conversation keep their order."""
    content_mac: str
    context_digest: str
    cache_key: str
    read_at_ms: float
    trace: Trace
    read: Event
    """The event as the guard reads it: the same object where its texts were normal already."""


class Judged(msgspec.Struct, frozen=True, gc=False):
    """A verdict, remembered or new, and who gave it."""

    verdict: Verdict
    guard: GuardUsed
    rationale: str


class NotJudged(msgspec.Struct, frozen=True, gc=False):
    """No verdict: `guard` is absent when nothing was asked."""

    unjudged: Unjudged
    guard: GuardUsed | None = None


class NotApplicable(msgspec.Struct, frozen=True, gc=False):
    """The policy does not judge messages of this role."""


Answer = Judged | NotJudged | NotApplicable


class Weighed(msgspec.Struct, frozen=True, gc=False):
    """An answer under a policy: the part of a decision that is the same for every event with this answer."""

    status: Status
    action: Action
    guard: GuardUsed | None = None
    reason: str | None = None
    detail: str | None = None
    label: Label | None = None
    answered_in: Way | None = None
    score: float | None = None
    score_kind: ScoreKind | None = None
    raw_score: float | None = None
    threshold: float | None = None
    categories: tuple[CategoryDecision, ...] = ()
    rationale: str | None = None
    windows: int = 1
    windows_unjudged: int = 0
    turns_left_out: int = 0


class Took(msgspec.Struct, frozen=True, gc=False):
    """Milliseconds from read to question, from question to answer, from read to decision."""

    queue_ms: float = 0.0
    guard_ms: float = 0.0
    total_ms: float = 0.0


class Violated(NamedTuple):
    """What a decision acts on: the codes of the violated categories, none where it is the overall score."""

    action: Action
    codes: tuple[str, ...]


def violated_of(action: Action, categories: Sequence[CategoryDecision]) -> Violated | None:
    """What a judged decision acts on; None where nothing is violated."""
    codes = tuple(category.code for category in categories if category.violated)
    return Violated(action, codes) if codes or action != "allow" else None


class Source(msgspec.Struct, frozen=True, gc=False):
    """Whence an answer comes, and what it cost this event."""

    cache: CacheUse = CacheUse(hit=False)
    tokens: Tokens = Tokens()
    steps: tuple[Step, ...] = ()


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """What one question to the guard gave, for everybody who shares it."""

    decision_id: str
    """Of the event that was the first to ask."""
    kept: CachedVerdict | Unjudged
    asked_s: float
    guard_s: float
    elsewhere: bool = False
    """Whether another worker asked, and `kept` is what it remembered."""
    calls: tuple[TracedCall, ...] = ()
    """Of the engine, where the one who asked is traced."""


class Decided(msgspec.Struct, frozen=True, gc=False):
    """An event became a decision."""

    decision: Decision
    asked: Asked


class DeadLettered(msgspec.Struct, frozen=True, gc=False):
    """A record could not become a decision."""

    letter: DeadLetter
    record: Record


Outcome = Decided | DeadLettered
