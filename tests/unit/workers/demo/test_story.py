"""The story of a raid: one piece with its policies, and with what the rules of conduct make of it."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.escalation import Escalation
from schemas.policy import judgement_hash
from tests.unit.workers.conduct.world import World
from tests.unit.workers.demo.story_world import BEGAN, NOW, POLICIES, count, decisions_of
from workers.demo.story import (
    RAID,
    STORIES,
    Overturn,
    Publish,
    all_lines,
    beginning,
    story_events,
)
from workers.demo.story_check import escalated_otherwise, expected_escalations

EVENTS = story_events(RAID, BEGAN)
DECISIONS = decisions_of(RAID, EVENTS)


def told(pick: int) -> list[list[Escalation]]:
    """The escalations of each scene, with entries taken in an order of this seed."""
    world, chosen = World(list(POLICIES.values())), random.Random(pick)
    scenes = []
    for scene in RAID:
        before = len(world.escalations)
        count(world, scene, DECISIONS, chosen.randrange)
        scenes.append(world.escalations[before:])
    return scenes


@pytest.mark.parametrize("seed", range(25))
def test_the_rules_come_to_what_is_told_in_whatever_order_they_count(seed: int) -> None:
    for scene, found in zip(RAID, told(seed), strict=True):
        expected = expected_escalations(scene, DECISIONS, POLICIES, BEGAN)
        assert list(escalated_otherwise(expected, found)) == [], scene.title


def test_a_raid_a_tightened_policy_and_an_overturned_decision_are_told() -> None:
    assert STORIES["raid"] is RAID
    changes = [type(scene.change) for scene in RAID if scene.change is not None]
    assert changes == [Publish, Overturn]
    escalations = [one for scene in RAID for one in scene.escalations]
    assert {one.change for one in escalations} == {"raised", "withdrawn"}
    assert [one.version for one in escalations if one.per == "conversation"] == ["1", "2"]
    assert {line.action for line in all_lines(RAID)} >= {"allow", "flag", "block"}


def test_the_version_of_a_scene_is_the_one_published_last() -> None:
    standing = RAID[0].version
    for scene in RAID:
        if isinstance(scene.change, Publish):
            standing = scene.change.version
        assert scene.version == standing


def test_one_rule_goes_on_counting_and_the_other_begins_anew() -> None:
    conducts = [POLICIES[version].conduct for version in ("1", "2")]
    first, second = ({rule.id: rule for rule in one.rules} for one in conducts if one is not None)
    assert first["repeated"] == second["repeated"]
    assert first["raid"] != second["raid"]
    assert judgement_hash(POLICIES["1"]) != judgement_hash(POLICIES["2"])


def test_a_line_is_remembered_where_it_was_asked_before_under_its_version() -> None:
    asked = set()
    for scene in RAID:
        for line in scene.lines:
            question = (scene.version, line.text)
            assert line.remembered == (question in asked), line.name
            asked.add(question)


def test_names_are_unique_and_reviews_are_of_lines_told_before() -> None:
    names: list[str] = []
    for scene in RAID:
        if isinstance(scene.change, Overturn):
            assert scene.change.line in names
        names += [line.name for line in scene.lines]
    assert len(set(names)) == len(names)


def test_all_of_it_lies_in_one_window_of_every_rule_and_in_the_past() -> None:
    times = [event.message.sent_at for event in EVENTS.values()]
    assert times == sorted(times)
    assert times[0] == BEGAN
    rules = [rule for one in POLICIES.values() if one.conduct is not None for rule in one.conduct.rules]
    for rule in rules:
        assert BEGAN.timestamp() % rule.window_s == 0
        assert times[-1] < BEGAN + timedelta(seconds=rule.window_s)
    assert times[-1] < NOW


def test_it_begins_with_the_hour_before_the_present_one() -> None:
    assert (BEGAN.hour, BEGAN.minute, BEGAN.second) == (11, 0, 0)
    assert beginning(BEGAN) == BEGAN - timedelta(hours=1)


def test_the_page_tells_the_scenes_in_order() -> None:
    page = Path(__file__).parents[4] / "docs" / "tutorial" / "a-raid.md"
    headings = [line[3:] for line in page.read_text("utf-8").splitlines() if line.startswith("## ")]
    assert headings == [*(scene.title for scene in RAID), "Where it is written"]
