"""Escalations and dead letters → records."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.dead_letter import DeadLetter, dead_letter_headers
from schemas.escalation import Escalation
from workers.conduct.intake import Unreadable

ESCALATION_TYPE: Final = "rsafe.moderation.escalation.v1"
Headers = list[tuple[str, bytes | None]]
_ENCODER: Final = msgspec.json.Encoder()


def escalation_record(made: Escalation, source: bytes) -> tuple[bytes, Headers]:
    """Value and CloudEvents headers (binary mode)."""
    return _ENCODER.encode(made), [
        ("ce_specversion", b"1.0"),
        ("ce_type", ESCALATION_TYPE.encode()),
        ("content-type", b"application/json"),
        ("ce_source", source),
        ("ce_id", made.escalation_id.encode()),
    ]


def letter_record(message: Any, why: Unreadable) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of the dead letter of a record, which is untouched in it."""
    letter = DeadLetter(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        reason=why.reason,
        sentence=why.sentence,
        field=why.field,
        timestamp_ms=int(message.timestamp * 1000),
    )
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return message.key, message.value, [*pairs, *dead_letter_headers(letter)]
