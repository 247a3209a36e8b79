from __future__ import annotations

from typing import get_args

from schemas.dead_letter import DeadLetterReason
from schemas.event import Event
from tests.acceptance.malformed import Limits, malformed_records
from workers.moderation.outcome import Rejection
from workers.moderation.read_event import EventLimits, decode_event

RECORDS = malformed_records(
    Limits(event_bytes=100_000, text_chars=4_000, context_turns=8, context_chars=20_000)
)


def test_there_are_at_least_fifty_with_names_of_their_own() -> None:
    assert len(RECORDS) == len({one.name for one in RECORDS}) >= 50


def test_every_reason_of_an_input_is_among_them() -> None:
    # No policy at all and undeliverable decisions are about settings, and changes of policies no events.
    assert {one.due.reason for one in RECORDS} == set(get_args(DeadLetterReason)) - {
        "no_policy",
        "undeliverable",
        "poisoned",
        "invalid_policy",
    }


def test_only_the_records_about_bytes_are_over_the_limit_of_bytes() -> None:
    over = {one.name for one in RECORDS if len(one.sent.value or b"") > 100_000}
    assert {"many bytes", "many bytes of no JSON"} <= over
    assert all("deep" in name or "bytes" in name for name in over)


def test_reasons_are_those_of_the_step_that_reads_events() -> None:
    limits = EventLimits(event_bytes=100_000, text_chars=4_000, context_turns=8, context_chars=20_000)
    for one in RECORDS:
        found = decode_event(one.sent.value, limits)
        if one.due.reason == "unknown_policy":
            assert isinstance(found, Event), one.name
        else:
            assert isinstance(found, Rejection), one.name
            assert (found.reason, one.due.field or found.field) == (one.due.reason, found.field), one.name
