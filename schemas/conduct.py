"""The `conduct` part of a policy: which decisions count how much, in which window, and what follows.

A decision's *weight* under a rule is the weight of its action times the largest factor among its violated
categories (1 where none of them is named). A *score* at the time t of a decision is the sum of the weights in
the window that ends at t, each halved per half-life since; or, with `counts: authors`, how many authors have
weight in it. `docs/concepts/conduct.md` computes an example by hand.

The whole part enters `policy_hash` and not `judgement_hash`: a changed rule keeps the cached verdicts.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from schemas.identifiers import Action, CategoryCode, FieldError, Role

Scope = Literal["author", "conversation", "text", "tenant"]
WindowKind = Literal["tumbling", "sliding"]
Counts = Literal["weight", "authors"]
Recommendation = Literal["warn", "mute", "suspend", "human_review"]

# The newest decisions that count of one author, conversation, text or tenant; the older ones are dropped.
# A thousand bounds a record of state (`workers.conduct.bounds`), and no level may ask for more than they can
# reach.
MOST_STRIKES: Final = 1_000
_YEAR_S: Final = 31_536_000
Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z][a-z0-9-]{0,63}(?![\s\S])",
        description="a lower-case letter, then up to 63 of a-z 0-9 -",
    ),
]
Weight = Annotated[float, Meta(ge=0.0, le=100.0)]
Seconds = Annotated[int, Meta(ge=1, le=_YEAR_S)]


class ActionWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a judged decision counts, by its action."""

    allow: Weight = 0.0
    """Of an allowed message; above 0 where harmless repetition matters, as in a raid with one text."""
    flag: Weight = 1.0
    """Of a flagged message."""
    review: Weight = 1.0
    """Of a message held for review."""
    block: Weight = 1.0
    """Of a blocked message."""

    def of(self, action: Action) -> float:
        """The weight of this action."""
        return {"allow": self.allow, "flag": self.flag, "review": self.review, "block": self.block}[action]


class Level(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A score and what is recommended from it on."""

    score: Annotated[float, Meta(gt=0.0, le=100_000.0)]
    """The least score of this level."""
    recommend: Recommendation
    """What is recommended; once per rule."""
    for_s: Seconds | None = None
    """For how long, in seconds from the decision that reached the level; absent: until a person ends it."""


class ConductRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is counted, and from which scores on something is recommended."""

    id: Name
    """Name of the rule, unique in the policy. A new name begins anew."""
    per: Scope
    """Whose decisions are added up; `text`: those of one text within the tenant, whoever sends it."""
    window_s: Seconds
    """Length of the window in seconds of event time."""
    levels: Annotated[tuple[Level, ...], Meta(min_length=1, max_length=4)]
    """What is recommended, by ascending score."""
    window: WindowKind = "sliding"
    """`sliding`: the seconds before each decision; `tumbling`: whole windows since 1970."""
    counts: Counts = "weight"
    """`weight`: the sum of weights; `authors`: how many authors have any."""
    actions: ActionWeights = ActionWeights()
    """Weights of actions."""
    categories: dict[CategoryCode, Weight] = {}
    """Factors of violated categories, by their code in the policy; those not named have 1."""
    half_life_s: Seconds | None = None
    """After how many seconds a decision counts half; absent: it counts whole until it leaves the window."""
    roles: Annotated[tuple[Role, ...], Meta(min_length=1)] = ("user",)
    """Whose messages count."""

    def __post_init__(self) -> None:
        if self.counts == "authors" and self.per == "author":
            raise FieldError("an author is one author; expected weight", "counts")
        if self.counts == "authors" and self.half_life_s is not None:
            raise FieldError("authors do not decay; expected nothing with counts: authors", "half_life_s")
        named: set[str] = set()
        for number, level in enumerate(self.levels):
            if level.recommend in named:
                raise FieldError(f"{level.recommend} stands twice", "levels", number, "recommend")
            named.add(level.recommend)
            if number and level.score <= self.levels[number - 1].score:
                raise FieldError("expected more than the level before", "levels", number, "score")
            if level.score > self.most:
                message = f"{MOST_STRIKES} decisions are kept, which reach {self.most:g} at most"
                raise FieldError(message, "levels", number, "score")

    @property
    def most(self) -> float:
        """The largest score that can be reached."""
        if self.counts == "authors":
            return MOST_STRIKES
        heaviest = max(self.actions.of(action) for action in ("allow", "flag", "review", "block"))
        return MOST_STRIKES * heaviest * max(1.0, *self.categories.values(), 0.0)


class Conduct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What authors and conversations come to when decisions add up."""

    rules: Annotated[tuple[ConductRule, ...], Meta(min_length=1, max_length=32)]
    """Each is counted by itself, over decisions made under this policy."""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for number, rule in enumerate(self.rules):
            if rule.id in seen:
                raise FieldError(f"the rule {rule.id!r} stands twice", "rules", number, "id")
            seen.add(rule.id)

    def require_codes(self, folded: Collection[str]) -> None:
        """Raises `FieldError` where a rule names a category that is not among these (casefolded)."""
        for number, rule in enumerate(self.rules):
            for code in rule.categories:
                if code.casefold() not in folded:
                    message = f"the policy has no category {code!r}"
                    raise FieldError(message, "conduct", "rules", number, "categories")
