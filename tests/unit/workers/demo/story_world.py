"""The story without Kafka and without a guard: decisions as it tells them, counted by the pure engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from schemas.decision import CacheUse, CategoryDecision, Decision, PolicyUsed
from schemas.event import Event
from schemas.policy import Policy, judgement_hash, policy_hash
from schemas.review import Review
from tests.unit.workers.conduct.world import JUDGED, World
from workers.conduct.entries import Entry
from workers.conduct.intake import Unreadable, read_decision, read_review
from workers.demo.story import Line, Overturn, Scene, beginning, story_policy

NOW = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)
BEGAN = beginning(NOW)
POLICIES = {version: story_policy(version) for version in ("1", "2")}


def decided(number: int, line: Line, event: Event, policy: Policy) -> Decision:
    """The decision about a line as the story tells it."""
    return msgspec.structs.replace(
        JUDGED,
        decision_id=f"{number:064x}",
        event_id=line.name,
        tenant=event.tenant,
        conversation_id=event.conversation_id,
        message_id=event.message.id,
        message_revision=None,
        author=event.message.author,
        role=event.message.role,
        sent_at=event.message.sent_at,
        received_at=NOW,
        lane="live",
        supersedes=None,
        label="safe" if line.action == "allow" else "unsafe",
        action=line.action,
        categories=tuple(CategoryDecision(code=one, threshold=0.5, violated=True) for one in line.codes),
        policy=PolicyUsed(
            id=policy.id,
            version=policy.version,
            policy_hash=policy_hash(policy),
            judgement_hash=judgement_hash(policy),
        ),
        cache=CacheUse(hit=line.remembered),
    )


def decisions_of(scenes: tuple[Scene, ...], events: Mapping[str, Event]) -> dict[str, Decision]:
    """By line, all of the story."""
    told = [(scene, line) for scene in scenes for line in scene.lines]
    return {
        line.name: decided(number, line, events[line.name], POLICIES[scene.version])
        for number, (scene, line) in enumerate(told, start=1)
    }


def count(
    world: World, scene: Scene, decisions: Mapping[str, Decision], pick: Callable[[int], int] = lambda _: 0
) -> None:
    """Let the engine count a scene; `pick` chooses which of so many waiting entries comes next."""
    entries: list[Entry] = []
    if isinstance(scene.change, Overturn):
        decision = decisions[scene.change.line]
        review = Review(
            review_id="r",
            decision_id=decision.decision_id,
            origin=decision.origin,
            reviewer="m",
            label="safe",
            reviewed_at=NOW,
        )
        read = read_review(msgspec.json.encode(review))
        assert not isinstance(read, Unreadable)
        entries += read
    for line in scene.lines:
        read = read_decision(msgspec.json.encode(decisions[line.name]), world.book)
        assert not isinstance(read, Unreadable)
        entries += read
    world.take(entries, pick)
