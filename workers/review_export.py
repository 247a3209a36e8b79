"""Reviews and the events that they judge, joined to rows that the trainer reads.

A row has the fields of the data sets that the trainer knows: the turns before the message and the message,
the reviewer's label and categories. It is written only where the event at the review's coordinates is the one
that was decided: the decision's id covers the event's id and its place.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from schemas.decision import PolicyUsed, decision_id
from schemas.event import Event
from schemas.identifiers import Label, Role, Timestamp
from schemas.keys import record_key
from schemas.policy import judgement_hash, policy_hash
from schemas.review import Review
from workers.adapters.origins import Gone
from workers.adapters.topics_io import Record
from workers.moderation.outcome import Rejection
from workers.moderation.read_event import EventLimits, decode_event
from workers.policies import NoPolicy, PolicySet
from workers.redrive_account import Named

SOURCE: Final = "reviews"
# The limits of today are no reason to leave out what was judged under other ones.
_NO_LIMITS: Final = EventLimits(
    event_bytes=sys.maxsize, text_chars=sys.maxsize, context_turns=sys.maxsize, context_chars=sys.maxsize
)
_SPLIT: Final = b"rsafe reviews split 1\0"
_GROUP: Final = b"rsafe reviews group 2\0"
_DIGITS: Final = 32


class ExportedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a row."""

    role: Role
    content: str


class Meta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a row comes from. No tenant, conversation, author or reviewer, and none of their ids."""

    review_id: str
    decision_id: str
    reviewed_at: Timestamp
    """When the review was made: of rows with one id in several exports the latest counts."""
    group: str
    """The same for all rows of one conversation, and for no others; tells nothing of it without the key."""
    policy: str | None = None
    """Id of the policy by which it was judged."""
    policy_version: str | None = None
    judgement_hash: str | None = None
    policy_from: Literal["review", "settings"] | None = None
    """Who named the policy: the review, or else the settings in force, as a worker would choose it today."""
    lang: str | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the export."""

    id: str
    source: str = SOURCE
    split: Literal["train", "dev"]
    kind: Literal["prompt", "response", "conversation"]
    messages: tuple[ExportedMessage, ...]
    """The judged one last; as it came, not normalised."""
    label: Label
    categories: tuple[str, ...]
    licence: str
    meta: Meta


@dataclass(slots=True)
class Account:
    """What became of the records and reviews, counted."""

    records: int = 0
    """Records of the reviews topic."""
    not_reviews: Counter[str] = field(default_factory=Counter)
    """Of these, by reason: `empty`, `undecodable`, `invalid`."""
    unreadable: Named = field(default_factory=Named)
    superseded: int = 0
    """Reviews behind which a later one of the same decision stands."""
    rows: Counter[str] = field(default_factory=Counter)
    """Rows by label."""
    gone: Counter[str] = field(default_factory=Counter)
    """Reviews whose event is not there, by reason: `expired`, `absent`, `refused`."""
    not_events: Counter[str] = field(default_factory=Counter)
    """Reviews whose coordinates hold no event, or another one than was decided (`other_event`), by reason."""
    without_policy: int = 0
    """Rows of which neither the review nor the settings name a policy."""

    def report(self) -> dict[str, Any]:
        """All counts, by their names."""
        return {
            "records": self.records,
            "not_reviews": dict(self.not_reviews),
            "superseded": self.superseded,
            "rows": dict(self.rows),
            "gone": dict(self.gone),
            "not_events": dict(self.not_events),
            "without_policy": self.without_policy,
        }


