"""Versions of policies: each decision by the rules of its own."""

from __future__ import annotations

import msgspec

from schemas.conduct import Level
from schemas.decision import Decision, PolicyUsed
from schemas.policy import Policy, policy_hash
from tests.unit.workers.conduct.world import World, decision, policy, rule
from workers.conduct.levels import rule_digest
from workers.conduct.rules import Rules

FIRST = policy(rule(levels=(Level(score=2, recommend="warn"),)))
# The same rules and other words; then other rules.
SECOND = msgspec.structs.replace(FIRST, version="2", categories=FIRST.categories[:1])
THIRD = policy(rule(levels=(Level(score=2, recommend="mute", for_s=9000),), window_s=7200), version="3")


def by(made: Policy, number: int, at_s: float | None = None) -> Decision:
    used = PolicyUsed(
        id=made.id, version=made.version, policy_hash=policy_hash(made), judgement_hash="0" * 64
    )
    return decision(number, number if at_s is None else at_s, policy=used)


def test_a_version_is_found_by_its_hash_and_else_the_one_in_force() -> None:
    book = Rules([FIRST])
    book.use([THIRD])
    assert book.policy("acme", "house", policy_hash(FIRST)) is FIRST
    assert book.policy("acme", "house", "f" * 64) is THIRD
    assert book.policy("acme", "house") is THIRD
    assert book.policy("acme", "other", policy_hash(FIRST)) is None
    assert book.knows(policy_hash(FIRST)) and not book.knows("f" * 64)


def test_no_tenant_is_counted_by_the_policy_of_another() -> None:
    own, other = policy(tenant="acme", version="a"), policy(tenant="globex", version="g")
    book = Rules([FIRST, own, other])
    assert book.policy("acme", "house") is own
    assert book.policy("initech", "house") is FIRST
    assert book.policy("acme", "house", policy_hash(other)) is own


def test_a_retired_version_is_still_found_by_its_hash() -> None:
    book = Rules([FIRST])
    book.use([])
    assert book.policy("acme", "house") is None
    assert book.policy("acme", "house", policy_hash(FIRST)) is FIRST


def test_decisions_are_kept_for_as_long_as_any_version_needs_them() -> None:
    book = Rules([FIRST])
    assert book.longest_s == 2 * 3600
    book.learn(THIRD)
    assert book.longest_s == 2 * 7200 + 9000
    book.use([FIRST])
    assert book.longest_s == 2 * 7200 + 9000


def test_a_rules_hash_is_of_its_content_its_policys_id_and_tenant() -> None:
    (first,) = FIRST.conduct.rules if FIRST.conduct else ()
    assert rule_digest(FIRST, first) == rule_digest(SECOND, first)
    assert rule_digest(FIRST, first) != rule_digest(FIRST, rule())
    assert rule_digest(FIRST, first) != rule_digest(policy(first, tenant="acme"), first)
    assert rule_digest(FIRST, first) != rule_digest(policy(first, id="other"), first)
    one, other = rule(categories={"C1": 2.0, "C2": 3.0}), rule(categories={"C2": 3.0, "C1": 2.0})
    assert rule_digest(FIRST, one) == rule_digest(FIRST, other)


def test_a_version_with_the_same_rules_goes_on_counting() -> None:
    world = World([FIRST, SECOND])
    world.decide(by(FIRST, 1), by(SECOND, 2))
    assert [e.change for e in world.escalations] == ["raised"]


def test_a_changed_rule_counts_the_decisions_after_it() -> None:
    world = World([FIRST])
    world.decide(by(FIRST, 1))
    world.book.use([THIRD])
    world.decide(by(THIRD, 2))
    assert world.told == []
    world.decide(by(THIRD, 3), by(FIRST, 4))
    assert world.told == [("raised", "mute", "a", 2.0), ("raised", "warn", "a", 2.0)]


def test_when_a_change_is_heard_of_makes_no_difference() -> None:
    decisions = [by(FIRST, 1), by(THIRD, 2), by(FIRST, 3), by(THIRD, 4), by(SECOND, 5)]
    told = []
    for early in (True, False):
        world = World([FIRST, SECOND, THIRD] if early else [FIRST])
        world.decide(decisions[0])
        world.book.use([SECOND])
        world.book.use([THIRD])
        world.decide(*(decisions[1:] if early else reversed(decisions[1:])))
        told.append({e.escalation_id for e in world.escalations})
    assert told[0] == told[1] and len(told[0]) == 2


def test_what_was_counted_by_a_rule_that_is_gone_stays_and_is_taken_back_no_more() -> None:
    world = World([FIRST])
    world.decide(by(FIRST, 1), by(FIRST, 2))
    later = World([THIRD], states=world.states)
    later.decide(decision(3, 3, action="allow", supersedes=f"{1:064x}", epoch=1))
    assert later.told == []
    later.decide(by(THIRD, 4), by(THIRD, 5))
    assert later.told == [("raised", "mute", "a", 2.0)]
