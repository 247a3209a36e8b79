"""State and entry → new state, further entries and escalations. Pure and deterministic: no clock, no Kafka.

What makes a second delivery harmless: decisions are kept by id, corrections by version, and the id of an
escalation hashes what it is about. The caller publishes a change's entries and escalations first, and keeps
its state when they are acknowledged: a crash between the two repeats them with the same ids.

What order does to it: nothing, as long as a decision is at most `allowed_lateness_s` older, by event time,
than the newest one under its key. Which levels are reached is asked again at every decision that a late one
may have lifted. Only `turn` may differ where corrections and decisions overtake each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, assert_never

import msgspec

from schemas.escalation import Escalation
from workers.conduct.bounds import prune
from workers.conduct.entries import (
    SUPERSEDED,
    Correction,
    Drop,
    Entry,
    Erase,
    Forget,
    Revision,
    Strike,
    Subject,
    Sweep,
    author_digest,
)
from workers.conduct.levels import Draft, RuleBook, look
from workers.conduct.state import Kept, Mark, State

Result = Literal[
    "counted", "repeated", "late", "forgotten", "corrected", "revised", "dropped", "swept", "unchanged"
]
NOTHING: Final = State()


@dataclass(frozen=True, slots=True)
class Step:
    """What an entry leads to."""

    result: Result
    state: State | None
    """What is to be kept under the key; None: nothing."""
    entries: tuple[Entry, ...] = ()
    escalations: tuple[Escalation, ...] = ()


class Engine:
    """The transitions under the rules of a book. `allowed_lateness_s` is the bound on disorder."""

    def __init__(self, book: RuleBook, *, allowed_lateness_s: int) -> None:
        self._book = book
        self._late_ms = allowed_lateness_s * 1000

    @property
    def keep_ms(self) -> int:
        """How much older than the newest decision under its key one is kept, in milliseconds."""
        return self._late_ms + 1000 * self._book.longest_s

    def apply(self, state: State | None, entry: Entry) -> Step:
        """One step. The same state and entry always give the same."""
        before = NOTHING if state is None else state
        match entry:
            case Strike() if entry.subject.kind == "decision":
                return self._place(before, state, entry)
            case Strike() if entry.subject.kind == "message":
                return self._version(before, state, entry)
            case Strike():
                return self._strike(before, state, entry)
            case Correction() if entry.subject.kind == "decision":
                return self._pass_on(before, state, entry)
            case Correction():
                return self._correct(before, state, entry)
            case Revision():
                return self._revise(before, state, entry)
            case Forget():
                return self._forget(before, state, entry)
            case Drop():
                return self._drop(before, state, entry)
            case Sweep():
                return self._sweep(state, entry)
            case Erase():
                return Step("dropped", state)  # it is about other states: see `erased`
            case _:
                assert_never(entry)

    def _strike(self, before: State, state: State | None, entry: Strike) -> Step:
        if before.forgotten_ms is not None and entry.seen_ms <= before.forgotten_ms:
            return Step("forgotten", state)
        if entry.decision in before.strikes:
            return Step("repeated", state)
        if entry.at_ms < before.newest_ms - self._late_ms:
            return Step("late", state)
        draft = Draft.of(before, entry.subject)
        draft.moved(entry)
        draft.strikes[entry.decision] = _kept(entry)
        prune(self._book, self._late_ms, draft)
        mark = draft.marks.get(entry.decision)
        if mark is None or not mark.void:
            look(self._book, self._late_ms, draft, entry.rules, entry.at_ms, correcting=False)
        return _done(draft, "counted", _passed_on(entry) if entry.subject.kind == "author" else ())

    def _place(self, before: State, state: State | None, entry: Strike) -> Step:
        """Remember where a decision was counted, and tell those places of corrections that came before."""
        if entry.decision in before.strikes:
            return Step("repeated", state)
        draft = Draft.of(before, entry.subject)
        draft.moved(entry)
        kept = draft.strikes[entry.decision] = _kept(entry)
        mark = draft.marks.get(entry.decision)
        return _done(draft, "counted", () if mark is None else _told(entry.decision, mark, kept))

    def _version(self, before: State, state: State | None, entry: Strike) -> Step:
        """Remember a decision on this message, and take it back where a later revision came before."""
        if entry.decision in before.strikes:
            return Step("repeated", state)
        if entry.revision < before.revision:
            return Step("unchanged", state, (_replaced(entry.decision, entry.at_ms),))
        draft = Draft.of(before, entry.subject)
        draft.moved(entry)
        draft.strikes[entry.decision] = _kept(entry)
        prune(self._book, self._late_ms, draft)
        return _done(draft, "counted")

    def _revise(self, before: State, state: State | None, entry: Revision) -> Step:
        if entry.revision <= before.revision:
            return Step("repeated", state)
        draft = Draft.of(before, entry.subject)
        draft.revision = entry.revision
        draft.moved(entry)
        earlier = sorted(name for name, kept in draft.strikes.items() if kept.revision < entry.revision)
        # Told once, whatever number of edits follows; `_version` tells again of one that comes again.
        told = [_replaced(name, draft.strikes.pop(name).at_ms) for name in earlier]
        return _done(draft, "revised", told)

    def _pass_on(self, before: State, state: State | None, entry: Correction) -> Step:
        mark = _newer(before, entry)
        if mark is None:
            return Step("repeated", state)
        draft = Draft.of(before, entry.subject)
        draft.marks[entry.decision] = mark
        draft.newest_ms = max(draft.newest_ms, entry.at_ms)
        kept = draft.strikes.get(entry.decision)
        return _done(draft, "corrected", () if kept is None else _told(entry.decision, mark, kept))

    def _correct(self, before: State, state: State | None, entry: Correction) -> Step:
        if entry.subject.kind == "author" and entry.decision not in before.strikes:
            # Its author's state has every decision first: this one was forgotten since, or has expired.
            return Step("unchanged", state)
        mark = _newer(before, entry)
        if mark is None:
            return Step("repeated", state)
        draft = Draft.of(before, entry.subject)
        draft.marks[entry.decision] = mark
        # It does not move the newest time: it is about a decision, and not one itself.
        draft.newest_ms = draft.newest_ms or entry.at_ms
        prune(self._book, self._late_ms, draft)
        kept = draft.strikes.get(entry.decision)
        if kept is not None:
            look(self._book, self._late_ms, draft, kept.rules, kept.at_ms, correcting=True)
        return _done(draft, "corrected")

    def _forget(self, before: State, state: State | None, entry: Forget) -> Step:
        if before.forgotten_ms is not None and before.forgotten_ms >= entry.until_ms:
            return Step("repeated", state)
        asked = entry.subject
        erase = Erase(subject=asked, author=author_digest(asked.tenant, asked.id))
        return Step("forgotten", State(forgotten_ms=entry.until_ms), (erase,))

    def _drop(self, before: State, state: State | None, entry: Drop) -> Step:
        if state is None or not any(
            name in before.strikes or name in before.marks for name in entry.decisions
        ):
            return Step("unchanged", state)
        draft = Draft.of(before, entry.subject)
        for name in entry.decisions:
            draft.strikes.pop(name, None)
            draft.marks.pop(name, None)
        if draft.empty:
            return Step("dropped", None)
        return _done(draft, "dropped")

    def _sweep(self, state: State | None, entry: Sweep) -> Step:
        if state is None or not self.expired(state, entry.by_ms):
            return Step("unchanged", state)
        marker = None if state.forgotten_ms is None else State(forgotten_ms=state.forgotten_ms)
        return Step("swept", marker)

    def expired(self, state: State, by_ms: int) -> bool:
        """Whether nothing that the broker has from then on could be counted together with what is kept.

        Where a tenant's clock is slow, it is as slow for what comes next.
        """
        newest_ms = max(state.newest_ms, state.seen_ms)
        return state.subject is not None and newest_ms + self.keep_ms < by_ms

    def erased(self, state: State, author: str) -> Step | None:
        """What is left of a state without the decisions of an author, who is named by digest; None: there are
        none. The author's own state forgot by itself, and may count again already."""
        names = tuple(name for name, kept in state.strikes.items() if kept.author == author)
        if not names or state.subject is None or state.subject.kind == "author":
            return None
        return self._drop(state, state, Drop(subject=state.subject, decisions=names))


