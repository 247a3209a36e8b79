"""Whether the story went as told: what the topics hold beside what each scene says must be there. Pure.

An escalation is compared whole, its id included: nothing of it depends on where or when the story is told but
the ids of decisions and the hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from schemas.conduct import ConductRule
from schemas.decision import Decision
from schemas.escalation import Escalation, RuleUsed, escalation_id
from schemas.event import Event
from schemas.policy import Policy, judgement_hash, policy_hash
from workers.conduct.levels import rule_digest
from workers.demo.story import POLICY, TENANT, Line, Scene, Told


def decided_otherwise(
    scene: Scene, events: Mapping[str, Event], decisions: Mapping[str, Decision], policy: Policy
) -> Iterator[str]:
    """What is otherwise about the decisions of a scene, a sentence each.

    `decisions`: by line; all of the scene's must be there. `policy`: the version of the scene.
    """
    for line in scene.lines:
        expected, found = _due(line, events[line.name], policy), _said(decisions[line.name])
        for name, value in expected.items():
            if found[name] != value:
                yield f"{line.name}: {name} is {found[name]}; expected {value}"


def _due(line: Line, event: Event, policy: Policy) -> dict[str, Any]:
    return {
        "tenant": event.tenant,
        "conversation": event.conversation_id,
        "author": event.message.author,
        "sent_at": event.message.sent_at,
        "status": "judged",
        "label": "safe" if line.action == "allow" else "unsafe",
        "action": line.action,
        "categories": line.codes,
        "policy": (policy.id, policy.version),
        "policy_hash": policy_hash(policy),
        "judgement_hash": judgement_hash(policy),
        "remembered": line.remembered,
    }


def _said(decision: Decision) -> dict[str, Any]:
    return {
        "tenant": decision.tenant,
        "conversation": decision.conversation_id,
        "author": decision.author,
        "sent_at": decision.sent_at,
        "status": decision.status,
        "label": decision.label,
        "action": decision.action,
        "categories": tuple(one.code for one in decision.categories if one.violated),
        "policy": (decision.policy.id, decision.policy.version),
        "policy_hash": decision.policy.policy_hash,
        "judgement_hash": decision.policy.judgement_hash,
        "remembered": decision.cache.hit,
    }


def expected_escalations(
    scene: Scene,
    decisions: Mapping[str, Decision],
    policies: Mapping[str, Policy],
    began: datetime,
) -> list[Escalation]:
    """The records that a scene must lead to. `decisions`: by line, so far; `policies`: by version."""
    return [_escalation(told, decisions, policies[told.version], began) for told in scene.escalations]


def escalated_otherwise(expected: Sequence[Escalation], found: Sequence[Escalation]) -> Iterator[str]:
    """What is otherwise about escalations, a sentence each. In any order, and each once."""
    due = {one.escalation_id: one for one in expected}
    came = Counter(one.escalation_id for one in found)
    for identifier, one in due.items():
        if came[identifier] != 1:
            yield f"{_name(one)}: came {came[identifier]} times; expected once"
    for one in found:
        if one.escalation_id not in due:
            yield f"{_name(one)}: not expected"
        elif one != due[one.escalation_id]:
            yield f"{_name(one)}: {', '.join(_differing(one, due[one.escalation_id]))}"


def _name(one: Escalation) -> str:
    return f"{one.change} {one.recommend} of {one.per} {one.subject} by {one.rule.rule} {one.rule.version}"


def _differing(one: Escalation, due: Escalation) -> Iterator[str]:
    for name in one.__struct_fields__:
        if getattr(one, name) != getattr(due, name):
            yield f"{name} is {getattr(one, name)}, expected {getattr(due, name)}"


def _escalation(told: Told, decisions: Mapping[str, Decision], policy: Policy, began: datetime) -> Escalation:
    rule = _rule(policy, told.rule)
    level = next(level for level in rule.levels if level.recommend == told.recommend)

    def name_of(change: str) -> str:
        return escalation_id(
            tenant=TENANT,
            per=told.per,
            subject=told.subject,
            policy=POLICY,
            rule=rule.id,
            rule_hash=rule_digest(policy, rule),
            recommend=told.recommend,
            window_start_ms=int(began.timestamp()) * 1000,
            turn=0,
            change="raised" if change == "raised" else "withdrawn",
        )

    return Escalation(
        escalation_id=name_of(told.change),
        change=told.change,
        tenant=TENANT,
        per=told.per,
        subject=told.subject,
        rule=RuleUsed(policy=POLICY, version=told.version, rule=rule.id),
        recommend=told.recommend,
        window_start=began,
        replaces=name_of("raised") if told.change == "withdrawn" else None,
        for_s=level.for_s,
        reached_at=decisions[told.lines[-1]].sent_at,
        score=told.score,
        level=level.score,
        counts=rule.counts,
        decisions=tuple(decisions[line].decision_id for line in told.lines),
    )


def _rule(policy: Policy, name: str) -> ConductRule:
    assert policy.conduct is not None
    return next(rule for rule in policy.conduct.rules if rule.id == name)
