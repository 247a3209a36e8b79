from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.dead_letter import DeadLetter, dead_letter_headers
from tests.acceptance.agreement import volatile_paths
from tests.acceptance.checker import answered, check
from tests.acceptance.evidence import DeadLetterDue, Json, Run
from tests.acceptance.records import Headers, Place, Record

SCHEMA_FILE = Path(__file__).parents[3] / "schemas" / "wire" / "decision.v1.schema.json"
SCHEMA: Json = json.loads(SCHEMA_FILE.read_text("utf-8"))
TEXT = "I know where you live, and I will come tonight."
CONTEXT = "Nobody asked for your opinion on the matter."
DIGEST = "0123456789abcdef" * 4
SENT_AT, BROKER_MS = "2026-01-05T09:00:00Z", 1_767_603_601_000
BAD = Place("events", 0, 3)


def event(offset: int, conversation: str = "room") -> Record:
    body = {
        "event_id": f"ev-{offset}",
        "tenant": "acme",
        "conversation_id": conversation,
        "message": {"id": f"m-{offset}", "role": "user", "author": "a-1", "text": TEXT, "sent_at": SENT_AT},
        "context": [{"role": "user", "text": CONTEXT}],
    }
    place = Place("events", 0, offset)
    return Record(place, json.dumps(body).encode(), b"acme/room", (("h", b"1"),), BROKER_MS)


def decision(offset: int, at: int | None = None, partition: int = 0, **changes: Any) -> Record:
    body = {
        "decision_id": f"{offset:064x}",
        "origin": {"topic": "events", "partition": 0, "offset": offset},
        "event_id": f"ev-{offset}",
        "tenant": "acme",
        "conversation_id": "room",
        "message_id": f"m-{offset}",
        "author": "a-1",
        "role": "user",
        "sent_at": SENT_AT,
        "received_at": "2026-01-05T09:00:01Z",
        "content_mac": DIGEST,
        "status": "judged",
        "action": "block",
        "label": "unsafe",
        "score": 0.9,
        "categories": [{"code": "S1", "threshold": 0.5, "violated": True, "score": 0.9}],
        "policy": {"id": "p", "version": "1", "policy_hash": DIGEST, "judgement_hash": DIGEST},
        "coverage": {"context_digest": DIGEST},
        "cache": {"hit": False},
        "timings": {"lag_ms": 1.0, "queue_ms": 1.0, "guard_ms": 1.0, "total_ms": 1.0},
    }
    value = json.dumps(body | changes).encode()
    return Record(Place("decisions", partition, offset if at is None else at), value, b"acme/room")


def dead_letter(origin: Place = BAD, *, reason: str = "undecodable", sentence: str = "not JSON") -> Record:
    headers = dead_letter_headers(
        DeadLetter(
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            reason=reason,  # type: ignore[arg-type]
            sentence=sentence,
        )
    )
    return Record(Place("dead", 0, 0), BROKEN.value, BROKEN.key, (*BROKEN.headers, *headers))


BROKEN = Record(BAD, b"{", b"acme/room", (("h", b"1"), ("h", None)), BROKER_MS)
GOOD = Run(
    events=[event(0), event(1), event(2), BROKEN],
    decisions=[decision(0), decision(1), decision(2)],
    dead_letters=[dead_letter()],
    expected={BAD: DeadLetterDue("undecodable", "$")},
    log_lines=['{"event": "decided", "offset": 2}', "plain line"],
)


def kinds(run: Run) -> set[str]:
    return {violation.kind for violation in check(run, SCHEMA)}


def with_decisions(*decisions: Record) -> Run:
    return replace(GOOD, decisions=[*GOOD.decisions, *decisions])


def test_a_run_that_keeps_the_promise_has_no_violation() -> None:
    assert check(GOOD, SCHEMA) == []


def test_an_event_without_an_answer_is_missing() -> None:
    assert kinds(replace(GOOD, decisions=GOOD.decisions[:2])) == {"missing"}
    assert kinds(replace(GOOD, dead_letters=[])) == {"missing"}


def test_a_decision_where_a_dead_letter_was_due_is_unexpected() -> None:
    assert "unexpected" in kinds(replace(with_decisions(decision(3)), dead_letters=[]))


def test_a_dead_letter_where_a_decision_was_due_is_unexpected() -> None:
    run = replace(
        GOOD, decisions=GOOD.decisions[:2], dead_letters=[dead_letter(), dead_letter(Place("events", 0, 2))]
    )
    assert "unexpected" in kinds(run)


def test_a_decision_and_a_dead_letter_of_one_event_are_both() -> None:
    assert "both" in kinds(with_decisions(decision(3)))


@pytest.mark.parametrize("offset", [7])
def test_an_answer_to_no_event_is_unexpected(offset: int) -> None:
    assert "unexpected" in kinds(with_decisions(decision(offset)))
    letters = [dead_letter(), dead_letter(Place("events", 0, offset))]
    assert "unexpected" in kinds(replace(GOOD, dead_letters=letters))


