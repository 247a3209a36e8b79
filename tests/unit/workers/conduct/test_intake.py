from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from schemas.conduct import ActionWeights
from schemas.decision import Decision
from tests.unit.workers.conduct.world import START_S, World, decision, policy, rule
from workers.conduct.entries import Correction, Strike, author_digest
from workers.conduct.intake import (
    Unreadable,
    decode_decision,
    event_time_ms,
    read_decision,
    read_review,
    version_named,
)

WORLD = World([policy(rule(), rule("room", per="conversation", actions=ActionWeights(flag=0)))])


def read(one: Decision) -> list[object]:
    found = read_decision(msgspec.json.encode(one), WORLD.book)
    assert not isinstance(found, Unreadable)
    return list(found)


def test_a_strike_goes_to_its_author_and_names_where_else_it_counts() -> None:
    (strike,) = read(decision(1, 5, codes=("C1",)))
    assert isinstance(strike, Strike)
    assert (strike.subject.kind, strike.subject.id) == ("author", "a")
    assert [one.kind for one in strike.places] == ["conversation", "message"]
    assert strike.places[0].id == "c"
    assert strike.codes == ("C1",)
    assert strike.author == author_digest("acme", "a")
    (flagged,) = read(decision(2, 5, action="flag"))
    assert isinstance(flagged, Strike) and [one.kind for one in flagged.places] == ["message"]


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "allow"},
        {"role": "assistant"},
        {"lane": "shadow"},
        {"status": "unjudged", "reason": "late"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_has_no_weight_is_no_strike(changes: dict[str, str]) -> None:
    assert read(decision(1, 5, **changes)) == []


def test_a_superseding_decision_corrects_the_earlier_one_even_when_it_was_not_judged() -> None:
    (entry,) = read(decision(2, 5, supersedes=f"{1:064x}", epoch=1, status="unjudged", reason="late"))
    assert isinstance(entry, Correction) and entry.void and entry.decision == f"{1:064x}"


def test_a_clock_ahead_of_the_brokers_does_not_count() -> None:
    one = decision(1, 5)
    ahead = msgspec.structs.replace(one, sent_at=one.sent_at + timedelta(days=9))
    assert event_time_ms(ahead) == (START_S + 5) * 1000
    behind = msgspec.structs.replace(one, sent_at=one.sent_at - timedelta(seconds=2))
    assert event_time_ms(behind) == (START_S + 3) * 1000


@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, "empty"), (b"", "empty"), (b"\xff", "undecodable"), (b"{", "undecodable"), (b"{}", "invalid")],
)
def test_what_cannot_be_read_says_why_and_quotes_nothing(value: bytes | None, reason: str) -> None:
    for found in (read_decision(value, WORLD.book), read_review(value)):
        assert isinstance(found, Unreadable) and found.reason == reason


def test_a_decision_under_an_unknown_policy_or_another_tenants_is_not_guessed() -> None:
    world = World([policy(rule(), tenant="globex")])
    found = read_decision(msgspec.json.encode(decision(1, 5)), world.book)
    assert isinstance(found, Unreadable) and found.reason == "unknown_policy"


def test_only_a_decision_that_counts_names_a_version_to_wait_for() -> None:
    def named(**changes: object) -> str:
        return version_named(decode_decision(msgspec.json.encode(decision(1, 5, **changes))))

    assert named() == "0" * 64
    assert named(lane="shadow") == named(status="unjudged", reason="late") == ""
    assert version_named(decode_decision(b'{"policy": {"policy_hash": "f"}}')) == ""
    assert version_named(decode_decision(None)) == ""
