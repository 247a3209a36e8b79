"""A policy: what a tenant forbids, how it is judged, and what then happens.

Two hashes, SHA-256 over canonical JSON (RFC 8785):

- `policy_hash` covers every field except `examples`: the rules as an auditor reads them.
- `judgement_hash` covers what the model reads and nothing else (per category: code, title, definition,
  exceptions; in canonical order), so that a changed threshold keeps the cached verdicts.

Each field says in its schema (`x-enters`) which of the two it enters.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Final, Literal

import msgspec
import rfc8785
from msgspec import Meta

from schemas.conduct import Conduct
from schemas.identifiers import (
    CategoryCode,
    Count,
    FieldError,
    Identifier,
    Label,
    Mode,
    Positive,
    Probability,
    Role,
)

_BOTH: Final = {"x-enters": ["policy_hash", "judgement_hash"]}
_POLICY: Final = {"x-enters": ["policy_hash"]}
_NEITHER: Final[dict[str, Any]] = {"x-enters": []}

# Where a policy gives neither a threshold nor a rate.
DEFAULT_THRESHOLD: Final = 0.5
Rate = Annotated[float, Meta(gt=0.0, le=1.0)]
Text = Annotated[str, Meta(min_length=1, max_length=4000)]
CategoryAction = Literal["block", "flag", "review"]
OnUnjudged = Literal["review", "allow", "block"]
OnUnavailable = Literal["hold", "review", "allow", "block"]


_ONE_OF_TWO: Final = "expected either a threshold or a false-positive rate, not both"


class Crosswalk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of the same category in public taxonomies."""

    rsafe: tuple[str, ...] = ()
    """RSafe's codes, U1 to U18."""
    mlcommons: tuple[str, ...] = ()
    """MLCommons hazard codes as Llama Guard 3 numbers them, S1 to S14."""
    openai: tuple[str, ...] = ()
    """Category names of OpenAI's moderation endpoint."""
    qwen3guard: tuple[str, ...] = ()
    """Category names as Qwen3Guard-Gen writes them, such as `Violent` or `PII`."""


