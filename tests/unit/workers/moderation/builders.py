"""Events, policies and what hangs on them, for tests of the steps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from guard.calibration import Curve, FalsePositives, Scales
from schemas.decision import GuardUsed, Origin, decision_id
from schemas.event import Event, Message, Turn
from schemas.identifiers import Mode, Role
from schemas.keys import record_key
from schemas.policy import Category, Policy
from schemas.verdict import Step, Verdict
from workers.moderation.choose_policy import RAW, PolicyBook
from workers.moderation.fingerprint import TenantFingerprints
from workers.moderation.normalise_event import as_read
from workers.moderation.outcome import Asked, ChosenPolicy
from workers.moderation.read_event import EventLimits
from workers.moderation.trace import NO_TRACE
from workers.policies import PolicySet
from workers.ports import Record

LIMITS = EventLimits(event_bytes=10_000, text_chars=500, context_turns=4, context_chars=800)
GUARD = GuardUsed(
    model="m",
    checkpoint_digest="c" * 64,
    weights_digest="w" * 64,
    verified=True,
    template_version="t-1",
    parser_version="p-1",
    engine="scripted",
    engine_version="1",
    mode="think",
    decoding="greedy",
)
FINGERPRINTS = TenantFingerprints(b"key")


def make_event(**changes: Any) -> Event:
    message: dict[str, Any] = {
        "id": "m-1",
        "role": "user",
        "author": "a-1",
        "text": "hello there",
        "sent_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    message |= {name: changes.pop(name) for name in list(changes) if name in Message.__struct_fields__}
    base: dict[str, Any] = {"event_id": "e-1", "tenant": "acme", "conversation_id": "c-1"}
    return Event(**(base | changes), message=Message(**message))


def make_turn(text: str, role: Any = "user") -> Turn:
    return Turn(role=role, text=text)


def make_policy(**changes: Any) -> Policy:
    base: dict[str, Any] = {
        "id": "p-1",
        "version": "1",
        "categories": (
            Category(code="C1", title="one", definition="first", action="flag"),
            Category(code="C2", title="two", definition="second", action="block", threshold=0.8),
            Category(code="C3", title="three", definition="third", action="review"),
        ),
    }
    return Policy(**(base | changes))


def make_curve(**changes: Any) -> Curve:
    """Raw 0.5 is calibrated 0.3; one safe row in a hundred has a raw score of 0.9 or more."""
    base: dict[str, Any] = {
        "safe": 1000,
        "unsafe": 1000,
        "raw": (0.0, 0.5, 1.0),
        "calibrated": (0.1, 0.3, 0.9),
        "false_positives": FalsePositives(rates=(0.01, 0.1, 1.0), scores=(0.9, 0.6, 0.0)),
    }
    return Curve(**(base | changes))


def make_scales(curve: Curve | None = None, modes: Sequence[Mode] = ("fast", "think")) -> Scales:
    """One curve for every role in some modes."""
    roles: tuple[Role, ...] = ("user", "assistant")
    used = curve or make_curve()
    curves = {(mode, role): used for mode in modes for role in roles}
    return Scales(why_raw="nobody fitted it", digest="d" * 64, curves=curves)


def make_book(
    *policies: Policy, default: Policy | None = None, unknown: Any = "dead_letter", scales: Scales = RAW
) -> PolicyBook:
    everyone = [*policies, *([default] if default else [])]
    return PolicyBook(
        PolicySet(
            by_id=MappingProxyType({policy.id: policy for policy in everyone}),
            by_tenant=MappingProxyType({policy.tenant: policy for policy in everyone if policy.tenant}),
            default=default,
            unknown=unknown,
        ),
        scales,
    )


def make_chosen(*, scales: Scales = RAW, **changes: Any) -> ChosenPolicy:
    chosen = make_book(default=make_policy(**changes), scales=scales).choose(make_event())
    assert isinstance(chosen, ChosenPolicy)
    return chosen


def make_record(value: bytes | None = b"{}", **changes: Any) -> Record:
    base: dict[str, Any] = {
        "topic": "chat.events",
        "partition": 1,
        "offset": 7,
        "key": b"acme/c-1",
        "value": value,
        "headers": None,
        "timestamp_ms": 1_000_000,
    }
    return Record(**(base | changes))


def make_asked(event: Event | None = None, chosen: ChosenPolicy | None = None, **changes: Any) -> Asked:
    event = event or make_event()
    record = changes.pop("record", None) or make_record()
    origin = Origin(topic=record.topic, partition=record.partition, offset=record.offset)
    base: dict[str, Any] = {
        "record": record,
        "event": event,
        "chosen": chosen or make_chosen(),
        "origin": origin,
        "decision_id": decision_id(origin=origin, event_id=event.event_id),
        "line": record_key(event.tenant, event.conversation_id),
        "content_mac": FINGERPRINTS.of(event.tenant).text(event.message.text),
        "context_digest": FINGERPRINTS.of(event.tenant).context(event.context),
        "cache_key": "key",
        "read_at_ms": 1_000_500.0,
        "trace": NO_TRACE,
        "read": as_read(event),
    }
    return Asked(**(base | changes))


def make_verdict(**changes: Any) -> Verdict:
    base: dict[str, Any] = {
        "label": "safe",
        "score": 0.1,
        "steps": (Step(mode="think", prompt_tokens=10, completion_tokens=5, finish_reason="stop"),),
    }
    return Verdict(**(base | changes))
