"""The conduct app without Kafka: states by key, entries carried from one to the next until none is left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.conduct import Conduct, ConductRule, Level
from schemas.decision import CategoryDecision, Decision, PolicyUsed
from schemas.escalation import Escalation
from schemas.generate import FOLDER
from schemas.policy import Category, Policy
from workers.conduct.engine import Engine, Step
from workers.conduct.entries import Entry, Erase, Subject, decode, encode
from workers.conduct.intake import Unreadable, read_decision
from workers.conduct.rules import Rules
from workers.conduct.state import State, decode_state, encode_state

JUDGED = msgspec.json.decode(
    (FOLDER / "examples" / "decision" / "v1" / "good_judged.json").read_bytes(), type=Decision
)
START_S = 1_767_600_000  # a multiple of a day


def rule(name: str = "repeated", **changes: Any) -> ConductRule:
    """A rule of one author, an hour, a warning from 3 on."""
    fields: dict[str, Any] = {
        "id": name,
        "per": "author",
        "window_s": 3600,
        "levels": (Level(score=3, recommend="warn"),),
    }
    return ConductRule(**(fields | changes))


def policy(*rules: ConductRule, **changes: Any) -> Policy:
    """A policy with two categories and these rules."""
    categories = tuple(Category(code=code, title=code, definition=code) for code in ("C1", "C2"))
    fields: dict[str, Any] = {"id": "house", "version": "1", "categories": categories}
    return Policy(**(fields | {"conduct": Conduct(rules=rules)} | changes))


def decision(number: int, at_s: float, **changes: Any) -> Decision:
    """A blocked message of author `a` in conversation `c`, so many seconds after the start."""
    at = datetime.fromtimestamp(START_S + at_s, UTC)
    codes = changes.pop("codes", ())
    fields: dict[str, Any] = {
        "decision_id": f"{number:064x}",
        "tenant": "acme",
        "author": "a",
        "conversation_id": "c",
        "content_mac": f"{number:064x}",
        "message_id": f"m{number}",
        "message_revision": None,
        "role": "user",
        "lane": "live",
        "epoch": 0,
        "supersedes": None,
        "action": "block",
        "sent_at": at,
        "received_at": at,
        "categories": tuple(CategoryDecision(code=code, threshold=0.5, violated=True) for code in codes),
        "policy": PolicyUsed(id="house", version="1", policy_hash="0" * 64, judgement_hash="0" * 64),
    }
    return msgspec.structs.replace(JUDGED, **(fields | changes))


@dataclass
class World:
    """Runs the engine. States go through their stored form, entries through theirs."""

    policies: Sequence[Policy]
    allowed_lateness_s: int = 600
    states: dict[bytes, bytes] = field(default_factory=dict)
    escalations: list[Escalation] = field(default_factory=list)
    results: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.book = Rules(self.policies)
        self.engine = Engine(self.book, allowed_lateness_s=self.allowed_lateness_s)

    def decide(self, *decisions: Decision) -> None:
        """Take these decisions, each to its end."""
        for one in decisions:
            read = read_decision(msgspec.json.encode(one), self.book)
            assert not isinstance(read, Unreadable)
            self.take(read)

    def take(self, entries: Iterable[Entry], pick: Callable[[int], int] = lambda _: 0) -> None:
        """Carry entries until none is left; `pick` chooses which of so many comes next."""
        waiting = deque(entries)
        while waiting:
            waiting.rotate(-pick(len(waiting)))
            self.escalations.extend(self.step(waiting.popleft(), waiting).escalations)

    def step(self, entry: Entry, waiting: deque[Entry], *, keeps: bool = True) -> Step:
        """One entry; with `keeps` false, as though the process died before its state was kept."""
        arrived = decode(encode(entry))
        assert arrived == entry
        key = entry.subject.key
        stored = self.states.get(key)
        step = self.engine.apply(None if stored is None else decode_state(stored), entry)
        self.results.append(step.result)
        waiting.extend(step.entries)
        if isinstance(entry, Erase) and keeps:
            self.erase(entry)
        elif keeps and step.state is None:
            self.states.pop(key, None)
        elif keeps and step.state is not None:
            self.states[key] = encode_state(step.state)
        return step

    def erase(self, entry: Erase) -> None:
        """As one partition, which all states are in."""
        for key, stored in list(self.states.items()):
            step = self.engine.erased(decode_state(stored), entry.author)
            if step is not None and step.state is None:
                del self.states[key]
            elif step is not None and step.state is not None:
                self.states[key] = encode_state(step.state)

    def state(self, kind: Any, name: str, tenant: str = "acme") -> State | None:
        """What is kept of a subject."""
        stored = self.states.get(Subject(kind, tenant, name).key)
        return None if stored is None else decode_state(stored)

    @property
    def told(self) -> list[tuple[str, str, str, float]]:
        """Change, recommendation, subject and score of every escalation."""
        return [(e.change, e.recommend, e.subject, e.score) for e in self.escalations]
