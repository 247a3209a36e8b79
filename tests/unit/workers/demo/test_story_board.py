"""What a story shows: ids, verdicts, versions and escalations, and no character that moves the cursor."""

from __future__ import annotations

import io

import msgspec
from rich.console import Console

from tests.unit.workers.demo.story_world import BEGAN, POLICIES, decisions_of
from workers.demo.story import RAID, story_events
from workers.demo.story_board import StoryBoard, decision_line, escalation_line
from workers.demo.story_check import expected_escalations

EVENTS = story_events(RAID, BEGAN)
DECISIONS = decisions_of(RAID, EVENTS)


def test_a_decision_is_shown_with_its_verdict_and_version() -> None:
    one = msgspec.structs.replace(DECISIONS["advert-copied"], score=0.987)
    words = decision_line(one, "some words").split()
    assert words[:2] == ["0" * 8, "raider-4"]
    assert " ".join(words[2:]) == "some words unsafe → block C3 0.99 plaza 2 remembered"


def test_an_escalation_is_shown_with_its_rule_score_and_ground() -> None:
    (withdrawn,) = expected_escalations(RAID[4], DECISIONS, POLICIES, BEGAN)
    line = escalation_line(withdrawn)
    assert "▽ withdrawn: warn, author mina, rule repeated of plaza 1, score 1 of 2 (" in line
    assert line.endswith(f"takes back {(withdrawn.replaces or '')[:8]}")
    (muted,) = expected_escalations(RAID[5], DECISIONS, POLICIES, BEGAN)
    assert "mute for 1800 s" in escalation_line(muted)


def test_scenes_are_plain_lines_without_a_terminal() -> None:
    output = io.StringIO()
    board = StoryBoard(Console(file=output, width=40), {"insult": "\x1b[31mred"})
    board.scene(1, RAID[1])
    board.done("rsafe policy list", "a line\nanother")
    board.note("a note")
    board.show([DECISIONS["insult"], *expected_escalations(RAID[1], DECISIONS, POLICIES, BEGAN)])
    board.otherwise([])
    board.otherwise(["something"])
    lines = output.getvalue().splitlines()
    assert lines[1] == "1  The raid (version 1)"
    assert "   $ rsafe policy list" in lines
    assert "     another" in lines
    assert sum("▲ raised" in line for line in lines) == 2
    assert lines[-2:] == ["   as told", "   otherwise: something"]
    assert "\x1b" not in output.getvalue()
