"""State → what people see: the decisions that count, what they come to now, and until when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from workers.conduct.entries import Subject
from workers.conduct.levels import RuleBook, moment
from workers.conduct.score import counted, score_at, start_of
from workers.conduct.state import Kept, State


def view(subject: Subject, state: State | None, book: RuleBook, now_ms: int) -> dict[str, Any]:
    """What is remembered of a subject, as JSON values. Decisions oldest first, times RFC 3339.

    `expires_at` is when a decision leaves the last window in which it counts; later it is in no score.
    """
    found: dict[str, Any] = {"tenant": subject.tenant, "per": subject.kind, "subject": subject.id}
    if state is None:
        return found | {"decisions": [], "scores": [], "recommendations": []}
    if state.forgotten_ms is not None:
        found["forgotten_until"] = _text(state.forgotten_ms)
    void = {name for name, mark in state.marks.items() if mark.void}
    ordered = sorted(state.strikes.items(), key=lambda item: (item[1].at_ms, item[0]))
    return found | {
        "decisions": [
            {
                "decision_id": name,
                "at": _text(kept.at_ms),
                "policy": kept.policy,
                "action": kept.action,
                "categories": list(kept.codes),
                "taken_back": name in void,
                "expires_at": _expires(subject, kept, book),
            }
            for name, kept in ordered
        ],
        "scores": _scores(subject, state, void, book, now_ms),
        "recommendations": [
            {
                "escalation_id": one.id,
                "rule": name.split("|", 2)[0],
                "recommend": name.split("|", 2)[1],
                "since": _text(one.reached_ms),
                "until": None if one.ends_ms is None else _text(one.ends_ms),
                "in_force": one.in_force and (one.ends_ms is None or now_ms < one.ends_ms),
            }
            for name, one in sorted(state.raised.items(), key=lambda item: (item[1].reached_ms, item[0]))
        ],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The same for a terminal."""
    told = [f"{found['per']} {found['subject']} of {found['tenant']}"]
    if "forgotten_until" in found:
        told.append(f"forgotten: nothing counts that was received until {found['forgotten_until']}")
    told += [f"score {one['score']:g} by rule {one['rule']} of {one['policy']}" for one in found["scores"]]
    for one in found["recommendations"]:
        until = f"until {one['until']}" if one["until"] else "until a person ends it"
        state = "in force" if one["in_force"] else "over or withdrawn"
        told.append(f"{one['recommend']} by rule {one['rule']} since {one['since']}, {until}: {state}")
    for one in found["decisions"]:
        back = ", taken back" if one["taken_back"] else ""
        codes = f" {','.join(one['categories'])}" if one["categories"] else ""
        told.append(
            f"decision {one['decision_id']} {one['at']} {one['action']}{codes}{back}, "
            f"expires {one['expires_at'] or 'with its rule'}"
        )
    return told if len(told) > 1 else [*told, "nothing counts"]


def _scores(
    subject: Subject, state: State, void: set[str], book: RuleBook, now_ms: int
) -> list[dict[str, Any]]:
    counting = {name: kept for name, kept in state.strikes.items() if name not in void}
    scores = []
    for policy_id in sorted({kept.policy for kept in counting.values()}):
        policy = book.policy(subject.tenant, policy_id)
        for name, rule in [] if policy is None else book.rules_of(policy):
            if rule.per != subject.kind:
                continue
            now = score_at(rule, counted(rule, name, counting), now_ms)
            scores.append({"policy": policy_id, "rule": rule.id, "score": now.score, "counts": rule.counts})
    return scores


def _expires(subject: Subject, kept: Kept, book: RuleBook) -> str | None:
    rules = [found[1] for digest in kept.rules if (found := book.rule(digest)) is not None]
    ends = [
        (start_of(rule, kept.at_ms) if rule.window == "tumbling" else kept.at_ms) + rule.window_s * 1000
        for rule in rules
        if rule.per == subject.kind
    ]
    return _text(max(ends)) if ends else None


def _text(at_ms: int) -> str:
    at: datetime = moment(at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
