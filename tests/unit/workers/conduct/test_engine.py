from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

import msgspec

from schemas.conduct import MOST_STRIKES, ActionWeights, Level
from schemas.decision import Origin
from schemas.identifiers import Label
from schemas.review import Review
from tests.unit.workers.conduct.world import START_S, World, decision, policy, rule
from workers.conduct.entries import Correction, Drop, Entry, Forget, Revision, Subject, Sweep
from workers.conduct.intake import Unreadable, read_decision, read_review
from workers.conduct.levels import rule_digest
from workers.conduct.state import Kept, State, encode_state


def review(number: int, at_s: float, label: Label, name: str = "r1") -> Correction:
    made = Review(
        review_id=name,
        decision_id=f"{number:064x}",
        origin=Origin(topic="chat.events", partition=0, offset=number),
        reviewer="reviewer-1",
        label=label,
        reviewed_at=datetime.fromtimestamp(START_S + at_s, UTC),
    )
    read = read_review(msgspec.json.encode(made))
    assert not isinstance(read, Unreadable)
    (entry,) = read
    assert isinstance(entry, Correction)
    return entry


def read_strike(world: World, number: int, at_s: float) -> list[Entry]:
    found = read_decision(msgspec.json.encode(decision(number, at_s)), world.book)
    assert not isinstance(found, Unreadable)
    return list(found)


def test_a_level_is_raised_once_at_the_decision_that_reaches_it() -> None:
    levels = (Level(score=2, recommend="warn"), Level(score=4, recommend="mute", for_s=600))
    world = World([policy(rule(levels=levels))])
    world.decide(*(decision(number, number * 10) for number in range(1, 7)))
    assert world.told == [("raised", "warn", "a", 2.0), ("raised", "mute", "a", 4.0)]
    mute = world.escalations[1]
    assert mute.reached_at == datetime.fromtimestamp(START_S + 40, UTC)
    assert mute.for_s == 600
    assert mute.decisions == tuple(f"{number:064x}" for number in range(1, 5))


def test_a_second_delivery_counts_once_and_gives_nothing_new() -> None:
    world = World([policy(rule())])
    world.decide(*[decision(1, 1)] * 5, *[decision(2, 2)] * 5)
    assert world.told == []
    world.decide(decision(3, 3), decision(3, 3))
    assert world.told == [("raised", "warn", "a", 3.0)]


def test_a_crash_between_publishing_and_keeping_repeats_the_same_id() -> None:
    world = World([policy(rule())])
    world.decide(decision(1, 1), decision(2, 2))
    read = read_decision(msgspec.json.encode(decision(3, 3)), world.book)
    assert not isinstance(read, Unreadable)
    lost = world.step(read[0], deque(), keeps=False)
    world.take(read)
    assert len(lost.escalations) == 1
    assert [e.escalation_id for e in world.escalations] == [lost.escalations[0].escalation_id]


def test_decisions_of_two_windows_do_not_add_up() -> None:
    world = World([policy(rule(window="tumbling"))], allowed_lateness_s=9999)
    world.decide(decision(1, 3590), decision(2, 3595), decision(3, 3601), decision(4, 3602))
    assert world.told == []
    # A sliding window of the same length holds them all.
    sliding = World([policy(rule(window="sliding"))], allowed_lateness_s=9999)
    sliding.decide(decision(1, 3590), decision(2, 3595), decision(3, 3601), decision(4, 3602))
    assert sliding.told == [("raised", "warn", "a", 3.0)]


def test_a_decision_leaves_a_sliding_window_after_its_length_to_the_millisecond() -> None:
    one = World([policy(rule())], allowed_lateness_s=9999)
    one.decide(decision(1, 0), decision(2, 10), decision(3, 3599.999))
    assert len(one.told) == 1
    other = World([policy(rule())], allowed_lateness_s=9999)
    other.decide(decision(1, 0), decision(2, 10), decision(3, 3600))
    assert other.told == []


def test_a_late_decision_lifts_those_behind_it() -> None:
    world = World([policy(rule())])
    world.decide(decision(1, 500), decision(3, 510), decision(2, 400))
    assert world.told == [("raised", "warn", "a", 3.0)]
    assert world.escalations[0].reached_at == datetime.fromtimestamp(START_S + 510, UTC)