def test_a_dead_letter_with_another_reason_is_wrong() -> None:
    assert kinds(replace(GOOD, dead_letters=[dead_letter(reason="invalid")])) == {"wrong_reason"}


def test_a_dead_letter_with_another_field_is_wrong() -> None:
    assert kinds(replace(GOOD, expected={BAD: DeadLetterDue("undecodable", "message.text")})) == {
        "wrong_reason"
    }


@pytest.mark.parametrize(
    "change",
    [
        {"value": b"{ "},
        {"key": None},
        {"headers": dead_letter().headers[1:]},
        {"headers": (*dead_letter().headers[1:], ("h", b"1"))},
    ],
)
def test_a_dead_letter_that_is_not_the_original_is_altered(change: dict[str, Any]) -> None:
    assert kinds(replace(GOOD, dead_letters=[replace(dead_letter(), **change)])) == {"altered"}


@pytest.mark.parametrize("value", [None, b"", b"[1]", b"{}", b"\xff"])
def test_a_decision_that_cannot_be_read_is_told(value: bytes | None) -> None:
    assert kinds(with_decisions(Record(Place("decisions", 0, 9), value))) == {"unreadable"}


def test_a_dead_letter_without_its_headers_is_told() -> None:
    run = replace(GOOD, dead_letters=[dead_letter(), replace(dead_letter(), headers=())])
    assert kinds(run) == {"unreadable"}


@pytest.mark.parametrize(
    "change",
    [
        {"author": "a-2"},
        {"tenant": "other"},
        {"message_revision": 1},
        {"language": "en"},
        {"sent_at": "2026-01-05T09:00:00.001Z"},
        {"received_at": "2026-01-05T09:00:02Z"},
    ],
)
def test_a_decision_that_misreports_its_event_has_a_wrong_fact(change: dict[str, Any]) -> None:
    assert kinds(replace(GOOD, decisions=[*GOOD.decisions[:2], decision(2, **change)])) == {"wrong_fact"}


def test_equal_instants_in_other_words_are_no_wrong_fact() -> None:
    other = decision(2, sent_at="2026-01-05T10:00:00.000+01:00", received_at="2026-01-05T09:00:01.000000Z")
    assert kinds(replace(GOOD, decisions=[*GOOD.decisions[:2], other])) == set()


@pytest.mark.parametrize(
    "change",
    [
        {"action": "shrug"},
        {"score": 1.5},
        {"decision_id": "x"},
        {"categories": [{"code": "S1"}]},
        {"policy": None},
    ],
)
def test_a_decision_that_its_schema_refuses_is_told(change: dict[str, Any]) -> None:
    assert kinds(replace(GOOD, decisions=[*GOOD.decisions[:2], decision(2, **change)])) == {"schema"}


def test_a_time_without_an_offset_is_refused() -> None:
    other = decision(2, sent_at="2026-01-05T09:00:00")
    assert "schema" in kinds(replace(GOOD, decisions=[*GOOD.decisions[:2], other]))


def test_duplicates_may_differ_in_volatile_fields() -> None:
    other = decision(
        2,
        at=9,
        score=0.91,
        cache={"hit": True},
        timings={"lag_ms": 2.0, "queue_ms": 2.0, "guard_ms": 2.0, "total_ms": 2.0},
        tokens={"prompt": 1, "completion": 1},
        trace_id="t",
        categories=[{"code": "S1", "threshold": 0.5, "violated": True, "score": 0.4}],
    )
    assert kinds(with_decisions(other)) == set()


@pytest.mark.parametrize(
    "change",
    [
        {"action": "allow"},
        {"label": "safe"},
        {"content_mac": "f" * 64},
        {"categories": []},
        {"categories": [{"code": "S2", "threshold": 0.5, "violated": True, "score": 0.9}]},
        {"rationale": "short"},
        {"policy": {"id": "p", "version": "2", "policy_hash": DIGEST, "judgement_hash": DIGEST}},
    ],
)
def test_duplicates_that_differ_in_another_field_disagree(change: dict[str, Any]) -> None:
    assert kinds(with_decisions(decision(2, at=9, **change))) == {"disagreement"}


def test_an_unjudged_duplicate_may_differ_in_what_the_guard_said() -> None:
    other = decision(
        2, at=9, status="unjudged", reason="timed_out", label=None, score=None, action="review", categories=[]
    )
    assert kinds(with_decisions(other)) == set()


def test_an_unjudged_duplicate_must_agree_in_the_facts_of_the_event() -> None:
    assert kinds(with_decisions(decision(2, at=9, status="unjudged", content_mac="f" * 64))) == {
        "disagreement"
    }


def test_two_ids_for_one_event_are_wrong() -> None:
    assert "wrong_id" in kinds(with_decisions(decision(2, at=9, decision_id="f" * 64)))


def test_one_id_for_two_events_is_wrong() -> None:
    run = replace(GOOD, decisions=[decision(0), decision(1), decision(2, decision_id=f"{1:064x}")])
    assert kinds(run) == {"wrong_id"}


