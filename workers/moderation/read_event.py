"""Step 1, read event: bytes → event, or the reason why not. Never raises.

A rejection quotes nothing of the record: field names and expectations are our own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from schemas.event import Event
from schemas.identifiers import FieldError
from workers.moderation.outcome import Rejection

_IDENTIFIER: Final = "expected 1 to 256 characters, none of them a control character"
_ROLE: Final = "expected `user` or `assistant`"
_TEXT: Final = "expected a string"
_EXPECTED: Final[dict[str, str]] = {
    "$": "expected an object",
    "$.event_id": _IDENTIFIER,
    "$.tenant": _IDENTIFIER,
    "$.conversation_id": _IDENTIFIER,
    "$.message": "expected an object with `id`, `role`, `author`, `text` and `sent_at`",
    "$.message.id": _IDENTIFIER,
    "$.message.role": _ROLE,
    "$.message.author": _IDENTIFIER,
    "$.message.text": _TEXT,
    "$.message.sent_at": "expected a time as in RFC 3339, with an offset",
    "$.message.revision": "expected an integer from 0",
    "$.message.language": "expected a language tag of at most 35 characters",
    "$.context": "expected a list of turns",
    "$.context[...]": "expected an object with `role` and `text`",
    "$.context[...].role": _ROLE,
    "$.context[...].text": _TEXT,
    "$.context[...].author": _IDENTIFIER,
    "$.policy": _IDENTIFIER,
    "$.deadline_ms": "expected an integer from 1",
}
# msgspec ends a message with the path. Only paths of our own structs are matched, and only at the end, since
# an earlier part of the message may quote the record.
_PATH: Final = re.compile(r" - at `(\$[a-z_.]*(?:\[\d+\][a-z_.]*)?)`\Z")
_MISSING: Final = re.compile(r"\AObject missing required field `([a-z_]+)`")
_DECODER: Final = msgspec.json.Decoder(Event)


class EventLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The largest event: bytes of the record, characters of texts, turns of context."""

    event_bytes: int
    text_chars: int
    context_turns: int
    context_chars: int


class Spoken(Protocol):
    """A turn, of whatever kind."""

    @property
    def text(self) -> str: ...


def decode_event(value: bytes | None, limits: EventLimits) -> Event | Rejection:
    """The event that a record's value holds, within the limits."""
    if not value:
        return Rejection("empty", "$", "the record has no value; expected an event")
    if len(value) > limits.event_bytes:
        return over_limit("$", "bytes", limits.event_bytes, len(value))
    try:
        event = _DECODER.decode(value)
    except msgspec.ValidationError as error:
        return invalid(error, _EXPECTED)
    except msgspec.DecodeError:
        return Rejection("undecodable", "$", "expected JSON")
    except UnicodeDecodeError:
        return Rejection("undecodable", "$", "expected JSON in UTF-8")
    except RecursionError:
        return Rejection("undecodable", "$", "expected JSON of moderate depth; this is nested too deeply")
    if len(event.message.text) > limits.text_chars:
        return over_limit("$.message.text", "characters", limits.text_chars, len(event.message.text))
    return (context_over_limit(event.context, limits) or event) if event.context else event


def context_over_limit(context: Sequence[Spoken], limits: EventLimits) -> Rejection | None:
    """Why the turns before a message are too many or too long; None when they are not."""
    if len(context) > limits.context_turns:
        return over_limit("$.context", "turns", limits.context_turns, len(context))
    total = 0
    for index, turn in enumerate(context):
        if len(turn.text) > limits.text_chars:
            return over_limit(f"$.context[{index}].text", "characters", limits.text_chars, len(turn.text))
        total += len(turn.text)
    if total > limits.context_chars:
        return over_limit("$.context", "characters in all", limits.context_chars, total)
    return None


def over_limit(field: str, unit: str, limit: int, found: int) -> Rejection:
    """A value over a limit."""
    return Rejection("over_limit", field, f"expected at most {limit} {unit}, found {found}")


def invalid(error: msgspec.ValidationError, expected: Mapping[str, str]) -> Rejection:
    """What msgspec found, in our own words: what is expected at each path, `[...]` for any index."""
    message, cause = str(error), error.__cause__
    match = _PATH.search(message)
    path = match[1] if match else "$"
    if isinstance(cause, FieldError):
        path = ".".join([path, *map(str, cause.path)])
    missing = _MISSING.match(message)
    if missing and (general := _general(f"{path}.{missing[1]}")) in expected:
        return Rejection("invalid", f"{path}.{missing[1]}", f"the field is missing; {expected[general]}")
    general = _general(path)
    if general not in expected:
        return Rejection("invalid", "$", expected["$"])
    return Rejection("invalid", path, expected[general])


def _general(path: str) -> str:
    return re.sub(r"\[\d+\]", "[...]", path)
