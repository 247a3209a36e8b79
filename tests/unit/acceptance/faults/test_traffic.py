from __future__ import annotations

import random
from itertools import islice

from schemas.event import Event
from tests.acceptance.evidence import DeadLetterDue
from tests.acceptance.faults.traffic import LIMITS, endless, malformed, marked, overdue, with_large_decision
from workers.moderation.outcome import Rejection
from workers.moderation.read_event import EventLimits, decode_event
from workers.policies import load_policies

POLICIES = load_policies("", "community").by_id
EVENT_LIMITS = EventLimits(
    event_bytes=LIMITS.event_bytes,
    text_chars=LIMITS.text_chars,
    context_turns=LIMITS.context_turns,
    context_chars=LIMITS.context_chars,
)


def test_traffic_is_the_same_for_the_same_seed_and_new_in_every_lap() -> None:
    first = list(islice(endless(POLICIES, "a"), 1_000))
    assert first == list(islice(endless(POLICIES, "a"), 1_000))
    assert first != list(islice(endless(POLICIES, "b"), 1_000))
    events = [planned.sent.event for planned in first if planned.sent.event is not None]
    assert len({event.event_id for event in events}) == len(events)
    assert len({event.message.text for event in events}) > len(events) / 2


def test_what_is_due_a_dead_letter_is_no_event_and_the_others_are() -> None:
    for planned in islice(endless(POLICIES, "a"), 400):
        found = decode_event(planned.sent.value, EVENT_LIMITS)
        if planned.due is None:
            assert isinstance(found, Event)
        elif planned.due.reason != "unknown_policy":
            assert isinstance(found, Rejection)
            assert found.reason == planned.due.reason


def test_malformed_traffic_has_every_kind_of_reason_and_no_event() -> None:
    records = list(islice(malformed("a"), 100))
    assert None not in {planned.due for planned in records}
    assert {planned.due.reason for planned in records if planned.due} >= {"empty", "undecodable", "invalid"}


def test_a_marked_event_is_an_event_with_the_mark_and_never_twice_the_same() -> None:
    rng = random.Random(0)
    one, other = marked("[[mark]]", rng), marked("[[mark]]", rng, due=DeadLetterDue("poisoned"))
    assert one.sent.value != other.sent.value
    assert one.sent.event is not None
    assert one.sent.event.message.text.startswith("[[mark]]")
    assert isinstance(decode_event(one.sent.value, EVENT_LIMITS), Event)
    assert other.due == DeadLetterDue("poisoned")


def test_deadlines_are_of_the_events_and_one_that_is_overdue_must_be_late() -> None:
    given = [one.sent.event for one in islice(endless(POLICIES, "a", deadline_ms=600_000), 200)]
    assert {event.deadline_ms for event in given if event} == {600_000}
    late = overdue(random.Random(0), 100)
    assert late.late
    assert late.due is None
    found = decode_event(late.sent.value, EVENT_LIMITS)
    assert isinstance(found, Event)
    assert found.deadline_ms == 100


def test_the_event_with_a_large_decision_is_one_that_is_accepted() -> None:
    assert isinstance(decode_event(with_large_decision().sent.value, EVENT_LIMITS), Event)