def _done(draft: Draft, result: Result, entries: Iterable[Entry] = ()) -> Step:
    return Step(result, draft.state(), tuple(entries), tuple(draft.escalations))


def _kept(entry: Strike) -> Kept:
    places = entry.places if entry.subject.kind == "decision" else ()
    return Kept(
        entry.at_ms,
        entry.policy,
        entry.action,
        entry.role,
        entry.author,
        entry.codes,
        places,
        entry.revision,
        entry.rules,
    )


def _passed_on(entry: Strike) -> list[Entry]:
    """The author's decision for the other places where it counts, and for its own record."""
    replace = msgspec.structs.replace
    counts = (entry.subject, *(place for place in entry.places if place.kind != "message"))
    own = replace(entry, subject=Subject("decision", "", entry.decision), places=counts)
    return [own, *(replace(entry, subject=place, places=()) for place in entry.places)]


def _newer(before: State, entry: Correction) -> Mark | None:
    """The mark to set, or None where the one in force is as new."""
    found = before.marks.get(entry.decision)
    if found is not None and (entry.version, entry.id) <= (found.version, found.id):
        return None
    return Mark(entry.version, entry.id, entry.void, entry.at_ms)


def _replaced(decision: str, at_ms: int) -> Correction:
    """Says that a later decision took the place of this one, as `supersedes` does."""
    subject = Subject("decision", "", decision)
    return Correction(subject=subject, decision=decision, void=True, version=SUPERSEDED, at_ms=at_ms)


def _told(decision: str, mark: Mark, kept: Kept) -> list[Entry]:
    return [
        Correction(
            subject=place,
            decision=decision,
            void=mark.void,
            version=mark.version,
            id=mark.id,
            at_ms=kept.at_ms,
        )
        for place in kept.places
    ]