class Reviews:
    """The latest review of each decision, by the place of its event."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[tuple[float, int, int, int], Review]] = {}

    def add(self, record: Record, account: Account) -> None:
        """Take up a record of the reviews topic; count it where it is no review."""
        account.records += 1
        review = decode_review(record.value)
        if isinstance(review, str):
            account.not_reviews[review] += 1
            account.unreadable.add(record)
            return
        # By when it was made: a tool that was cut off may publish an older one late. Then by its place.
        moment = (review.reviewed_at.timestamp(), record.timestamp_ms, record.partition, record.offset)
        before = self._latest.get(review.decision_id)
        if before is not None:
            account.superseded += 1
        if before is None or moment > before[0]:
            # The note is not exported, and may be long.
            self._latest[review.decision_id] = moment, msgspec.structs.replace(review, note=None)

    def __len__(self) -> int:
        return len(self._latest)

    def by_place(self) -> dict[tuple[str, int], dict[int, list[Review]]]:
        """Topic and partition → offset → reviews, those of one event in order of their decisions."""
        found: dict[tuple[str, int], dict[int, list[Review]]] = defaultdict(dict)
        for _, (_, review) in sorted(self._latest.items()):
            origin = review.origin
            found[origin.topic, origin.partition].setdefault(origin.offset, []).append(review)
        return dict(found)


def decode_review(value: bytes | None) -> Review | Literal["empty", "undecodable", "invalid"]:
    """The review that a record's value holds, or why it holds none. Never raises."""
    if not value:
        return "empty"
    try:
        return msgspec.json.decode(value, type=Review)
    except msgspec.ValidationError:
        return "invalid"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "undecodable"


@dataclass(frozen=True, slots=True)
class RowForm:
    """What all rows have in common. `dev_share`: of the conversations, from 0 to 1, that go to `dev`.

    `key` is the content key: without one, whoever has a row could try out ids of conversations.
    """

    policies: PolicySet
    licence: str
    dev_share: float
    key: bytes

    def row(self, review: Review, event: Event) -> Row:
        """The row of an event that a review judges."""
        message, key = event.message, record_key(event.tenant, event.conversation_id)
        turns = [ExportedMessage(role=turn.role, content=turn.text) for turn in event.context]
        turns.append(ExportedMessage(role=message.role, content=message.text))
        used, named_by = self._policy(review, event)
        return Row(
            id=f"{SOURCE}-{review.decision_id[:_DIGITS]}",
            split="dev" if _share(key) < self.dev_share else "train",
            kind=_kind(turns),
            messages=tuple(turns),
            label=review.label,
            categories=review.categories,
            licence=self.licence,
            meta=Meta(
                review_id=review.review_id,
                decision_id=review.decision_id,
                reviewed_at=review.reviewed_at,
                group=hmac.digest(self.key, _GROUP + key, "sha256").hex()[:_DIGITS],
                policy=None if used is None else used.id,
                policy_version=None if used is None else used.version,
                judgement_hash=None if used is None else used.judgement_hash,
                policy_from=named_by,
                lang=message.language,
            ),
        )

    def _policy(
        self, review: Review, event: Event
    ) -> tuple[PolicyUsed | None, Literal["review", "settings"] | None]:
        if review.policy is not None:
            return review.policy, "review"
        chosen = self.policies.choose(event.tenant, event.policy)
        if isinstance(chosen, NoPolicy):
            return None, None
        used = PolicyUsed(
            id=chosen.id,
            version=chosen.version,
            policy_hash=policy_hash(chosen),
            judgement_hash=judgement_hash(chosen),
        )
        return used, "settings"


def join(
    found: Iterable[Record | Gone],
    reviews: Mapping[tuple[str, int], Mapping[int, list[Review]]],
    form: RowForm,
    account: Account,
) -> Iterator[Row]:
    """A row for each review whose event is there and is the one that was decided; the others are counted."""
    for one in found:
        judged = reviews[one.topic, one.partition][one.offset]
        if isinstance(one, Gone):
            account.gone[one.why] += len(judged)
            continue
        event = decode_event(one.value, _NO_LIMITS)
        if isinstance(event, Rejection):
            account.not_events[event.reason] += len(judged)
            continue
        for review in judged:
            if decision_id(origin=review.origin, event_id=event.event_id) != review.decision_id:
                account.not_events["other_event"] += 1
                continue
            row = form.row(review, event)
            account.rows[row.label] += 1
            account.without_policy += row.meta.policy is None
            yield row


def _kind(turns: list[ExportedMessage]) -> Literal["prompt", "response", "conversation"]:
    match [turn.role for turn in turns]:
        case ["user"]:
            return "prompt"
        case ["user", "assistant"]:
            return "response"
        case _:
            return "conversation"


def _share(key: bytes) -> float:
    """A number from 0 to below 1, always the same for a conversation."""
    return int.from_bytes(hashlib.sha256(_SPLIT + key).digest()[:4], "big") / 2**32
