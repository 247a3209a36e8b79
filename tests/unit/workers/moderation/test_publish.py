from __future__ import annotations

import msgspec

from schemas.dead_letter import read_dead_letter
from schemas.decision import Decision
from tests.unit.workers.moderation.builders import make_asked, make_record
from workers.moderation.make_decision import make_decision, weigh
from workers.moderation.outcome import Decided, NotApplicable, Source, Took
from workers.moderation.publish import DECISION_TYPE, Topics, dead_letter, publication_of
from workers.moderation.trace import Trace

TOPICS = Topics(decisions="d", dead_letters="x", source=b"/rsafe-stream/g")


def test_a_decision_stands_in_the_line_of_its_conversation() -> None:
    asked = make_asked(trace=Trace("t" * 32, b"parent", b"cloud-1"))
    decision = make_decision(asked, weigh(NotApplicable(), asked.chosen, "user"), Source(), Took())
    publication = publication_of(Decided(decision, asked), TOPICS)
    assert (publication.topic, publication.key, publication.line) == ("d", b"acme/c-1", b"acme/c-1")
    assert publication.value is not None
    assert msgspec.json.decode(publication.value, type=Decision) == decision
    assert dict(publication.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": decision.decision_id.encode(),
        "ce_type": DECISION_TYPE.encode(),
        "ce_source": b"/rsafe-stream/g",
        "ce_causationid": b"cloud-1",
        "content-type": b"application/json",
        "traceparent": b"parent",
    }


def test_without_a_cloud_event_the_event_id_is_the_cause() -> None:
    asked = make_asked()
    publication = publication_of(
        Decided(make_decision(asked, weigh(NotApplicable(), asked.chosen, "user"), Source(), Took()), asked),
        TOPICS,
    )
    assert dict(publication.headers)["ce_causationid"] == b"e-1"
    assert "traceparent" not in dict(publication.headers)


def test_a_dead_letter_is_the_record_untouched_with_the_reason_after_its_own_headers() -> None:
    headers = [("a", b"1"), ("a", None), ("rsafe-reason", b"theirs"), ("rsafe-attempts", b"4")]
    record = make_record(b"\xff", key=None, headers=headers)
    publication = publication_of(dead_letter(record, "undecodable", "$", "expected JSON"), TOPICS)
    assert (publication.topic, publication.key, publication.value, publication.line) == (
        "x",
        None,
        b"\xff",
        None,
    )
    assert publication.headers[:4] == headers
    letter = read_dead_letter(publication.headers)
    assert (letter.topic, letter.partition, letter.offset, letter.timestamp_ms) == (
        "chat.events",
        1,
        7,
        1_000_000,
    )
    assert (letter.reason, letter.field, letter.sentence, letter.attempts) == (
        "undecodable",
        "$",
        "expected JSON",
        5,
    )


def test_attempts_that_are_no_number_count_as_none() -> None:
    for value in (b"x", b"-1", b"9" * 400, b"", None):
        record = make_record(headers=[("rsafe-attempts", value)])
        assert dead_letter(record, "empty", "$", "s").letter.attempts == 1
