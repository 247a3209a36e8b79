"""Scores: how much decisions weigh together in a rule's window. Pure.

The levels of a rule are asked for once per window of `window_s` since 1970 in which a decision lies, at each
of its decisions: which levels are reached does not depend on the order in which decisions came to be known.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.conduct import ConductRule
from schemas.identifiers import Action, Role
from workers.conduct.state import Kept

# Binary fractions: 0.1 three times is more than 0.3 at the 17th digit, and a person expects 0.3.
_DIGITS: Final = 9


@dataclass(frozen=True, slots=True)
class Counted:
    """A decision that has weight under a rule."""

    at_ms: int
    decision: str
    author: str
    weight: float


@dataclass(frozen=True, slots=True)
class Reached:
    """A score, the decision at whose time it stood, and the decisions in it, oldest first."""

    score: float
    at_ms: int
    decisions: tuple[str, ...]


def weight_of(rule: ConductRule, action: Action, role: Role, codes: Sequence[str]) -> float:
    """Weight of the action times the largest factor of the violated categories; 0: it does not count."""
    if role not in rule.roles:
        return 0.0
    factors = {code.casefold(): factor for code, factor in rule.categories.items()}
    named = [factors.get(code.casefold(), 1.0) for code in codes]
    return rule.actions.of(action) * max(named, default=1.0)


def counted(rule: ConductRule, digest: str, strikes: Mapping[str, Kept]) -> list[Counted]:
    """The decisions that the rule of this hash weighs, in order of event time, then of id."""
    found = (
        Counted(kept.at_ms, decision, kept.author, weight_of(rule, kept.action, kept.role, kept.codes))
        for decision, kept in strikes.items()
        if digest in kept.rules
    )
    return sorted((one for one in found if one.weight > 0), key=lambda one: (one.at_ms, one.decision))


def start_of(rule: ConductRule, at_ms: int) -> int:
    """Start of the window since 1970 in which the time lies, in milliseconds."""
    size_ms = rule.window_s * 1000
    return at_ms // size_ms * size_ms


def score_at(rule: ConductRule, ordered: Sequence[Counted], at_ms: int) -> Reached:
    """The score at a time: of the decisions up to then within the window that ends or runs then."""
    size_ms = rule.window_s * 1000
    first_ms = start_of(rule, at_ms) if rule.window == "tumbling" else at_ms - size_ms + 1
    low = bisect_left(ordered, first_ms, key=lambda one: one.at_ms)
    high = bisect_left(ordered, at_ms + 1, key=lambda one: one.at_ms)
    within = ordered[low:high]
    decisions = tuple(one.decision for one in within)
    if rule.counts == "authors":
        return Reached(float(len({one.author for one in within})), at_ms, decisions)
    if rule.half_life_s is None:
        total = math.fsum(one.weight for one in within)
    else:
        half_ms = rule.half_life_s * 1000
        total = math.fsum(one.weight * 0.5 ** ((at_ms - one.at_ms) / half_ms) for one in within)
    return Reached(round(total, _DIGITS), at_ms, decisions)


def reached_in(
    rule: ConductRule, ordered: Sequence[Counted], start_ms: int, from_ms: int = 0
) -> list[Reached]:
    """For each level the first score in this window, at a time of at least `from_ms`, that reaches it.

    One entry per level that is reached, in their order; then one of the highest score of all (0 where nothing
    counts), so that the list is never empty. Each time from `from_ms` on is added up anew: where a thousand
    decisions lie in one window, and one is taken back, that is up to 0.1 s of a core.
    """
    low = bisect_left(ordered, max(start_ms, from_ms), key=lambda one: one.at_ms)
    high = bisect_left(ordered, start_ms + rule.window_s * 1000, key=lambda one: one.at_ms)
    highest = Reached(0.0, start_ms, ())
    found: list[Reached] = []
    for at_ms in sorted({one.at_ms for one in ordered[low:high]}):
        here = score_at(rule, ordered, at_ms)
        if here.score > highest.score:
            highest = here
        while len(found) < len(rule.levels) and here.score >= rule.levels[len(found)].score:
            found.append(here)
        if len(found) == len(rule.levels):
            break  # what is higher still changes nothing
    return [*found, highest]
