"""A decision: what is published about an event (topic `moderation.decisions`). Never holds the text.

Fields marked `x-volatile` may differ between two decisions with one id; all others agree, unless one of
the two is unjudged. The first one counts.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from schemas.identifiers import (
    Action,
    CategoryCode,
    Count,
    Identifier,
    Label,
    Lane,
    Milliseconds,
    Mode,
    Probability,
    Role,
    Sha256,
    Timestamp,
    Way,
)
from schemas.verdict import Step

VOLATILE: Final = {"x-volatile": True}
Status = Literal["judged", "unjudged", "not_applicable"]
ScoreKind = Literal["raw", "calibrated"]


class Origin(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where the event stood."""

    topic: str
    """Topic of the event."""
    partition: Count
    """Partition of the event."""
    offset: Count
    """Offset of the event."""


class CategoryDecision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A category that the verdict names, or that the mode scored."""

    code: CategoryCode
    """Code in the policy."""
    threshold: Probability
    """Threshold that was applied: the category's, else the policy's; a rate is resolved to a score."""
    violated: bool
    """Whether the category counts as violated."""
    score: Annotated[Probability | None, Meta(extra_json_schema=VOLATILE)] = None
    """p(violated), where the guard was asked for it; at most the message's score."""
    score_kind: ScoreKind | None = None
    """`calibrated` where it is the message's score, and that is; else `raw`; absent without a score."""


class PolicyUsed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The policy that was in force when the event was read."""

    id: Identifier
    """Id of the policy."""
    version: Identifier
    """Version that its author gave it."""
    policy_hash: Sha256
    """Hash of the rules as an auditor reads them."""
    judgement_hash: Sha256
    """Hash of what the model read."""


class GuardUsed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which guard answered, and how it was asked."""

    model: str
    """Name of the model."""
    checkpoint_digest: str
    """Digest of every file of the checkpoint."""
    weights_digest: str
    """Digest of what changes an answer: weights, tokenizer, configuration, template."""
    verified: bool
    """Whether the files were compared with the checkpoint's manifest."""
    template_version: str
    """Version of the prompt template."""
    parser_version: str
    """Version of the grammar of answers."""
    engine: str
    """What ran the model; `scripted` is a stand-in without a model."""
    engine_version: str
    """Version of the engine."""
    mode: Mode
    """How the guard was asked."""
    decoding: str
    """Canonical text of the decoding parameters, and of how texts are normalised before."""
    calibration_digest: Sha256 | None = None
    """Digest of the calibration by which scores of this mode are read; absent where they stay raw."""


class CacheUse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whether the verdict was remembered."""

    hit: bool
    """The verdict came from the cache or was shared with an identical question."""
    origin_decision: Sha256 | None = None
    """Id of the decision for which it was judged."""
    age_ms: Milliseconds | None = None
    """How old the verdict was."""


class Coverage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How much of the conversation was judged."""

    windows: Count = 1
    """Text windows into which the message was cut for the guard; 1: it was not cut."""
    windows_unjudged: Count = 0
    """Of these, the ones without a verdict where another one is unsafe."""
    turns_left_out: Count = 0
    """Earlier turns that the guard did not see."""
    context_digest: Sha256
    """HMAC of the turns before the message as the guard read them, keyed per tenant."""


class Timings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Milliseconds."""

    lag_ms: float
    """From the broker's timestamp to the read; negative when the clocks differ."""
    queue_ms: Milliseconds
    """From the read to the question to the guard."""
    guard_ms: Milliseconds
    """From the question to the answer."""
    total_ms: Milliseconds
    """From the read to the decision."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the model read and wrote."""

    prompt: Count = 0
    """Tokens of the prompts."""
    completion: Count = 0
    """Tokens of the answers."""