class Category(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that the policy forbids."""

    code: Annotated[CategoryCode, Meta(extra_json_schema=_BOTH)]
    """Short name that the model answers with; unique in the policy whatever the case."""
    title: Annotated[Text, Meta(extra_json_schema=_BOTH)]
    """Name of the category, a few words."""
    definition: Annotated[Text, Meta(extra_json_schema=_BOTH)]
    """What it covers; phrases separated by `; ` read best."""
    exceptions: Annotated[tuple[Text, ...], Meta(extra_json_schema=_BOTH)] = ()
    """What it does not cover."""
    action: Annotated[CategoryAction, Meta(extra_json_schema=_POLICY)] = "block"
    """What happens to a message that violates it."""
    threshold: Annotated[Probability | None, Meta(extra_json_schema=_POLICY)] = None
    """Score from which the category counts as violated; absent: the policy's, unless a rate is given."""
    max_false_positive_rate: Annotated[Rate | None, Meta(extra_json_schema=_POLICY)] = None
    """Instead of `threshold`: the largest share of safe messages that may reach the category's threshold."""
    crosswalk: Annotated[Crosswalk, Meta(extra_json_schema=_POLICY)] = Crosswalk()
    """The same category elsewhere."""

    def __post_init__(self) -> None:
        if self.threshold is not None and self.max_false_positive_rate is not None:
            raise FieldError(_ONE_OF_TWO, "max_false_positive_rate")


class Band(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fast scores of which an `adaptive` policy is unsure: from `low`, below `high`, or to 1."""

    low: Annotated[Probability, Meta(extra_json_schema=_POLICY)]
    """The least score of which it is not sure; calibrated where fast scores are, else raw."""
    high: Annotated[Probability, Meta(extra_json_schema=_POLICY)]
    """The score from which it is sure again; at least `low`."""

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise FieldError("expected at least the value of low", "high")


class PolicyExample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message and what the policy's author expects of it."""

    text: Text
    """The message."""
    label: Label
    """What the author expects."""
    role: Role = "user"
    """Who says it."""
    codes: tuple[CategoryCode, ...] = ()
    """Categories that an unsafe message violates."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules of a tenant (or of everybody, when `tenant` is absent)."""

    id: Annotated[Identifier, Meta(extra_json_schema=_POLICY)]
    """Name by which events and settings choose the policy; unique among all that are loaded."""
    version: Annotated[Identifier, Meta(extra_json_schema=_POLICY)]
    """Its author's count or date, kept in every decision."""
    categories: Annotated[tuple[Category, ...], Meta(min_length=1, max_length=64, extra_json_schema=_BOTH)]
    """What is forbidden; their order does not matter."""
    title: Annotated[str, Meta(max_length=200, extra_json_schema=_POLICY)] = ""
    """One line for people."""
    tenant: Annotated[Identifier | None, Meta(extra_json_schema=_POLICY)] = None
    """The tenant whose policy this is; absent: anybody may name it."""
    threshold: Annotated[Probability | None, Meta(extra_json_schema=_POLICY)] = None
    """Score from which a message counts as a violation; absent: 0.5, unless a rate is given."""
    max_false_positive_rate: Annotated[Rate | None, Meta(extra_json_schema=_POLICY)] = None
    """Instead of `threshold`: the largest share of safe messages that may reach the threshold."""
    surfaces: Annotated[
        tuple[Role, ...], Meta(min_length=1, extra_json_schema={**_POLICY, "uniqueItems": True})
    ] = ("user", "assistant")
    """Whose messages are judged; the others are allowed as `not_applicable`."""
    mode: Annotated[Mode, Meta(extra_json_schema=_POLICY)] = "think"
    """Whether the guard reasons before it answers (a part of the cache key of its own)."""
    uncertain_band: Annotated[Band | None, Meta(extra_json_schema=_POLICY)] = None
    """With `adaptive`: the fast scores at which the guard thinks; absent: those of the calibration."""
    on_unjudged: Annotated[OnUnjudged, Meta(extra_json_schema=_POLICY)] = "review"
    """What happens to a message that could not be judged: unparseable, late, too long."""
    on_unavailable: Annotated[OnUnavailable, Meta(extra_json_schema=_POLICY)] = "hold"
    """What happens while the guard is down; `hold` waits for it."""
    deadline_ms: Annotated[Positive | None, Meta(extra_json_schema=_POLICY)] = None
    """After how many milliseconds from the broker's timestamp a message is not judged any more."""
    cache_ttl: Annotated[Count | None, Meta(extra_json_schema=_POLICY)] = None
    """How many seconds a verdict is kept, 0 keeps none; absent: the setting says."""
    conduct: Annotated[Conduct | None, Meta(extra_json_schema=_POLICY)] = None
    """What authors and conversations come to when decisions add up; absent: nothing is counted."""
    examples: Annotated[tuple[PolicyExample, ...], Meta(extra_json_schema=_NEITHER)] = ()
    """Messages by which the author explains and tests the policy; the model does not read them."""

    def __post_init__(self) -> None:
        if self.max_false_positive_rate is None:
            if self.threshold is None:
                msgspec.structs.force_setattr(self, "threshold", DEFAULT_THRESHOLD)
        elif self.threshold is not None:
            raise FieldError(_ONE_OF_TWO, "max_false_positive_rate")
        seen: set[str] = set()
        for number, category in enumerate(self.categories):
            if category.code.casefold() in seen:
                message = f"the category code {category.code!r} stands twice (case does not matter)"
                raise FieldError(message, "categories", number, "code")
            seen.add(category.code.casefold())
        if len(set(self.surfaces)) != len(self.surfaces):
            raise FieldError("a role stands twice", "surfaces")
        if self.conduct is not None:
            self.conduct.require_codes(seen)
        for number, example in enumerate(self.examples):
            if example.label == "safe" and example.codes:
                raise FieldError("a safe example violates no category", "examples", number, "codes")
            for place, code in enumerate(example.codes):
                if code.casefold() not in seen:
                    message = f"the policy has no category {code!r}"
                    raise FieldError(message, "examples", number, "codes", place)


def canonical_categories(policy: Policy) -> tuple[Category, ...]:
    """The categories in the order that the model reads: by code, numbers by value (S2 before S10)."""
    return tuple(sorted(policy.categories, key=lambda category: _natural(category.code)))


def judgement_content(policy: Policy) -> list[dict[str, Any]]:
    """What the model reads of a policy, in canonical order."""
    return [
        {"code": c.code, "title": c.title, "definition": c.definition, "exceptions": list(c.exceptions)}
        for c in canonical_categories(policy)
    ]


def policy_hash(policy: Policy) -> str:
    """SHA-256 (hex) of every field but `examples`; category order does not matter."""
    content = msgspec.to_builtins(policy)
    del content["examples"]
    content["categories"] = [msgspec.to_builtins(c) for c in canonical_categories(policy)]
    for part in (content, *content["categories"]):
        # Left out where absent, so that policies without it keep the hash that they had before it existed.
        if part["max_false_positive_rate"] is None:
            del part["max_false_positive_rate"]
    for category in content["categories"]:
        if not category["crosswalk"]["qwen3guard"]:  # for the same reason
            del category["crosswalk"]["qwen3guard"]
    if content["uncertain_band"] is None:
        del content["uncertain_band"]
    if content["conduct"] is None:
        del content["conduct"]
    content["surfaces"] = sorted(policy.surfaces)
    return hashlib.sha256(rfc8785.dumps(content)).hexdigest()


def judgement_hash(policy: Policy) -> str:
    """SHA-256 (hex) of what the model reads."""
    return hashlib.sha256(rfc8785.dumps(judgement_content(policy))).hexdigest()


def _natural(code: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    parts = re.findall(r"\d+|\D+", code.casefold())
    # The code itself breaks the tie of `S1` and `S01`, or the order in the file would enter the hashes.
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts), code
