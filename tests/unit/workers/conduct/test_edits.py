"""A decision on a later revision of a message takes back those on the earlier ones, in any order."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.decision import Decision, replaces
from tests.unit.workers.conduct.test_engine import review
from tests.unit.workers.conduct.world import World, decision, policy, rule
from workers.conduct.entries import (
    UNREVISED,
    Drop,
    Forget,
    Revision,
    Strike,
    Subject,
    message_subject,
)
from workers.conduct.intake import Unreadable, read_decision
from workers.conduct.rules import Rules

LATE_S = 86_400


def world() -> World:
    return World([policy(rule())], allowed_lateness_s=LATE_S)


def counting(made: World) -> set[str]:
    """Decisions of author `a` that count."""
    state = made.state("author", "a")
    if state is None:
        return set()
    return set(state.strikes) - {name for name, mark in state.marks.items() if mark.void}


def test_an_edit_into_harmless_words_withdraws_the_warning() -> None:
    made = world()
    made.decide(decision(1, 1), decision(2, 2), decision(3, 3))
    made.decide(decision(4, 4, message_id="m2", message_revision=1, action="allow"))
    assert made.told == [("raised", "warn", "a", 3.0), ("withdrawn", "warn", "a", 2.0)]
    assert counting(made) == {f"{1:064x}", f"{3:064x}"}


def test_an_edit_that_is_blocked_as_well_counts_once() -> None:
    made = world()
    made.decide(decision(1, 1), decision(2, 2))
    made.decide(decision(3, 3, message_id="m2", message_revision=1))
    made.decide(decision(4, 4, message_id="m2", message_revision=2))
    assert counting(made) == {f"{1:064x}", f"{4:064x}"}
    made.decide(decision(5, 5))
    assert made.told[-1] == ("raised", "warn", "a", 3.0)


def test_an_earlier_revision_that_comes_late_does_not_count() -> None:
    made = world()
    made.decide(decision(9, 9, message_id="m", message_revision=2, action="allow"))
    made.decide(decision(1, 1, message_id="m"), decision(2, 2, message_id="m", message_revision=1))
    assert counting(made) == set()


def test_the_same_message_id_in_another_conversation_tenant_or_lane_is_another_message() -> None:
    made = world()
    made.decide(decision(1, 1, message_id="m"))
    for number, changes in enumerate(({"conversation_id": "d"}, {"lane": "replay"}, {"author": "b"}), 2):
        made.decide(decision(number, number, message_id="m", message_revision=number, **changes))
    # Another author of the same message: whoever edits it, it is one message.
    assert counting(made) == {f"{2:064x}", f"{3:064x}"}
    assert message_subject(decision(1, 1)) != message_subject(decision(1, 1, tenant="other"))


def test_a_revision_is_told_of_even_where_the_policy_counts_nothing() -> None:
    found = read_decision(msgspec.json.encode(decision(1, 1, message_revision=3)), Rules([policy()]))
    assert not isinstance(found, Unreadable)
    (entry,) = found
    assert isinstance(entry, Revision) and entry.revision == 3
    found = read_decision(msgspec.json.encode(decision(1, 1)), world().book)
    assert not isinstance(found, Unreadable)
    (strike,) = found
    assert isinstance(strike, Strike) and strike.revision == UNREVISED


def test_who_is_forgotten_is_forgotten_by_their_messages_too() -> None:
    made = world()
    made.decide(decision(1, 1, message_id="m"), decision(2, 2, message_id="n", message_revision=1))
    made.take([Forget(subject=Subject("author", "acme", "a"), until_ms=2**50)])
    assert made.states.get(message_subject(decision(1, 1, message_id="m")).key) is None
    left = made.states[message_subject(decision(2, 2, message_id="n")).key]
    assert f"{2:064x}".encode() not in left  # only that it was edited


def test_a_drop_leaves_the_newest_revision() -> None:
    made = world()
    made.decide(decision(1, 1, message_id="m", message_revision=1))
    subject = message_subject(decision(1, 1, message_id="m"))
    made.take([Drop(subject=subject, decisions=(f"{1:064x}",))])
    made.decide(decision(2, 2, message_id="m"))
    assert f"{2:064x}" not in counting(made)


def test_an_edit_is_told_once_whatever_number_follows() -> None:
    made = world()
    for number in range(40):
        made.decide(decision(number + 1, number, message_id="m", message_revision=number))
    assert "repeated" not in made.results
    assert len(made.results) <= 40 * 6
    assert counting(made) == {f"{40:064x}"}
    state = made.state("message", message_subject(decision(1, 1, message_id="m")).id)
    assert state is not None and list(state.strikes) == [f"{40:064x}"]


def test_what_an_edit_took_back_stays_so_through_reviews_repeats_and_what_supersedes_it() -> None:
    made, old = world(), decision(1, 1, message_id="m", message_revision=1)
    made.decide(old, decision(2, 2, message_id="m", message_revision=2, action="allow"))
    assert counting(made) == set()
    made.take([review(1, 50, "unsafe")])  # of the words before the edit
    made.decide(old, old)
    again = decision(3, 3, message_id="m", message_revision=1, epoch=1, supersedes=f"{1:064x}")
    made.decide(again)
    assert counting(made) == set()
    made.decide(decision(4, 4, message_id="m", message_revision=2, epoch=1, supersedes=f"{2:064x}"))
    assert counting(made) == {f"{4:064x}"}


@st.composite
def edits(draw: st.DrawFn) -> list[Decision]:
    """Decisions on three messages, some edited, some judged again, some sent twice; in any order."""
    made: list[Decision] = []
    for number in range(1, draw(st.integers(1, 8)) + 1):
        earlier = draw(st.sampled_from([None, *made]))
        changes = {
            "message_id": draw(st.sampled_from("mno")),
            "message_revision": draw(st.sampled_from([None, 0, 1, 2])),
        }
        if earlier is not None and draw(st.booleans()):  # the same text judged again
            changes = {name: getattr(earlier, name) for name in changes}
            changes |= {"supersedes": earlier.decision_id, "epoch": 1}
        action = draw(st.sampled_from(["block", "allow"]))
        made.append(decision(number, number, action=action, **changes))
    again = draw(st.lists(st.sampled_from(made), max_size=3))
    return draw(st.permutations([*made, *again]))


@given(edits(), st.randoms(use_true_random=False))
def test_what_counts_is_what_no_decision_replaces(decisions: list[Decision], chance: object) -> None:
    made = world()
    for one in decisions:
        read = read_decision(msgspec.json.encode(one), made.book)
        assert not isinstance(read, Unreadable)
        made.take(read, lambda count: chance.randrange(count))  # type: ignore[attr-defined]
    expected = {
        old.decision_id
        for old in decisions
        if old.action == "block" and not any(replaces(new, old) for new in decisions)
    }
    assert counting(made) == expected
