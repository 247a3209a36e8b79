"""Bytes → lines → messages, or the reason why a line holds none. Quotes nothing of a line but field names."""

from __future__ import annotations

import hmac
import os
import re
import select
from typing import Final

import msgspec

from guard.prompt import Turn
from schemas.event import Event
from schemas.identifiers import Identifier, Role
from workers.errors import UsageError
from workers.moderation.outcome import Rejection
from workers.moderation.read_event import EventLimits, context_over_limit, decode_event, invalid, over_limit

# Bytes that are read at a time; a file of short lines gives some hundreds of lines.
_CHUNK_BYTES: Final = 65_536
# How often a reader that waits for more looks whether it shall stop, in seconds.
_LOOK_S: Final = 0.2
# Hexadecimal digits of a line's MAC: enough to tell lines of one file apart, 64 bits.
_MAC_DIGITS: Final = 16
_IDENTIFIER: Final = "expected 1 to 256 characters, none of them a control character"
_ROLE: Final = "expected `user` or `assistant`"
_EXPECTED: Final[dict[str, str]] = {
    "$": "expected an event, or an object with `text`",
    "$.text": "expected a string",
    "$.id": _IDENTIFIER,
    "$.role": _ROLE,
    "$.policy": _IDENTIFIER,
    "$.context": "expected a list of turns",
    "$.context[...]": "expected an object with `role` and `text`",
    "$.context[...].role": _ROLE,
    "$.context[...].text": "expected a string",
}
# A name that is written out is short and plain, since a file may come from anywhere.
_UNKNOWN: Final = re.compile(
    r"\AObject contains unknown field `([A-Za-z_][A-Za-z0-9_]{0,31})`(?: - at `(\$\.context\[\d+\])`)?\Z"
)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line that is not empty."""

    number: int
    """Where it stands, from 1; empty lines count."""
    value: bytes | None
    """Without white space around it; None when it is too long."""
    size: int
    """Bytes."""
    mac: str
    """A keyed digest of the line as it came, by which a later run knows it again."""
    end: int
    """Bytes of the file up to its end."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a line asks."""

    turns: tuple[Turn, ...]
    """As they came, oldest first; the last one is judged."""
    id: str | None = None
    """The event's, or the line's own."""
    tenant: str | None = None
    """Of an event."""
    policy: str | None = None
    """Id of the policy that the line names."""


class LineSplitter:
    """Cuts bytes into lines, however they come in chunks. Holds at most one line of `most_bytes`."""

    def __init__(self, key: bytes, most_bytes: int) -> None:
        self._key, self._most_bytes = key, most_bytes
        self._number = self._size = self._end = 0
        self._held = bytearray()
        self._long: hmac.HMAC | None = None  # of a line over the limit, which is not held

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that the chunk completes."""
        *whole, rest = chunk.split(b"\n")
        lines = []
        for part in whole:
            self._take(part)
            self._end += 1
            lines += self._close()
        self._take(rest)
        return lines

    def finish(self) -> list[Line]:
        """The last line, where nothing ends it."""
        return self._close() if self._size else []

    def _take(self, part: bytes) -> None:
        self._size += len(part)
        self._end += len(part)
        if self._long is None and self._size <= self._most_bytes:
            self._held += part
            return
        if self._long is None:
            self._long = hmac.new(self._key, self._held, "sha256")
            self._held.clear()
        self._long.update(part)

    def _close(self) -> list[Line]:
        self._number += 1
        raw, size, long = bytes(self._held), self._size, self._long
        self._held.clear()
        self._size, self._long = 0, None
        value = raw.strip()
        if long is None and not value:
            return []
        mac = hmac.digest(self._key, raw, "sha256").hex() if long is None else long.hexdigest()
        return [
            Line(
                number=self._number,
                value=value if long is None else None,
                size=size,
                mac=mac[:_MAC_DIGITS],
                end=self._end,
            )
        ]


class Source:
    """The lines of an open file or pipe."""

    def __init__(self, descriptor: int, splitter: LineSplitter, name: str) -> None:
        self._descriptor, self._splitter, self.name = descriptor, splitter, name
        self._over = False

    def more(self) -> list[Line]:
        """The next lines, 1 or more; none at the end, or when it was stopped. Waits; raises `UsageError`."""
        while not self._over:
            if not select.select([self._descriptor], [], [], _LOOK_S)[0]:
                continue
            try:
                chunk = os.read(self._descriptor, _CHUNK_BYTES)
            except OSError as error:
                raise UsageError(f"{self.name}: {error.strerror}") from error
            lines = self._splitter.feed(chunk) if chunk else self._splitter.finish()
            self._over = self._over or not chunk
            if lines:
                return lines
        return []

    def stop(self) -> None:
        """Give no more, from any thread."""
        self._over = True


class _Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Role
    text: str


class _Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line that is no event."""

    text: str
    id: Identifier | None = None
    role: Role | None = None
    context: tuple[_Turn, ...] = ()
    policy: Identifier | None = None


class _Shape(msgspec.Struct, frozen=True):
    """What tells an event from a line with `text`."""

    message: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    event_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    text: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_TOLD: Final = msgspec.json.Decoder(_Told)
_SHAPE: Final = msgspec.json.Decoder(_Shape)


def read_line(line: Line, limits: EventLimits, role: Role) -> Message | Rejection:
    """The message of a line, or why there is none; never raises. `role` is of lines that name none."""
    if line.value is None:
        return over_limit("$", "bytes", limits.event_bytes, line.size)
    if not _is_event(line.value):
        return _told(line.value, limits, role)
    event = decode_event(line.value, limits)
    return event if isinstance(event, Rejection) else _of_event(event)


def _is_event(value: bytes) -> bool:
    try:
        shape = _SHAPE.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    named = shape.event_id is not msgspec.UNSET and shape.text is msgspec.UNSET
    return named or shape.message is not msgspec.UNSET


def _of_event(event: Event) -> Message:
    turns = [Turn(role=turn.role, text=turn.text) for turn in event.context]
    turns.append(Turn(role=event.message.role, text=event.message.text))
    return Message(turns=tuple(turns), id=event.event_id, tenant=event.tenant, policy=event.policy)


def _told(value: bytes, limits: EventLimits, role: Role) -> Message | Rejection:
    try:
        told = _TOLD.decode(value)
    except msgspec.ValidationError as error:
        return _unknown_field(error) or invalid(error, _EXPECTED)
    except msgspec.DecodeError:
        return Rejection("undecodable", "$", "expected JSON")
    except UnicodeDecodeError:
        return Rejection("undecodable", "$", "expected JSON in UTF-8")
    except RecursionError:
        return Rejection("undecodable", "$", "expected JSON of moderate depth; this is nested too deeply")
    if len(told.text) > limits.text_chars:
        return over_limit("$.text", "characters", limits.text_chars, len(told.text))
    turns = tuple(Turn(role=turn.role, text=turn.text) for turn in told.context)
    over = context_over_limit(turns, limits)
    if over is not None:
        return over
    message = Turn(role=told.role or role, text=told.text)
    return Message(turns=(*turns, message), id=told.id, policy=told.policy)


def _unknown_field(error: msgspec.ValidationError) -> Rejection | None:
    if not str(error).startswith("Object contains unknown field"):
        return None
    match = _UNKNOWN.match(str(error))
    if match is None:
        return Rejection("invalid", "$", "expected no fields but those that are known")
    place, known = ("$", _Told) if match[2] is None else (match[2], _Turn)
    names = ", ".join(f"`{name}`" for name in known.__struct_fields__)
    return Rejection("invalid", f"{place}.{match[1]}", f"no such field is known; expected only {names}")
