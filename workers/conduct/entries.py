"""What travels on the topic by which decisions come together, and its keys.

A decision that counts goes to its author first, who passes it on: a person who was forgotten stays forgotten
in every count. Corrections go to the decision that they correct, which knows where it was counted. Of an
edited message, its later revisions correct the decisions on the earlier ones; the message knows them all.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec

from schemas.conduct import Scope
from schemas.decision import Decision
from schemas.identifiers import Action, Role

# A correction by a later decision outweighs every review, which was of the earlier one.
SUPERSEDED: Final = 2**53 - 1
_KEY: Final = b"rsafe conduct 1\0"
_AUTHOR: Final = b"rsafe conduct author 1\0"
_AUTHOR_DIGITS: Final = 24
_MESSAGE: Final = b"rsafe conduct message 1\0"
Kind = Literal[Scope, "decision", "message"]
# Of a message without a revision, which is older than all of its revisions.
UNREVISED: Final = -1


class Subject(msgspec.Struct, frozen=True):
    """Whose decisions are added up; or, with `decision`, the decision whose places are remembered; or, with
    `message`, the message of which the newest revision is."""

    kind: Kind
    tenant: str
    """Empty for a decision, of which its id says enough."""
    id: str

    @property
    def key(self) -> bytes:
        """Hash of the three, hex: neither the topic's keys nor its changelog's tell an author's id."""
        content = msgspec.json.encode([self.kind, self.tenant, self.id])
        return hashlib.sha256(_KEY + content).hexdigest().encode()


def author_digest(tenant: str, author: str) -> str:
    """A short name of an author within counts that are not the author's own."""
    content = msgspec.json.encode([tenant, author])
    return hashlib.sha256(_AUTHOR + content).hexdigest()[:_AUTHOR_DIGITS]


def message_subject(decision: Decision) -> Subject:
    """The message that a decision is about, within its lane: what `schemas.decision.replaces` compares."""
    content = msgspec.json.encode([decision.conversation_id, decision.message_id, decision.lane])
    return Subject("message", decision.tenant, hashlib.sha256(_MESSAGE + content).hexdigest())


class _Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="entry", omit_defaults=True):
    subject: Subject
    """Of whose state this changes something; its key is the record's."""


class Strike(_Entry, frozen=True, kw_only=True, tag="strike"):
    """A decision that has weight under some rule."""

    decision: str
    at_ms: int
    """When the message was sent, but never later than the broker had it."""
    seen_ms: int
    """When the broker had the message."""
    policy: str
    action: Action
    role: Role
    author: str
    """Digest of the author."""
    codes: tuple[str, ...] = ()
    """Violated categories."""
    places: tuple[Subject, ...] = ()
    """Where else it counts, and its message; the author, and the decision's own record, are told of them."""
    revision: int = UNREVISED
    """Of the message."""
    rules: tuple[str, ...] = ()
    """Hashes of the rules that count it (`rules`)."""


class Correction(_Entry, frozen=True, kw_only=True, tag="correction"):
    """A decision does not count, or counts again. The one with the largest `version` is in force."""

    decision: str
    void: bool
    version: int
    """Milliseconds since 1970 of the review, or `SUPERSEDED`."""
    id: str = ""
    """Breaks the tie of two reviews in one millisecond."""
    at_ms: int
    """Event time of the decision where known, else of the correction: how long it has to be remembered."""


class Revision(_Entry, frozen=True, kw_only=True, tag="revision"):
    """A message was edited: decisions on its earlier revisions do not count."""

    revision: int
    at_ms: int
    """Event time of the decision on this revision."""
    seen_ms: int = 0
    """When the broker had it."""


class Forget(_Entry, frozen=True, kw_only=True, tag="forget"):
    """Nothing of an author that the broker had by then counts any more, nor ever will."""

    until_ms: int


class Drop(_Entry, frozen=True, kw_only=True, tag="drop"):
    """Decisions are taken out without a trace, as though they had not been."""

    decisions: tuple[str, ...]


class Erase(_Entry, frozen=True, kw_only=True, tag="erase"):
    """Every decision of an author goes out of all states of the partition in which this lies; there is one in
    each. What the author's state passed on before lies before it, and what counts again lies behind it."""

    author: str
    """Digest of the author."""


class Sweep(_Entry, frozen=True, kw_only=True, tag="sweep"):
    """What has expired by then is deleted."""

    by_ms: int
    """By the broker's times."""


Entry = Strike | Correction | Revision | Forget | Erase | Drop | Sweep
_DECODER: Final[msgspec.json.Decoder[Entry]] = msgspec.json.Decoder(Entry)
_ENCODER: Final = msgspec.json.Encoder()


def encode(entry: Entry) -> bytes:
    """The value of a record."""
    return _ENCODER.encode(entry)


def decode(value: bytes | None) -> Entry | None:
    """The entry of a record's value, or None where it holds none. Never raises."""
    try:
        return _DECODER.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # ValidationError is a DecodeError
        return None