def test_a_decision_beyond_the_allowed_lateness_does_not_count() -> None:
    world = World([policy(rule())], allowed_lateness_s=60)
    world.decide(decision(1, 500), decision(2, 510), decision(3, 449), decision(4, 450))
    assert world.results.count("late") == 1
    assert world.told == [("raised", "warn", "a", 3.0)]
    assert f"{3:064x}" not in world.escalations[0].decisions


def test_a_superseding_decision_takes_the_strike_back_and_withdraws() -> None:
    world = World([policy(rule())])
    world.decide(decision(1, 1), decision(2, 2), decision(3, 3))
    world.decide(decision(4, 3, action="allow", epoch=1, supersedes=f"{3:064x}"))
    assert world.told == [("raised", "warn", "a", 3.0), ("withdrawn", "warn", "a", 2.0)]
    raised, withdrawn = world.escalations
    assert withdrawn.replaces == raised.escalation_id


def test_a_correction_that_comes_first_is_remembered() -> None:
    world = World([policy(rule())])
    world.take([review(3, 100, "safe")])
    world.decide(decision(1, 1), decision(2, 2), decision(3, 3))
    world.decide(decision(4, 4))
    # 1, 2 and 4 count. 3 was counted before its place was told of the review, and then taken back.
    assert [e.change for e in world.escalations] == ["raised", "withdrawn", "raised"]
    assert world.escalations[-1].turn == 1


def test_the_latest_review_is_in_force_whatever_comes_last() -> None:
    world = World([policy(rule())])
    world.decide(decision(1, 1), decision(2, 2), decision(3, 3))
    world.take([review(2, 200, "unsafe", "r2")])
    world.take([review(2, 100, "safe", "r1")])
    assert [e.change for e in world.escalations] == ["raised"]
    world.take([review(2, 300, "safe", "r3")])
    world.take([review(2, 400, "unsafe", "r4")])
    assert [(e.change, e.turn) for e in world.escalations] == [("raised", 0), ("withdrawn", 0), ("raised", 1)]
    assert len({e.escalation_id for e in world.escalations}) == 3


def test_a_raid_is_many_authors_in_one_conversation_and_one_text_by_many() -> None:
    levels = (Level(score=3, recommend="human_review"),)
    world = World(
        [
            policy(
                rule("raid", per="conversation", counts="authors", levels=levels),
                rule("copies", per="text", counts="authors", levels=levels, actions=ActionWeights(allow=1)),
            )
        ]
    )
    same = "f" * 64
    world.decide(*(decision(number, number, author="a") for number in (1, 2, 3)))
    assert world.told == []  # one author is no raid
    world.decide(decision(4, 4, author="b"), decision(5, 5, author="d"))
    assert world.told == [("raised", "human_review", "c", 3.0)]
    for number, author in ((6, "a"), (7, "b"), (8, "d")):
        world.decide(
            decision(number, 9, author=author, content_mac=same, action="allow", conversation_id=author)
        )
    assert world.told[1:] == [("raised", "human_review", same, 3.0)]


def test_tenants_do_not_meet() -> None:
    world = World([policy(rule("all", per="tenant"))])
    world.decide(decision(1, 1), decision(2, 2), decision(3, 3, tenant="globex"))
    assert world.told == []
    world.decide(decision(4, 4, author="b", conversation_id="d"))
    assert world.told == [("raised", "warn", "acme", 3.0)]


def test_a_forgotten_author_stays_forgotten_in_every_count() -> None:
    rules = (rule(), rule("room", per="conversation", levels=(Level(score=4, recommend="warn"),)))
    world = World([policy(*rules)])
    old = [decision(number, number) for number in (1, 2, 3)]
    world.decide(*old)
    author = Subject("author", "acme", "a")
    world.take([Forget(subject=author, until_ms=(START_S + 10) * 1000)])
    assert world.state("decision", f"{1:064x}", "") is None
    kept = world.states[author.key]
    assert b'"a"' not in kept and f"{1:064x}".encode() not in kept
    world.escalations.clear()
    world.decide(*old, decision(4, 9))  # a replay, and what the broker had before
    world.take([Forget(subject=author, until_ms=(START_S + 10) * 1000)])
    assert world.states[author.key] == kept
    room = world.state("conversation", "c")
    assert room is None or not room.strikes
    world.decide(*(decision(number, number) for number in (21, 22, 23)))
    assert world.told == [("raised", "warn", "a", 3.0)]


