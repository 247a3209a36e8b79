"""Step 1, read event: bytes → event, or the reason why not. Never raises.

A rejection quotes nothing of the record: field names and expectations are our own words.
"""

from __future__ import annotations

import re
from typing import Final

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
_FIELDS: Final = frozenset(path.rpartition(".")[2] for path in _EXPECTED)
_DECODER: Final = msgspec.json.Decoder(Event)


class EventLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The largest event: bytes of the record, characters of texts, turns of context."""

    event_bytes: int
    text_chars: int
    context_turns: int
    context_chars: int


def decode_event(value: bytes | None, limits: EventLimits) -> Event | Rejection:
    """The event that a record's value holds, within the limits."""
    if not value:
        return Rejection("empty", "$", "the record has no value; expected an event")
    if len(value) > limits.event_bytes:
        return _over("$", "bytes", limits.event_bytes, len(value))
    try:
        event = _DECODER.decode(value)
    except msgspec.ValidationError as error:
        return _invalid(error)
    except msgspec.DecodeError:
        return Rejection("undecodable", "$", "expected JSON")
    except UnicodeDecodeError:
        return Rejection("undecodable", "$", "expected JSON in UTF-8")
    except RecursionError:
        return Rejection("undecodable", "$", "expected JSON of moderate depth; this is nested too deeply")
    if len(event.message.text) > limits.text_chars:
        return _over("$.message.text", "characters", limits.text_chars, len(event.message.text))
    return (_context_over_limit(event, limits) or event) if event.context else event


def _context_over_limit(event: Event, limits: EventLimits) -> Rejection | None:
    if len(event.context) > limits.context_turns:
        return _over("$.context", "turns", limits.context_turns, len(event.context))
    total = 0
    for index, turn in enumerate(event.context):
        if len(turn.text) > limits.text_chars:
            return _over(f"$.context[{index}].text", "characters", limits.text_chars, len(turn.text))
        total += len(turn.text)
    if total > limits.context_chars:
        return _over("$.context", "characters in all", limits.context_chars, total)
    return None


def _over(field: str, unit: str, limit: int, found: int) -> Rejection:
    return Rejection("over_limit", field, f"expected at most {limit} {unit}, found {found}")


def _invalid(error: msgspec.ValidationError) -> Rejection:
    message, cause = str(error), error.__cause__
    match = _PATH.search(message)
    path = match[1] if match else "$"
    if isinstance(cause, FieldError):
        path = ".".join([path, *map(str, cause.path)])
    missing = _MISSING.match(message)
    if missing and missing[1] in _FIELDS:
        field = f"{path}.{missing[1]}"
        expectation = _EXPECTED.get(_general(field), "expected a value")
        return Rejection("invalid", field, f"the field is missing; {expectation}")
    general = _general(path)
    if general not in _EXPECTED:
        return Rejection("invalid", "$", _EXPECTED["$"])
    return Rejection("invalid", path, _EXPECTED[general])


def _general(path: str) -> str:
    return re.sub(r"\[\d+\]", "[...]", path)
