"""Reasoning that follows a row to a changed policy: with the codes as they are now called, or not at all.

A code counts as named where it stands by itself, as it is written in the policy. Whatever may be a code and
may be prose (a code without a digit, such as `hate`; one in other letters or within a compound, such as
`u7-like`) leaves nobody sure: reasoning with such a word is emptied as soon as codes change. The warm start
teaches what is left, and a wrong code would be worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from schemas.policy import Policy


def recoded(rationale: str, before: Policy, codes: Mapping[str, str]) -> str:
    """The reasoning with the codes as they are now called; empty where it names one that is gone, or may.

    `codes`: code before → code now, without those that are gone.
    """
    if all(codes.get(category.code) == category.code for category in before.categories):
        return rationale
    named = _named(rationale, before)
    if named is None or not named.issubset(codes):
        return ""
    return _pattern(named).sub(lambda match: codes[match[0]], rationale) if named else rationale


def within(rationale: str, before: Policy, kept: Collection[str]) -> str:
    """The reasoning where all codes that it names, or may name, are among the `kept` ones; else empty."""
    return recoded(rationale, before, {code: code for code in kept})


def _named(rationale: str, policy: Policy) -> set[str] | None:
    """The codes that the reasoning names; None where a word may be a code and may be prose."""
    written = {category.code for category in policy.categories}
    places = {match.span(): match[0] for match in _pattern(written).finditer(rationale)}
    maybe = _pattern(written, within_words=True).finditer(rationale)
    if any(match.span() not in places or not re.search(r"\d", match[0]) for match in maybe):
        return None
    return set(places.values())


def _pattern(codes: Collection[str], *, within_words: bool = False) -> re.Pattern[str]:
    """One of the codes by itself; `within_words`: in any letters, and in compounds as well."""
    # Longer ones first, or U1 would be found in U1-b.
    known = "|".join(re.escape(code) for code in sorted(codes, key=len, reverse=True))
    if within_words:
        return re.compile(rf"(?<!\w)(?:{known})(?!\w)", re.IGNORECASE)
    return re.compile(rf"(?<![\w'’-])(?:{known})(?![\w'’-])")