def test_a_correction_in_flight_does_not_bring_a_forgotten_author_back() -> None:
    world = World([policy(rule())])
    world.decide(decision(1, 1), decision(2, 2))
    author = Subject("author", "acme", "a")
    late = msgspec.structs.replace(review(1, 5, "safe"), subject=author)  # as the decision's record tells it
    world.take([Forget(subject=author, until_ms=(START_S + 10) * 1000)])
    kept = world.states[author.key]
    world.take([late])
    assert world.states[author.key] == kept and b'"a"' not in kept
    world.take([msgspec.structs.replace(late, subject=Subject("author", "acme", "z"))])
    assert world.state("author", "z") is None  # one that was never counted either


def test_what_counts_again_of_a_forgotten_author_is_not_erased_with_the_rest() -> None:
    world = World([policy(rule())])
    world.decide(decision(1, 1))
    author = Subject("author", "acme", "a")
    (erase,) = world.engine.apply(
        world.state("author", "a"), Forget(subject=author, until_ms=(START_S + 10) * 1000)
    ).entries
    world.states.clear()
    waiting = deque(read_strike(world, 2, 20))
    world.step(waiting.popleft(), waiting)  # the author's own state is ahead of the rest
    world.take([erase])
    world.take(waiting)
    for kind, name in (("author", "a"), ("decision", f"{2:064x}")):
        state = world.state(kind, name, "acme" if kind == "author" else "")
        assert state is not None and list(state.strikes) == [f"{2:064x}"]


def test_a_drop_leaves_corrections_of_decisions_that_have_not_come_yet() -> None:
    world = World([policy(rule("room", per="conversation"))])
    world.decide(decision(1, 1))
    room = Subject("conversation", "acme", "c")
    world.take([msgspec.structs.replace(review(2, 5, "safe"), subject=room)])
    world.take([Drop(subject=room, decisions=(f"{1:064x}",))])
    state = world.state("conversation", "c")
    assert state is not None and list(state.marks) == [f"{2:064x}"]
    world.decide(decision(2, 2), decision(3, 3), decision(4, 4))
    assert world.told == []


def test_a_supersedes_counts_though_the_policy_is_not_loaded() -> None:
    world = World([policy(rule(), id="another")])
    one = decision(2, 2, epoch=1, supersedes=f"{1:064x}", message_revision=1)
    read = read_decision(msgspec.json.encode(one), world.book)
    assert isinstance(read, Unreadable) and read.reason == "unknown_policy"
    assert [type(entry) for entry in read.entries] == [Correction, Revision]


def test_what_has_expired_is_swept_and_the_marker_of_a_forgotten_author_stays() -> None:
    world = World([policy(rule())], allowed_lateness_s=60)
    world.decide(decision(1, 1))
    author, other = Subject("author", "acme", "a"), Subject("author", "acme", "b")
    world.take([Forget(subject=other, until_ms=START_S * 1000)])
    world.decide(decision(2, 2, author="b"))
    keep_s = 2 * 3600 + 60
    world.take([Sweep(subject=author, by_ms=(START_S + 1 + keep_s) * 1000)])
    assert author.key in world.states
    for subject in (author, other):
        world.take([Sweep(subject=subject, by_ms=(START_S + 3 + keep_s) * 1000)])
    assert author.key not in world.states
    marker = world.state("author", "b")
    assert marker is not None and marker.forgotten_ms == START_S * 1000 and not marker.strikes


def test_the_newest_are_kept_of_more_than_can_be() -> None:
    house = policy(rule(levels=(Level(score=MOST_STRIKES, recommend="warn"),)))
    assert house.conduct is not None
    world, rules = World([house]), (rule_digest(house, house.conduct.rules[0]),)
    author = Subject("author", "acme", "a")
    full = State(
        subject=author,
        newest_ms=START_S * 1000 + MOST_STRIKES,
        strikes={
            f"{number:064x}": Kept(START_S * 1000 + number, "house", "block", "user", "x", rules=rules)
            for number in range(1, MOST_STRIKES)
        },
    )
    world.states[author.key] = encode_state(full)
    world.decide(*(decision(MOST_STRIKES + number, 1 + number / 1000) for number in range(3)))
    state = world.state("author", "a")
    assert state is not None
    assert sorted(state.strikes) == [f"{number:064x}" for number in range(3, MOST_STRIKES + 3)]
    assert len(world.told) == 1
