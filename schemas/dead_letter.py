"""A dead letter: the original record, untouched, with the reason in headers.

A record that does not fit even so is left out, and the letter names its place and its size.

Topic `moderation.dead-letters`.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from schemas.identifiers import Count

DeadLetterReason = Literal[
    "empty",  # the record has no value
    "undecodable",  # not JSON in UTF-8
    "invalid",  # JSON, but not an event
    "over_limit",  # an event larger than the limits in force
    "unknown_policy",  # the event names a policy that is not loaded
    "no_policy",  # no policy for the tenant and no default
    "undeliverable",  # the decision does not fit its topic
    "invalid_policy",  # a record of the topic of policies that cannot be used; the version before stays
    "poisoned",  # the guard, or the worker's own code, fails on it each time
]

HEADER_PREFIX: Final = "rsafe-"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """The headers that are added to a dead letter, as one struct. No message text in `sentence`."""

    topic: str
    """Topic of the original record."""
    partition: Count
    """Partition of the original record."""
    offset: Count
    """Offset of the original record."""
    reason: DeadLetterReason
    """Why it could not become a decision; a stable word."""
    sentence: str
    """What was found and what was expected, for people; never message text."""
    field: str = "$"
    """Path of the field at fault; `$` is the whole record."""
    timestamp_ms: int | None = None
    """Timestamp of the original record, milliseconds since 1970."""
    attempts: Count = 1
    """How often the record was tried."""
    left_out_bytes: Count = 0
    """Bytes of key, value and headers that did not fit and are left out: the record is at its place only."""


def dead_letter_headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """The struct as Kafka headers `rsafe-<field>`, in field order; absent values are left out."""
    return [
        (HEADER_PREFIX + name.replace("_", "-"), str(value).encode())
        for name in letter.__struct_fields__
        if (value := getattr(letter, name)) is not None
    ]


def read_dead_letter(headers: list[tuple[str, bytes | None]] | None) -> DeadLetter:
    """The inverse of `dead_letter_headers`; other headers are ignored.

    Raises `msgspec.ValidationError` when a header is missing or malformed.
    """
    found = {
        name.removeprefix(HEADER_PREFIX).replace("-", "_"): (value or b"").decode("utf-8", "replace")
        for name, value in headers or []
        if name.startswith(HEADER_PREFIX)
    }
    return msgspec.convert(found, DeadLetter, strict=False)
