"""Record of the decisions or of the reviews topic → entries, none, or why it cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from schemas.conduct import ConductRule, Scope
from schemas.dead_letter import DeadLetterReason
from schemas.decision import Decision
from schemas.policy import Policy
from schemas.review import Review
from workers.conduct.entries import (
    SUPERSEDED,
    UNREVISED,
    Correction,
    Entry,
    Revision,
    Strike,
    Subject,
    author_digest,
    message_subject,
)
from workers.conduct.levels import RuleBook
from workers.conduct.score import weight_of

T = TypeVar("T")


_DECISION: Final = msgspec.json.Decoder(Decision)
_REVIEW: Final = msgspec.json.Decoder(Review)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a record goes to the dead letters. No message text in `sentence`."""

    reason: DeadLetterReason
    field: str
    sentence: str
    entries: Sequence[Entry] = ()
    """What the record leads to nevertheless."""


def decode_decision(value: bytes | None) -> Decision | Unreadable:
    """The decision of a record's value. Never raises."""
    return _read(_DECISION, value, "a decision")


def version_named(decision: Decision | Unreadable) -> str:
    """The `policy_hash` by whose rules it is counted; empty where it is not counted at all."""
    if isinstance(decision, Unreadable) or decision.lane == "shadow" or decision.status != "judged":
        return ""
    return decision.policy.policy_hash


def read_decision(value: bytes | None, book: RuleBook) -> Sequence[Entry] | Unreadable:
    """What a record of the decisions topic leads to; often nothing. Never raises."""
    decision = decode_decision(value)
    return decision if isinstance(decision, Unreadable) else entries_of(decision, book)


def entries_of(decision: Decision, book: RuleBook) -> Sequence[Entry] | Unreadable:
    """What a decision leads to; often nothing."""
    if decision.lane == "shadow":  # a second opinion, which enforces nothing
        return ()
    entries: list[Entry] = []
    at_ms = event_time_ms(decision)
    if decision.supersedes is not None:
        entries.append(
            Correction(
                subject=Subject("decision", "", decision.supersedes),
                decision=decision.supersedes,
                void=True,
                version=SUPERSEDED,
                at_ms=at_ms,
            )
        )
    if decision.message_revision is not None:
        entries.append(
            Revision(
                subject=message_subject(decision),
                revision=decision.message_revision,
                at_ms=at_ms,
                seen_ms=_seen_ms(decision),
            )
        )
    # What was not judged says nothing of its author, whatever is done with the message.
    if decision.status != "judged":
        return entries
    policy = book.policy(decision.tenant, decision.policy.id, decision.policy.policy_hash)
    if policy is None:
        expected = "expected the id of a policy that is loaded"
        return Unreadable("unknown_policy", "policy.id", expected, entries)
    strike = _strike(decision, policy, book.rules_of(policy), at_ms)
    return entries if strike is None else [*entries, strike]


def read_review(value: bytes | None) -> Sequence[Entry] | Unreadable:
    """What a record of the reviews topic leads to. Never raises."""
    review = _read(_REVIEW, value, "a review")
    if isinstance(review, Unreadable):
        return review
    version = int(review.reviewed_at.timestamp() * 1000)
    return [
        Correction(
            subject=Subject("decision", "", review.decision_id),
            decision=review.decision_id,
            void=review.label == "safe",
            version=version,
            id=review.review_id,
            at_ms=version,
        )
    ]


def event_time_ms(decision: Decision) -> int:
    """When the message was sent, but never later than the broker had it: a clock that is ahead, of a chat
    system or of a forger, must not make what others send look late."""
    return int(min(decision.sent_at.timestamp(), decision.received_at.timestamp()) * 1000)


def _seen_ms(decision: Decision) -> int:
    return int(decision.received_at.timestamp() * 1000)


def _strike(
    decision: Decision, policy: Policy, asked: Sequence[tuple[str, ConductRule]], at_ms: int
) -> Strike | None:
    # A policy has 64 at most; a record may have any number, each of them many times.
    known = {one.code.casefold(): one.code for one in policy.categories}
    violated = {one.code.casefold() for one in decision.categories if one.violated}
    codes = tuple(code for folded, code in known.items() if folded in violated)
    rules = [
        (name, rule) for name, rule in asked if weight_of(rule, decision.action, decision.role, codes) > 0
    ]
    if not rules:
        return None
    ids: dict[Scope, str] = {
        "conversation": decision.conversation_id,
        "text": decision.content_mac,
        "tenant": decision.tenant,
    }
    revision = decision.message_revision
    scopes = dict.fromkeys(rule.per for _, rule in rules if rule.per != "author")
    counts = [Subject(scope, decision.tenant, ids[scope]) for scope in scopes]
    return Strike(
        subject=Subject("author", decision.tenant, decision.author),
        decision=decision.decision_id,
        at_ms=at_ms,
        seen_ms=_seen_ms(decision),
        policy=policy.id,
        action=decision.action,
        role=decision.role,
        author=author_digest(decision.tenant, decision.author),
        codes=codes,
        places=(*counts, message_subject(decision)),
        revision=UNREVISED if revision is None else revision,
        rules=tuple(name for name, _ in rules),
    )


def _read(decoder: msgspec.json.Decoder[T], value: bytes | None, what: str) -> T | Unreadable:
    if not value:
        return Unreadable("empty", "$", f"expected {what}, found no value")
    try:
        return decoder.decode(value)
    except msgspec.ValidationError:
        # The library's own sentence may quote a value.
        return Unreadable("invalid", "$", f"expected {what} as its schema has it")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Unreadable("undecodable", "$", "expected JSON in UTF-8")