class Decision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one event.

    First what is the event's own, then, from `status`, what all events with one answer under one policy have
    in common, then, from `cache`, what is volatile.
    """

    decision_id: Sha256
    """Hash of the event's coordinates; a second delivery gives the same."""
    origin: Origin
    """Where the event stood."""
    event_id: Identifier
    """Id of the event."""
    tenant: Identifier
    """Customer to whom the conversation belongs."""
    conversation_id: Identifier
    """Conversation within the tenant."""
    message_id: Identifier
    """Id of the message that was judged."""
    author: Identifier
    """Pseudonym of the author."""
    role: Role
    """Who spoke."""
    sent_at: Timestamp
    """When the message was sent, by the chat system's clock."""
    received_at: Timestamp
    """The broker's timestamp of the event."""
    content_mac: Sha256
    """HMAC of the text as it came, keyed per tenant: equal texts have equal values."""
    message_revision: Count | None = None
    """Revision of the message that was judged; of the decisions about one message the highest counts."""
    language: Annotated[str, Meta(max_length=35)] | None = None
    """BCP 47 tag that the event gave."""
    coverage: Coverage
    """How much of the conversation was judged."""
    status: Status
    """`judged`, `unjudged` (no verdict was to be had) or `not_applicable` (outside the policy's surfaces)."""
    action: Action
    """What is to be done with the message."""
    policy: PolicyUsed
    """The policy that was applied."""
    guard: GuardUsed | None = None
    """Which guard answered; absent when nothing was asked."""
    reason: str | None = None
    """Why unjudged or not applicable; one of a few stable words."""
    detail: str | None = None
    """More about the reason; never message text."""
    label: Label | None = None
    """The model's word; the score decides, both are recorded."""
    answered_in: Way | None = None
    """How the guard answered: at once, or after a rationale; of several text windows, as to `score`."""
    score: Annotated[Probability | None, Meta(extra_json_schema=VOLATILE)] = None
    """p(unsafe), which the thresholds are compared with."""
    score_kind: ScoreKind | None = None
    """Whether the score was calibrated on held-out data."""
    raw_score: Annotated[Probability | None, Meta(extra_json_schema=VOLATILE)] = None
    """p(unsafe) as the model gave it; absent unless `score` is calibrated."""
    threshold: Probability | None = None
    """Threshold of the policy; a false-positive rate is resolved to a score."""
    categories: tuple[CategoryDecision, ...] = ()
    """Categories that the verdict names, or that the mode scored."""
    rationale: str | None = None
    """The model's reasoning; spans shared with the input are blanked unless a setting says otherwise."""
    lane: Lane = "live"
    """`live`, or a second opinion that enforces nothing."""
    epoch: Count = 0
    """0; a replay counts up."""
    supersedes: Sha256 | None = None
    """Id of the decision that this one replaces; of an edited message `message_revision` says it."""
    cache: Annotated[CacheUse, Meta(extra_json_schema=VOLATILE)]
    """Whether the verdict was remembered."""
    timings: Annotated[Timings, Meta(extra_json_schema=VOLATILE)]
    """Where the time went."""
    tokens: Annotated[Tokens, Meta(extra_json_schema=VOLATILE)] = Tokens()
    """What the model read and wrote."""
    steps: Annotated[tuple[Step, ...], Meta(extra_json_schema=VOLATILE)] = ()
    """Calls of the engine that were made for this event, in order; none where the verdict was remembered."""
    trace_id: Annotated[str | None, Meta(extra_json_schema=VOLATILE)] = None
    """Trace of the event, from `traceparent`."""


def decision_id(*, origin: Origin, event_id: str, lane: Lane = "live", epoch: int = 0) -> str:
    """SHA-256 (hex) of the event's coordinates, as a JSON array without spaces.

    A redelivery gives the same id, whatever changed meanwhile.
    """
    content = [origin.topic, origin.partition, origin.offset, event_id, lane, epoch]
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def replaces(new: Decision, old: Decision) -> bool:
    """Whether `new` takes the place of `old`: both are about one message in one lane, and `new` is of a later
    revision of it, or names `old` in `supersedes`.

    A message without a revision is older than all of its revisions. Needs no more than the two decisions, so
    that whoever reads them in another order, or twice, comes to the same.
    """
    if (new.tenant, new.conversation_id, new.message_id, new.lane) != (
        old.tenant,
        old.conversation_id,
        old.message_id,
        old.lane,
    ):
        return False
    later, earlier = (-1 if one.message_revision is None else one.message_revision for one in (new, old))
    return later > earlier or (later == earlier and new.supersedes == old.decision_id)
