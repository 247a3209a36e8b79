"""Step 7, publish: outcome → record for its topic. Pure; the stream sends it when its turn has come."""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from schemas.dead_letter import DeadLetter, DeadLetterReason, dead_letter_headers, read_dead_letter
from workers.errors import StreamStopped
from workers.moderation.outcome import Asked, DeadLettered, Decided, Outcome
from workers.ports import Headers, Publication, Record

DECISION_TYPE: Final = "rsafe.moderation.decision.v1"
_ATTEMPTS: Final = "rsafe-attempts"
# Attempts beyond this are no count of ours.
_MOST_ATTEMPTS: Final = 1_000_000
# Of a dead letter without its record; keys of events are two identifiers.
_LONGEST_KEY_BYTES: Final = 4_096
_ENCODER: Final = msgspec.json.Encoder()


# The same for every decision, ready for the producer.
_CONSTANT: Final = (
    ("ce_specversion", b"1.0"),
    ("ce_type", DECISION_TYPE.encode()),
    ("content-type", b"application/json"),
)


class Topics(msgspec.Struct, frozen=True, kw_only=True):
    """Where outcomes go, and the CloudEvents source they name."""

    decisions: str
    dead_letters: str
    source: bytes


def dead_letter(record: Record, reason: DeadLetterReason, field: str, sentence: str) -> DeadLettered:
    """The outcome of a record that could not become a decision."""
    letter = DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=reason,
        sentence=sentence,
        field=field,
        timestamp_ms=record.timestamp_ms,
        attempts=_attempts(record.headers) + 1,
    )
    return DeadLettered(letter, record)


def publication_of(outcome: Outcome, topics: Topics) -> Publication:
    """A decision in the line of its conversation; or the original record with the reason."""
    match outcome:
        case Decided(decision=decision, asked=asked):
            return publication_of_decision(asked, _ENCODER.encode(decision), topics)
        case DeadLettered(letter=letter, record=record):
            headers: Headers = [*(record.headers or ()), *dead_letter_headers(letter)]
            return Publication(topics.dead_letters, record.key, record.value, headers)
        case _:
            assert_never(outcome)


def publication_of_decision(asked: Asked, decision: bytes, topics: Topics) -> Publication:
    """An encoded decision, in the line of its conversation."""
    trace, line = asked.trace, asked.line
    headers: Headers = [
        *_CONSTANT,
        ("ce_source", topics.source),
        ("ce_id", asked.decision_id.encode()),
        ("ce_causationid", trace.causation or asked.event.event_id.encode()),
    ]
    if trace.traceparent is not None:
        headers.append(("traceparent", trace.traceparent))
    return Publication(topics.decisions, line, decision, headers, line)


def without_record(letter: Publication) -> Publication:
    """A dead letter that its topic refuses, with the coordinates of its record instead of the record.

    Its topic takes the largest record of the events topic, but both count compressed, and compress by
    different means. Raises `StreamStopped` when the letter holds no record already.
    """
    told = read_dead_letter(letter.headers)
    if told.left_out_bytes:
        raise StreamStopped(
            f"an outcome was not delivered: topic {letter.topic} refuses a dead letter even without its "
            "record as too large; raise its max.message.bytes"
        )
    headers = sum(len(name) + len(value or b"") for name, value in letter.headers)
    size = len(letter.key or b"") + len(letter.value or b"") + headers
    shortened = msgspec.structs.replace(
        told,
        left_out_bytes=size,
        sentence=f"{told.sentence}; larger than the topic of dead letters takes, so it is left out here",
    )
    key = letter.key if len(letter.key or b"") <= _LONGEST_KEY_BYTES else None
    return Publication(letter.topic, key, None, [*dead_letter_headers(shortened)])


def _attempts(headers: Headers | None) -> int:
    """How often the record was a dead letter before, as an earlier dead letter's headers say."""
    found = 0
    for name, value in headers or ():
        if (
            name == _ATTEMPTS
            and value is not None
            and value.isdigit()
            and len(value) <= len(str(_MOST_ATTEMPTS))
        ):
            found = min(int(value), _MOST_ATTEMPTS)
    return found
