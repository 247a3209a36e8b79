"""Whether a story went as told: every difference is named, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.decision import CacheUse, PolicyUsed
from tests.unit.workers.demo.story_world import BEGAN, POLICIES, decisions_of
from workers.demo.story import RAID, story_events
from workers.demo.story_check import decided_otherwise, escalated_otherwise, expected_escalations

EVENTS = story_events(RAID, BEGAN)
DECISIONS = decisions_of(RAID, EVENTS)
SCENE = RAID[1]
ESCALATIONS = expected_escalations(SCENE, DECISIONS, POLICIES, BEGAN)
OTHER = PolicyUsed(id="plaza", version="2", policy_hash="0" * 64, judgement_hash="0" * 64)


def test_a_scene_as_told_differs_in_nothing() -> None:
    assert list(decided_otherwise(SCENE, EVENTS, DECISIONS, POLICIES["1"])) == []
    assert list(escalated_otherwise(ESCALATIONS, list(reversed(ESCALATIONS)))) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"action": "block"}, ["action"]),
        ({"label": "safe"}, ["label"]),
        ({"status": "unjudged"}, ["status"]),
        ({"categories": ()}, ["categories"]),
        ({"author": "x"}, ["author"]),
        ({"cache": CacheUse(hit=True)}, ["remembered"]),
        ({"policy": OTHER}, ["policy", "policy_hash", "judgement_hash"]),
    ],
)
def test_a_decision_that_is_otherwise_is_named(changes: dict[str, Any], named: list[str]) -> None:
    changed = {**DECISIONS, "insult": msgspec.structs.replace(DECISIONS["insult"], **changes)}
    sentences = list(decided_otherwise(SCENE, EVENTS, changed, POLICIES["1"]))
    assert [sentence.split(" is ")[0] for sentence in sentences] == [f"insult: {name}" for name in named]


def test_a_missing_a_double_and_an_unexpected_escalation_are_named() -> None:
    first, second = ESCALATIONS
    other = msgspec.structs.replace(first, escalation_id="f" * 64)
    assert len(list(escalated_otherwise(ESCALATIONS, [second]))) == 1
    assert "came 2 times" in next(iter(escalated_otherwise(ESCALATIONS, [first, second, second])))
    (sentence,) = escalated_otherwise(ESCALATIONS, [first, second, other])
    assert sentence == "raised human_review of conversation the-square by raid 1: not expected"


@pytest.mark.parametrize(("name", "value"), [("score", 2.5), ("decisions", ()), ("for_s", 7)])
def test_a_field_of_an_escalation_that_is_otherwise_is_named(name: str, value: Any) -> None:
    first, second = ESCALATIONS
    (sentence,) = escalated_otherwise(ESCALATIONS, [first, msgspec.structs.replace(second, **{name: value})])
    assert f": {name} is {value}, expected" in sentence


def test_a_withdrawal_takes_back_what_was_raised() -> None:
    (raised,) = expected_escalations(RAID[2], DECISIONS, POLICIES, BEGAN)
    (withdrawn,) = expected_escalations(RAID[4], DECISIONS, POLICIES, BEGAN)
    assert withdrawn.replaces == raised.escalation_id
    assert withdrawn.escalation_id != raised.escalation_id
    assert (withdrawn.turn, withdrawn.score) == (0, 1.0)
