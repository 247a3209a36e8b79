from __future__ import annotations

from schemas.conduct import Level
from tests.unit.workers.conduct.world import START_S, World, decision, policy, rule
from workers.conduct.entries import Forget, Subject
from workers.conduct.view import lines, view

LEVELS = (Level(score=2, recommend="mute", for_s=600),)
AUTHOR = Subject("author", "acme", "a")


def _world() -> World:
    world = World([policy(rule(levels=LEVELS), rule("hourly", window="tumbling", window_s=1800))])
    world.decide(decision(1, 0), decision(2, 60, codes=("C1",)), decision(3, 60, action="allow"))
    return world


def test_scores_are_those_of_now_and_decisions_say_when_they_expire() -> None:
    world = _world()
    found = view(AUTHOR, world.state("author", "a"), world.book, (START_S + 120) * 1000)
    assert {one["rule"]: one["score"] for one in found["scores"]} == {"repeated": 2.0, "hourly": 2.0}
    assert [one["decision_id"][-1] for one in found["decisions"]] == ["1", "2"]
    assert found["decisions"][1]["categories"] == ["C1"]
    assert found["decisions"][0]["at"] == "2026-01-05T08:00:00.000Z"
    assert found["decisions"][0]["expires_at"] == "2026-01-05T09:00:00.000Z"
    later = view(AUTHOR, world.state("author", "a"), world.book, (START_S + 3600) * 1000)
    assert {one["rule"]: one["score"] for one in later["scores"]} == {"repeated": 1.0, "hourly": 0.0}


def test_a_recommendation_is_in_force_until_its_end() -> None:
    world = _world()
    state = world.state("author", "a")
    for after_s, in_force in ((659, True), (660, False)):
        found = view(AUTHOR, state, world.book, (START_S + after_s) * 1000)
        assert [one["in_force"] for one in found["recommendations"]] == [in_force]


def test_a_terminal_gets_the_same_in_lines() -> None:
    world = _world()
    found = view(AUTHOR, world.state("author", "a"), world.book, (START_S + 120) * 1000)
    text = "\n".join(lines(found))
    assert "mute by rule repeated" in text and "in force" in text and f"{2:064x}" in text
    assert lines(view(AUTHOR, None, world.book, 0)) == ["author a of acme", "nothing counts"]


def test_of_a_forgotten_author_only_the_time_is_shown() -> None:
    world = _world()
    world.take([Forget(subject=AUTHOR, until_ms=START_S * 1000)])
    found = view(AUTHOR, world.state("author", "a"), world.book, 0)
    assert found["decisions"] == [] and found["recommendations"] == []
    assert found["forgotten_until"] == "2026-01-05T08:00:00.000Z"
