"""What is remembered under one key. Decoded, changed as a copy, and written as a whole."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.identifiers import Action, Role
from workers.conduct.entries import UNREVISED, Subject


class Kept(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A decision that counts, as far as rules look at it."""

    at_ms: int
    policy: str
    action: Action
    role: Role
    author: str
    codes: tuple[str, ...] = ()
    places: tuple[Subject, ...] = ()
    """In the decision's own state: where it was counted."""
    revision: int = UNREVISED
    """Of the message."""
    rules: tuple[str, ...] = ()
    """Hashes of the rules that count it."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """The correction in force of one decision."""

    version: int
    id: str
    void: bool
    at_ms: int


class Raised(msgspec.Struct, frozen=True, array_like=True):
    """A level of a rule in one window."""

    turn: int
    in_force: bool
    id: str
    """Id of the last record of it."""
    start_ms: int
    reached_ms: int
    ends_ms: int | None
    """Until when it is recommended; None: until a person ends it."""


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of an author, a conversation, a text, a tenant, a decision or a message. A copy is made of what
    changes."""

    subject: Subject | None = None
    """None once the author was forgotten and nothing was counted since."""
    newest_ms: int = 0
    """Largest event time that was counted."""
    seen_ms: int = 0
    """The newest time at which the broker had a message that was counted: when this expires."""
    strikes: dict[str, Kept] = {}
    """By decision id."""
    marks: dict[str, Mark] = {}
    """By decision id; of decisions, too, that have not come yet."""
    raised: dict[str, Raised] = {}
    """By policy, rule, recommendation and start of the window."""
    cut_ms: int = 0
    """Largest event time of a decision that was dropped by number: up to then some are missing."""
    revision: int = UNREVISED
    """Of a message: the newest one of which there was a decision."""
    forgotten_ms: int | None = None
    """What the broker had by then is not counted; never deleted."""


_DECODER: Final = msgspec.json.Decoder(State)
_ENCODER: Final = msgspec.json.Encoder()


def encode_state(state: State) -> bytes:
    """As it is stored."""
    return _ENCODER.encode(state)


def decode_state(value: bytes) -> State:
    """The inverse. Raises `msgspec.DecodeError` for what no version of this wrote."""
    return _DECODER.decode(value)
