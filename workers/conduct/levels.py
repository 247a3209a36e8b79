"""Which levels are reached after a change of what is counted, and the escalations that say so. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec
import rfc8785

from schemas.conduct import ConductRule, Level
from schemas.escalation import MOST_NAMED, Change, Escalation, RuleUsed, escalation_id
from schemas.policy import Policy
from workers.conduct.entries import UNREVISED, Revision, Strike, Subject
from workers.conduct.score import Reached, counted, reached_in, start_of
from workers.conduct.state import Kept, Mark, Raised, State

_RULE: Final = b"rsafe conduct rule 1\0"
_RULE_DIGITS: Final = 16


class RuleBook(Protocol):
    """Policies and their rules; see `rules`."""

    @property
    def longest_s(self) -> int:
        """For how long a decision is needed, in seconds."""
        ...

    def policy(self, tenant: str, policy_id: str, digest: str = "") -> Policy | None:
        """The policy of this hash, else the one in force; None: there is none for this tenant."""
        ...

    def rules_of(self, policy: Policy) -> Sequence[tuple[str, ConductRule]]:
        """The rules of a policy that `policy` gave, each with its hash."""
        ...

    def rule(self, digest: str) -> tuple[Policy, ConductRule] | None:
        """A rule by its hash."""
        ...


def rule_digest(policy: Policy, rule: ConductRule) -> str:
    """Hash of a rule's content, with its policy's id and tenant: 16 hex digits."""
    content = msgspec.to_builtins([policy.tenant, policy.id, rule])
    return hashlib.sha256(_RULE + rfc8785.dumps(content)).hexdigest()[:_RULE_DIGITS]


def kept_s(rule: ConductRule) -> int:
    """Two windows, so that a score at the start of one is whole; and as long as a recommendation lasts, so
    that a review within that time withdraws it."""
    return 2 * rule.window_s + max(level.for_s or 0 for level in rule.levels)


def first_ms(rule: ConductRule, start_ms: int) -> int:
    """Event time of the first decision that scores in the window from `start_ms` on may hold."""
    return start_ms - rule.window_s * 1000 + 1 if rule.window == "sliding" else start_ms


@dataclass(slots=True)
class Draft:
    """A state while it is changed."""

    subject: Subject
    newest_ms: int
    seen_ms: int
    strikes: dict[str, Kept]
    marks: dict[str, Mark]
    raised: dict[str, Raised]
    forgotten_ms: int | None
    revision: int = UNREVISED
    cut_ms: int = 0
    escalations: list[Escalation] = field(default_factory=list)

    @classmethod
    def of(cls, state: State, subject: Subject) -> Draft:
        return cls(
            subject,
            state.newest_ms,
            state.seen_ms,
            dict(state.strikes),
            dict(state.marks),
            dict(state.raised),
            state.forgotten_ms,
            state.revision,
            state.cut_ms,
        )

    def state(self) -> State:
        """As it is now."""
        return State(
            subject=self.subject,
            newest_ms=self.newest_ms,
            seen_ms=self.seen_ms,
            strikes=self.strikes,
            marks=self.marks,
            raised=self.raised,
            revision=self.revision,
            cut_ms=self.cut_ms,
            forgotten_ms=self.forgotten_ms,
        )

    def moved(self, entry: Strike | Revision) -> None:
        """A decision was read: the newest times follow it."""
        self.newest_ms = max(self.newest_ms, entry.at_ms)
        self.seen_ms = max(self.seen_ms, entry.seen_ms)

    @property
    def empty(self) -> bool:
        """Whether nothing is left that anything could still depend on."""
        nothing = not self.strikes and not self.marks and not self.raised
        return nothing and self.forgotten_ms is None and self.revision == UNREVISED

    def counting(self) -> dict[str, Kept]:
        """The decisions that no correction took back."""
        return {
            name: kept
            for name, kept in self.strikes.items()
            if not ((mark := self.marks.get(name)) is not None and mark.void)
        }


def look(
    book: RuleBook, late_ms: int, draft: Draft, digests: Iterable[str], at_ms: int, *, correcting: bool
) -> None:
    """Ask again for every level that a decision of this time, which these rules count, may have lifted, or
    may lift no more. A rule that no version here has any more changes nothing."""
    for digest in digests:
        found = book.rule(digest)
        if found is None or found[1].per != draft.subject.kind:
            continue
        policy, rule = found
        starts = [start_of(rule, at_ms)]
        if rule.window == "sliding":
            starts.append(starts[0] + rule.window_s * 1000)
        for start_ms in starts:
            # Of windows before, decisions may be gone that belong to their scores, and what was raised.
            if start_ms - rule.window_s * 1000 > draft.newest_ms - late_ms - 1000 * kept_s(rule):
                _window(draft, policy, rule, digest, start_ms, at_ms, correcting=correcting)


def _window(
    draft: Draft,
    policy: Policy,
    rule: ConductRule,
    digest: str,
    start_ms: int,
    at_ms: int,
    *,
    correcting: bool,
) -> None:
    names = [f"{rule.id}|{level.recommend}|{start_ms}|{digest}" for level in rule.levels]
    if not correcting and all((one := draft.raised.get(name)) and one.in_force for name in names):
        return  # one decision more takes nothing back
    # Decisions that were dropped by number may reach a level together with those that are left.
    whole = draft.cut_ms < first_ms(rule, start_ms)
    # What one decision more lifts lies at its time or after it; what is taken back may lie anywhere.
    from_ms = 0 if correcting else at_ms
    reached = reached_in(rule, counted(rule, digest, draft.counting()), start_ms, from_ms)
    for number, (name, level) in enumerate(zip(names, rule.levels, strict=True)):
        before = draft.raised.get(name)
        if number < len(reached) - 1:
            if before is None or not before.in_force:
                turn = 0 if before is None else before.turn + 1
                _escalate(draft, policy, rule, level, start_ms, reached[number], name, turn, None)
        elif before is not None and before.in_force and correcting and whole:
            last = reached[-1]
            _escalate(draft, policy, rule, level, start_ms, last, name, before.turn, before.id)


def _escalate(
    draft: Draft,
    policy: Policy,
    rule: ConductRule,
    level: Level,
    start_ms: int,
    reached: Reached,
    name: str,
    turn: int,
    replaces: str | None,
) -> None:
    change: Change = "raised" if replaces is None else "withdrawn"
    subject = draft.subject
    assert subject.kind != "decision" and subject.kind != "message"
    made = Escalation(
        escalation_id=escalation_id(
            tenant=subject.tenant,
            per=subject.kind,
            subject=subject.id,
            policy=policy.id,
            rule=rule.id,
            rule_hash=name.rsplit("|", 1)[1],
            recommend=level.recommend,
            window_start_ms=start_ms,
            turn=turn,
            change=change,
        ),
        change=change,
        tenant=subject.tenant,
        per=subject.kind,
        subject=subject.id,
        rule=RuleUsed(policy=policy.id, version=policy.version, rule=rule.id),
        recommend=level.recommend,
        window_start=moment(start_ms),
        turn=turn,
        replaces=replaces,
        for_s=level.for_s,
        reached_at=moment(reached.at_ms),
        score=reached.score,
        level=level.score,
        counts=rule.counts,
        decisions=reached.decisions[-MOST_NAMED:],
    )
    draft.escalations.append(made)
    draft.raised[name] = Raised(
        turn=turn,
        in_force=change == "raised",
        id=made.escalation_id,
        start_ms=start_ms,
        reached_ms=reached.at_ms,
        ends_ms=None if level.for_s is None else reached.at_ms + level.for_s * 1000,
    )


def moment(at_ms: int) -> datetime:
    """Milliseconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)
