"""What a run left on the topics and in the logs, read into values; and the shape of what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

from schemas.dead_letter import DeadLetter, read_dead_letter
from schemas.redrive import read_mark
from tests.acceptance.records import Place, Record

Json: TypeAlias = dict[str, Any]
Kind = Literal[
    "missing",  # an event with neither decision nor dead letter
    "both",  # an event that was decided and is a dead letter too
    "unexpected",  # a decision where a dead letter was due, or the other way round, or about no event
    "wrong_reason",  # a dead letter with another reason or field than expected
    "altered",  # a dead letter whose value, key or headers are not the original ones
    "unreadable",  # a decision that is no JSON object with an origin, a dead letter without its headers
    "wrong_fact",  # a decision that says something else of its event than the event does
    "wrong_id",  # two ids for one event, or one id for two events
    "disagreement",  # two decisions with one id differ in a field that is not volatile
    "order",  # the first decisions of a conversation stand in another order than its events
    "schema",  # a decision that its JSON Schema refuses
    "leak",  # a run of message text in a decision, in an added header, in a log line, or in a span
    "trace",  # a decision that is not in its event's trace, or whose way the trace does not show
]


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be. `detail` names fields, reasons and hashes only."""

    kind: Kind
    place: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.place}: {self.detail}"


@dataclass(frozen=True, slots=True)
class DeadLetterDue:
    """The dead letter that a record must become; `field` None: any."""

    reason: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision that could be read, and the record that carries it."""

    record: Record
    body: Json
    origin: Place


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter whose headers could be read, and the record that carries it."""

    record: Record
    says: DeadLetter
    origin: Place


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run left behind. `texts`: words to look for besides those of the readable events."""

    events: Sequence[Record]
    decisions: Sequence[Record]
    dead_letters: Sequence[Record]
    expected: Mapping[Place, DeadLetterDue]
    log_lines: Sequence[str] = ()
    texts: Sequence[str] = ()
    span_words: Sequence[str] = ()


def read_decisions(records: Iterable[Record]) -> tuple[list[Decided], list[Violation]]:
    """The decisions in the order given; what is no JSON object with an origin is a violation."""
    decided, violations = [], []
    for record in records:
        body = json_object(record.value)
        origin = _origin_of(body)
        if body is None or origin is None:
            violations.append(Violation("unreadable", str(record.place), "no JSON object with an origin"))
        else:
            decided.append(Decided(record, body, origin))
    return decided, violations


def read_letters(records: Iterable[Record]) -> tuple[list[Letter], list[Violation]]:
    """The dead letters in the order given; one without its headers is a violation, a mark of redrive none."""
    letters, violations = [], []
    for record in records:
        if read_mark(list(record.headers)) is not None:
            continue
        try:
            letter = read_dead_letter(list(record.headers))
        except msgspec.ValidationError:
            violations.append(Violation("unreadable", str(record.place), "headers of a dead letter"))
        else:
            letters.append(Letter(record, letter, Place(letter.topic, letter.partition, letter.offset)))
    return letters, violations


def json_object(value: bytes | None) -> Json | None:
    """The JSON object that the bytes hold, or None."""
    try:
        found = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def instant_ms(value: Any) -> int | None:
    """An RFC 3339 time with an offset in milliseconds since 1970, or None."""
    try:
        when = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return None if when.tzinfo is None else round(when.timestamp() * 1000)


def _origin_of(body: Json | None) -> Place | None:
    match body:
        case {"origin": {"topic": str(topic), "partition": int(partition), "offset": int(offset)}}:
            return Place(topic, partition, offset)
        case _:
            return None