def test_another_lane_is_another_decision() -> None:
    other = decision(2, at=9, lane="shadow", decision_id="f" * 64, action="allow")
    assert kinds(with_decisions(other)) == set()


def test_first_decisions_out_of_order_are_told() -> None:
    assert kinds(replace(GOOD, decisions=[decision(0), decision(1, at=5), decision(2, at=4)])) == {"order"}


def test_a_conversation_decided_in_two_partitions_has_no_order() -> None:
    assert kinds(replace(GOOD, decisions=[decision(0), decision(1), decision(2, partition=1)])) == {"order"}


def test_order_is_that_of_first_decisions_and_of_offsets() -> None:
    decisions = [decision(2, at=2), decision(0, at=9), decision(0, at=0), decision(1, at=1)]
    assert kinds(replace(GOOD, decisions=decisions)) == set()


def test_conversations_may_overtake_each_other() -> None:
    other = json.loads(event(1).value or b"") | {"conversation_id": "elsewhere"}
    events = [event(0), replace(event(1), value=json.dumps(other).encode()), event(2), BROKEN]
    decisions = [decision(0), decision(1, at=5, conversation_id="elsewhere"), decision(2, at=4)]
    assert kinds(replace(GOOD, events=events, decisions=decisions)) == set()


@pytest.mark.parametrize("text", [TEXT[5:25], CONTEXT[-20:], TEXT[5:25].upper(), f"He said: {TEXT}"])
def test_message_text_in_a_decision_is_a_leak(text: str) -> None:
    assert kinds(replace(GOOD, decisions=[decision(0), decision(1), decision(2, rationale=text)])) == {"leak"}


@pytest.mark.parametrize(
    "line",
    [
        TEXT,
        f'{{"event": "oops", "input": "{TEXT}"}}',
        f"Traceback: ValueError('{TEXT[:30]}')",
        json.dumps({TEXT: 1}),
    ],
)
def test_message_text_in_a_log_line_is_a_leak(line: str) -> None:
    assert kinds(replace(GOOD, log_lines=[line])) == {"leak"}


def test_escaped_message_text_in_a_log_line_is_a_leak() -> None:
    body = json.loads(event(2).value or b"")
    body["message"]["text"] = "我知道你住在哪里，今晚我会去那里找你，没有人会听到你的声音 😀😀"
    changed = replace(event(2), value=json.dumps(body).encode())
    for line in (json.dumps({"e": body["message"]["text"]}), "x " + json.dumps(body["message"]["text"])):
        assert kinds(replace(GOOD, events=[*GOOD.events[:2], changed, BROKEN], log_lines=[line])) == {"leak"}


@pytest.mark.parametrize("make", [lambda headers: decision(2), lambda headers: dead_letter()])
def test_message_text_in_a_header_is_a_leak(make: Callable[[Headers], Record]) -> None:
    def marked(record: Record) -> Record:
        return replace(record, headers=(*record.headers, ("rsafe-note", TEXT.encode())))

    decisions, letters = list(GOOD.decisions), list(GOOD.dead_letters)
    if make(()).place.topic == "decisions":
        decisions[2] = marked(decisions[2])
    else:
        letters[0] = marked(letters[0])
    assert kinds(replace(GOOD, decisions=decisions, dead_letters=letters)) == {"leak"}


def test_text_in_the_sentence_of_a_dead_letter_is_a_leak() -> None:
    assert kinds(replace(GOOD, dead_letters=[dead_letter(sentence=f"unexpected {TEXT}")])) == {"leak"}


def test_texts_that_are_given_are_looked_for_too() -> None:
    secret = "a sentence from a record that is no JSON"
    assert kinds(replace(GOOD, texts=[secret], log_lines=[secret])) == {"leak"}


def test_a_violation_never_repeats_the_text() -> None:
    run = replace(GOOD, decisions=[decision(0), decision(1), decision(2, rationale=TEXT, action=TEXT)])
    for violation in check(run, SCHEMA):
        assert not any(TEXT[start : start + 8] in str(violation) for start in range(len(TEXT) - 8))


def test_a_leak_outside_json_hides_nothing_else() -> None:
    run = replace(GOOD, decisions=[decision(0), decision(1, at=7), decision(2, rationale=TEXT)])
    assert kinds(run) == {"leak", "order"}


def test_answered_knows_decisions_and_dead_letters() -> None:
    places = {record.place for record in GOOD.events}
    assert answered(GOOD.decisions, GOOD.dead_letters) == places


def test_volatile_fields_are_read_from_the_schema() -> None:
    paths = volatile_paths(SCHEMA)
    assert {
        ("timings",),
        ("cache",),
        ("tokens",),
        ("steps",),
        ("trace_id",),
        ("score",),
        ("raw_score",),
        ("categories", "[]", "score"),
    } == paths


def test_schema_is_pointed_at_by_path_not_by_value() -> None:
    broken: Sequence[Record] = [*GOOD.decisions[:2], decision(2, action=TEXT)]
    details = [v.detail for v in check(replace(GOOD, decisions=broken), SCHEMA) if v.kind == "schema"]
    assert details == ["$.action breaks enum"]
