from __future__ import annotations

from tests.acceptance.evidence import read_decisions
from tests.acceptance.faults.unjudged import beyond, reasons
from tests.acceptance.records import Place, Record

PLACES = [Place("events", 0, offset) for offset in range(4)]


def test_only_unjudged_decisions_have_a_reason_of_being_so() -> None:
    origin = '"origin": {"topic": "events", "partition": 0, "offset": %d}'
    bodies = (
        '{"status": "unjudged", "reason": "late", ' + origin % 0 + "}",
        '{"status": "not_applicable", "reason": "role_not_judged", ' + origin % 1 + "}",
        '{"status": "judged", ' + origin % 2 + "}",
    )
    records = [Record(Place("decisions", 0, at), body.encode()) for at, body in enumerate(bodies)]
    assert reasons(read_decisions(records)[0]) == {PLACES[0]: "late"}


def test_each_reason_has_a_bound_of_its_own_and_those_not_named_are_not_allowed() -> None:
    found = dict(zip(PLACES, ("unparseable", "unparseable", "late", "unavailable"), strict=True))
    told = [violation.detail for violation in beyond(found, set(), {"unparseable": None, "late": 1})]
    assert told == ["1 events unjudged, unavailable; at most 0 expected"]
    told = [violation.detail for violation in beyond(found, set(), {"unparseable": 1, "unavailable": None})]
    assert told == [
        "1 events unjudged, late; at most 0 expected",
        "2 events unjudged, unparseable; at most 1 expected",
    ]


def test_what_is_overdue_must_be_late_and_uses_up_no_bound() -> None:
    assert not [*beyond({PLACES[0]: "late"}, {PLACES[0]}, {})]
    judged, failed = beyond({PLACES[1]: "engine_failed"}, {PLACES[0], PLACES[1]}, {})
    assert (judged.place, judged.detail.partition(";")[0]) == (str(PLACES[0]), "judged")
    assert failed.detail.startswith("engine_failed; expected late")
