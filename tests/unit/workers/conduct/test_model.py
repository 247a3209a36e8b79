"""The engine against a plain model that knows all decisions at once."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.conduct import ConductRule, Level
from schemas.decision import Decision
from tests.unit.workers.conduct.world import START_S, World, decision, policy, rule
from workers.conduct.entries import SUPERSEDED, Correction, Entry, Subject
from workers.conduct.intake import Unreadable, read_decision

LATE_S = 7200
RULES = (
    rule(levels=(Level(score=2, recommend="warn"), Level(score=3.5, recommend="mute", for_s=60))),
    rule("decaying", half_life_s=600, levels=(Level(score=1.7, recommend="human_review"),)),
    rule("hourly", window="tumbling", window_s=600, categories={"C1": 2.0}),
    rule(
        "raid", per="conversation", counts="authors", window_s=900, levels=(Level(score=2, recommend="mute"),)
    ),
    rule("copies", per="text", counts="authors", levels=(Level(score=2, recommend="suspend"),)),
    rule("all", per="tenant", window="tumbling", levels=(Level(score=5, recommend="human_review"),)),
)
HOUSE = policy(*RULES)
Name = tuple[str, str, str, str, int]


@st.composite
def many(draw: st.DrawFn) -> list[Decision]:
    """Some decisions within the allowed lateness of each other."""
    return [
        decision(
            number,
            draw(st.integers(0, LATE_S * 10)) / 10,
            author=draw(st.sampled_from("ab")),
            conversation_id=draw(st.sampled_from("cd")),
            content_mac=draw(st.sampled_from(["e" * 64, "f" * 64])),
            action=draw(st.sampled_from(["block", "flag", "allow"])),
            codes=draw(st.sampled_from([(), ("C1",)])),
        )
        for number in range(1, draw(st.integers(1, 14)) + 1)
    ]


def subject_of(asked: ConductRule, one: Decision) -> str:
    return {
        "author": one.author,
        "conversation": one.conversation_id,
        "text": one.content_mac,
        "tenant": one.tenant,
    }[asked.per]


def weight(asked: ConductRule, one: Decision) -> float:
    if one.action == "allow":
        return 0.0
    return 2.0 if asked.categories and any(c.code == "C1" for c in one.categories) else 1.0


def model(decisions: list[Decision], void: set[str]) -> set[Name]:
    """Every level that is reached, from the definition: no state, no order."""
    found: set[Name] = set()
    counting = [one for one in decisions if one.decision_id not in void]
    for asked in RULES:
        for anchor in counting:
            if weight(asked, anchor) == 0:
                continue
            at = anchor.sent_at.timestamp()
            start = at // asked.window_s * asked.window_s
            first = start - 0.0005 if asked.window == "tumbling" else at - asked.window_s
            among = [
                one
                for one in counting
                if (
                    weight(asked, one) > 0
                    and subject_of(asked, one) == subject_of(asked, anchor)
                    and first < one.sent_at.timestamp() - 0.0001
                )
                or one is anchor
                or (
                    asked.window == "tumbling"
                    and weight(asked, one) > 0
                    and subject_of(asked, one) == subject_of(asked, anchor)
                    and one.sent_at.timestamp() == start
                )
            ]
            among = [one for one in among if one.sent_at.timestamp() <= at]
            if asked.counts == "authors":
                score: float = len({one.author for one in among})
            else:
                half = asked.half_life_s or float("inf")
                score = sum(
                    weight(asked, one) * 0.5 ** ((at - one.sent_at.timestamp()) / half) for one in among
                )
            for level in asked.levels:
                if score >= level.score - 1e-9:
                    found.add((asked.per, subject_of(asked, anchor), asked.id, level.recommend, int(start)))
    return found


def in_force(world: World) -> set[Name]:
    """What was raised and not withdrawn."""
    last = {}
    for e in world.escalations:
        name: Name = (e.per, e.subject, e.rule.rule, e.recommend, int(e.window_start.timestamp()))
        last[name] = e.change
    return {name for name, change in last.items() if change == "raised"}


def read(world: World, one: Decision) -> list[Entry]:
    found = read_decision(msgspec.json.encode(one), world.book)
    assert not isinstance(found, Unreadable)
    return list(found)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), decisions=many())
def test_any_order_with_repeats_gives_what_the_definition_says(
    data: st.DataObject, decisions: list[Decision]
) -> None:
    world = World([HOUSE], allowed_lateness_s=LATE_S)
    entries = [entry for one in decisions for entry in read(world, one)]
    again = data.draw(st.lists(st.sampled_from(entries), max_size=5)) if entries else []
    order = data.draw(st.permutations([*entries, *again]))
    world.take(order, lambda many: data.draw(st.integers(0, many - 1)))
    assert in_force(world) == model(decisions, set())
    # Without corrections nothing is withdrawn, and no id is told twice.
    assert all(e.change == "raised" and e.turn == 0 for e in world.escalations)
    assert len({e.escalation_id for e in world.escalations}) == len(world.escalations)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), decisions=many())
def test_corrections_in_any_order_leave_what_the_definition_says(
    data: st.DataObject, decisions: list[Decision]
) -> None:
    world = World([HOUSE], allowed_lateness_s=LATE_S)
    entries = [entry for one in decisions for entry in read(world, one)]
    void = set(data.draw(st.lists(st.sampled_from([one.decision_id for one in decisions]), max_size=6)))
    at_ms = (START_S + LATE_S) * 1000
    entries += [
        Correction(
            subject=Subject("decision", "", name), decision=name, void=True, version=SUPERSEDED, at_ms=at_ms
        )
        for name in sorted(void)
    ]
    world.take(data.draw(st.permutations(entries)), lambda many: data.draw(st.integers(0, many - 1)))
    assert in_force(world) == model(decisions, void)
    assert len({e.escalation_id for e in world.escalations}) == len(world.escalations)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), decisions=many())
def test_a_process_that_dies_before_it_keeps_a_state_changes_no_id(
    data: st.DataObject, decisions: list[Decision]
) -> None:
    calm, killed = World([HOUSE], allowed_lateness_s=LATE_S), World([HOUSE], allowed_lateness_s=LATE_S)
    entries = [entry for one in decisions for entry in read(calm, one)]
    calm.take(entries)
    waiting = deque(entries)
    while waiting:
        entry = waiting.popleft()
        if data.draw(st.booleans()):
            killed.escalations.extend(killed.step(entry, waiting, keeps=False).escalations)
        killed.escalations.extend(killed.step(entry, waiting).escalations)
    assert {e.escalation_id for e in killed.escalations} == {e.escalation_id for e in calm.escalations}


def test_the_model_is_right_about_a_case_by_hand() -> None:
    decisions = [decision(number, number * 60) for number in (1, 2)]
    start = int(datetime.fromtimestamp(START_S, UTC).timestamp())
    assert model(decisions, set()) == {
        ("author", "a", "repeated", "warn", start),
        ("author", "a", "decaying", "human_review", start),
    }
