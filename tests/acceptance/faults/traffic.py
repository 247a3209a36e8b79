"""What is published while faults happen: the demo's conversations without end, with some malformed records.

Marked events provoke something: an answer that takes its time, the death of the engine, a decision too large
for its topic. Their marks stand in the text and mean something only to a worker whose test hooks are armed.
"""

from __future__ import annotations

import itertools
import random
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from schemas.event import Event, Message
from schemas.policy import Policy
from tests.acceptance.events_from_data import Sent, as_sent
from tests.acceptance.evidence import DeadLetterDue
from tests.acceptance.malformed import SECRET, Limits, malformed_records
from workers.demo.traffic import demo_records

LIMITS: Final = Limits(event_bytes=200_000, text_chars=32_768, context_turns=64, context_chars=131_072)
SECRETS: Final = (SECRET, SECRET[::-1])
"""Texts of malformed records that a reader of JSON might not find."""
TENANT: Final = "riverside-chat"
POLICY: Final = "community"
_SENT_AT: Final = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
# Events of a lap share rooms and repeat each other's questions; the next lap draws others.
_LAP: Final = 400
_MALFORMED_EVERY: Final = 40
# Those over the limit of bytes would be most of what is sent.
_MOST_MALFORMED_BYTES: Final = 50_000


@dataclass(frozen=True, slots=True)
class Planned:
    """A record to publish. `due`: the dead letter that it must become; None: it must be decided."""

    sent: Sent
    due: DeadLetterDue | None = None
    late: bool = False
    """Whether it must come out unjudged, as `late`."""


def endless(
    policies: Mapping[str, Policy], seed: str, *, deadline_ms: int | None = None
) -> Iterator[Planned]:
    """Events with that deadline and, here and there, malformed records; the same for the same seed."""
    broken = malformed(seed)
    numbers = itertools.count(1)
    for lap in itertools.count():
        name = f"{seed}-{lap}"
        for record in demo_records(policies, count=_LAP, now=_SENT_AT, run=name, seed=_number(name)):
            if record.event is not None:
                yield Planned(as_sent(msgspec.structs.replace(record.event, deadline_ms=deadline_ms)))
            if next(numbers) % _MALFORMED_EVERY == 0:
                yield next(broken)


def malformed(seed: str) -> Iterator[Planned]:
    """Malformed records only, every kind in turn."""
    records = [one for one in malformed_records(LIMITS) if len(one.sent.value or b"") < _MOST_MALFORMED_BYTES]
    random.Random(seed).shuffle(records)
    return (Planned(one.sent, one.due) for one in itertools.cycle(records))


def overdue(rng: random.Random, deadline_ms: int) -> Planned:
    """An event that must be late; whoever adds it sees to it that nobody reads it before its deadline."""
    planned = marked("overdue:", rng)
    assert planned.sent.event is not None
    event = msgspec.structs.replace(planned.sent.event, deadline_ms=deadline_ms)
    return Planned(as_sent(event), late=True)


def marked(mark: str, rng: random.Random, *, due: DeadLetterDue | None = None) -> Planned:
    """An event whose text begins with a mark; no two are alike."""
    number = f"{rng.getrandbits(64):016x}"
    event = Event(
        event_id=f"marked-{number}",
        tenant=TENANT,
        conversation_id=f"marked-{number[:2]}",
        policy=POLICY,
        message=Message(
            id=f"m-{number}",
            role="user",
            author="quince",
            text=f"{mark} this one is out of the ordinary, number {number} of its kind",
            sent_at=_SENT_AT,
        ),
    )
    return Planned(as_sent(event), due)


def with_large_decision() -> Planned:
    """An event with long names that do not compress: its decision is some 1,300 bytes larger than others."""
    names = [secrets.token_urlsafe(190) for _ in range(4)]
    event = Event(
        event_id=names[0],
        tenant=names[1],
        conversation_id=names[2],
        policy=POLICY,
        message=Message(id=names[3], role="user", author=names[0], text="a word too many", sent_at=_SENT_AT),
    )
    return Planned(as_sent(event), DeadLetterDue("undeliverable"))


def _number(seed: str) -> int:
    return random.Random(seed).getrandbits(48)
