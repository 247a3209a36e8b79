"""Escalations and dead letters as records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from schemas.escalation import Escalation
from tests.unit.workers.conduct.world import World, decision, policy, rule
from workers.conduct.intake import Unreadable
from workers.conduct.wire import escalation_record, letter_record


def test_an_escalation_is_a_cloudevent_that_decodes_to_itself() -> None:
    world = World([policy(rule())])
    world.decide(*(decision(number, number) for number in (1, 2, 3)))
    (made,) = world.escalations
    value, headers = escalation_record(made, b"/here")
    assert msgspec.json.decode(value, type=Escalation) == made
    named = dict(headers)
    assert named["ce_id"] == made.escalation_id.encode()
    assert named["ce_type"] == b"rsafe.moderation.escalation.v1"
    assert (named["ce_source"], named["content-type"]) == (b"/here", b"application/json")


@pytest.mark.parametrize("headers", [[("a", b"1")], {"a": b"1"}], ids=["pairs", "dict"])
def test_a_letter_has_the_record_untouched_with_its_place_and_reason(headers: Any) -> None:
    message = SimpleNamespace(
        topic="t", partition=2, offset=7, timestamp=1.5, key=b"k", value=b"\xff", headers=headers
    )
    key, value, told = letter_record(message, Unreadable("undecodable", "$", "expected JSON in UTF-8"))
    assert (key, value) == (b"k", b"\xff")
    named = dict(told)
    assert named["a"] == b"1" and named["rsafe-reason"] == b"undecodable"
    assert b"7" in named.values() and b"2" in named.values() and b"t" in named.values()


def test_a_record_without_headers_has_a_letter_as_well() -> None:
    message = SimpleNamespace(
        topic="t", partition=0, offset=0, timestamp=0.0, key=None, value=None, headers=None
    )
    key, value, told = letter_record(message, Unreadable("empty", "$", "expected a decision"))
    assert key is None and value is None and dict(told)["rsafe-reason"] == b"empty"
