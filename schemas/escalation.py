"""An escalation: decisions of an author, a conversation, a text or a tenant add up to a rule's level.

Topic `moderation.escalations`. `escalation_id` hashes what an escalation is about, and nothing of how it came
to be counted: a second count of the same decisions gives the same ids. Fields marked `x-volatile` may differ
between two records with one id; the first one counts.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from schemas.conduct import Counts, Name, Recommendation, Scope, Seconds
from schemas.decision import VOLATILE
from schemas.identifiers import Count, Identifier, Sha256, Timestamp

Change = Literal["raised", "withdrawn"]
# Ids of decisions that a record names at most: review tools look at the newest, and records stay small.
MOST_NAMED: Final = 100


class RuleUsed(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that was reached."""

    policy: Identifier
    """Id of the policy."""
    version: Annotated[Identifier, Meta(extra_json_schema=VOLATILE)]
    """A version of the policy that has the rule; the first one that the counting process read."""
    rule: Name
    """Id of the rule within the policy."""


class Escalation(msgspec.Struct, frozen=True, kw_only=True):
    """A recommendation to people and tools: raised, or withdrawn because its decisions were corrected."""

    escalation_id: Sha256
    """Hash of subject, rule, level, window, turn and change."""
    change: Change
    """`raised`, or `withdrawn`: corrected decisions no longer reach the level."""
    tenant: Identifier
    """Customer to whom the subject belongs."""
    per: Scope
    """What kind of subject."""
    subject: Identifier
    """Author or conversation id, `content_mac` of the text, or the tenant."""
    rule: RuleUsed
    """The rule that was reached."""
    recommend: Recommendation
    """What is recommended."""
    window_start: Timestamp
    """Where the rule's window begins in which this is raised once: a multiple of `window_s` since 1970."""
    turn: Count = 0
    """How often it was withdrawn in this window before."""
    replaces: Sha256 | None = None
    """With `withdrawn`: the id of the record that is taken back."""
    for_s: Annotated[Seconds | None, Meta(extra_json_schema=VOLATILE)] = None
    """For how long it is recommended, in seconds from `reached_at`; absent: until a person ends it."""
    reached_at: Annotated[Timestamp, Meta(extra_json_schema=VOLATILE)]
    """Event time of the decision that reached the level."""
    score: Annotated[float, Meta(ge=0.0, extra_json_schema=VOLATILE)]
    """Score at that time; with `withdrawn`, the highest that is left."""
    level: Annotated[float, Meta(gt=0.0, extra_json_schema=VOLATILE)]
    """Score of the level."""
    counts: Annotated[Counts, Meta(extra_json_schema=VOLATILE)] = "weight"
    """What the score adds up."""
    decisions: Annotated[tuple[Sha256, ...], Meta(max_length=MOST_NAMED, extra_json_schema=VOLATILE)] = ()
    """The decisions that make up the score, the newest hundred, oldest first."""


def escalation_id(
    *,
    tenant: str,
    per: Scope,
    subject: str,
    policy: str,
    rule: str,
    rule_hash: str,
    recommend: Recommendation,
    window_start_ms: int,
    turn: int,
    change: Change,
) -> str:
    """SHA-256 (hex) of these, as a JSON array without spaces, in this order.

    `rule_hash`: of the rule's content, since a changed rule counts anew.
    """
    content = [tenant, per, subject, policy, rule, rule_hash, recommend, window_start_ms, turn, change]
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()
