"""Steps 6 and 7 for a remembered verdict, as most events have one: its decision as bytes, never built.

The bytes are those of `make_decision`, encoded: a test holds the two together. What all events with the same
verdict under the same policy have in common is encoded once, and that is half of a decision.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.decision import Coverage, Decision, Timings, Tokens
from schemas.verdict import Verdict
from workers.moderation.make_decision import make_decision, moment
from workers.moderation.outcome import Asked, Source, Took, Weighed
from workers.moderation.recall_verdict import use_of
from workers.ports import CachedVerdict

_FIELDS: Final = Decision.__struct_fields__
_COMMON_FROM: Final = _FIELDS.index("status")
_VOLATILE_FROM: Final = _FIELDS.index("cache")


def _part(fields: tuple[str, ...]) -> Any:
    """A struct of some fields of a decision, given by position."""
    return msgspec.defstruct("Part", [(field, Any) for field in fields], gc=False)


_Own: Final = _part(_FIELDS[:_COMMON_FROM])
_Common: Final = _part(_FIELDS[_COMMON_FROM:_VOLATILE_FROM])
_Volatile: Final = _part(_FIELDS[_VOLATILE_FROM:])
_NO_TOKENS: Final = Tokens()
_encode: Final = msgspec.json.Encoder().encode


def in_common(asked: Asked, weighed: Weighed) -> bytes:
    """What the decisions about all events with this answer have in common, as it stands in them."""
    decision = make_decision(asked, weighed, Source(), Took())
    return _encode(_Common(*(getattr(decision, field) for field in _Common.__struct_fields__)))[1:-1]


def write_remembered(asked: Asked, cached: CachedVerdict, common: bytes, now_ms: float, took: Took) -> bytes:
    """The decision. Written out, since every event passes here."""
    record, event = asked.record, asked.event
    message = event.message
    read_at_ms = asked.read_at_ms
    own = _Own(
        asked.decision_id,
        asked.origin,
        event.event_id,
        event.tenant,
        event.conversation_id,
        message.id,
        message.author,
        message.role,
        message.sent_at,
        moment(record.timestamp_ms),
        asked.content_mac,
        message.revision,
        message.language,
        _coverage(cached.verdict, asked.context_digest),
    )
    volatile = _Volatile(
        use_of(cached, now_ms),
        Timings(
            lag_ms=read_at_ms - record.timestamp_ms,
            queue_ms=took.queue_ms,
            guard_ms=took.guard_ms,
            total_ms=took.total_ms,
        ),
        _NO_TOKENS,
        (),
        asked.trace.trace_id,
    )
    return b"%b,%b,%b" % (_encode(own)[:-1], common, _encode(volatile)[1:])


def _coverage(verdict: Verdict, context_digest: str) -> Coverage:
    if verdict.windows == 1 and not verdict.turns_left_out:  # nearly always
        return Coverage(context_digest=context_digest)
    return Coverage(
        windows=verdict.windows,
        windows_unjudged=verdict.windows_unjudged,
        turns_left_out=verdict.turns_left_out,
        context_digest=context_digest,
    )
