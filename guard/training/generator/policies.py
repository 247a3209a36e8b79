"""Policies: built-in categories in many wordings and customers' own lists of terms."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from guard.training.generator.lexicon import (
    CODE_LETTERS,
    CONCEPTS,
    CUSTOM_TITLES,
    EXCEPTIONS,
    HELD_OUT_THEMES,
    HIGHEST_CODE,
    MORE_NOUNS,
    NOUNS,
)
from guard.training.generator.wordings import prose
from guard.training.generator.words import made_up, near_miss, odd_letters, other_grammar

TermSource = Literal["train", "wide", "made_up", "other_grammar", "themes", "near"]
"""Where custom terms come from. `train` and `wide` (more nouns, more odd letters) are for training.

All others are held out. `near` lists held-out made-up words.
"""


@dataclass(frozen=True, slots=True)
class Wordings:
    """How definitions are written: of the categories, how many are prose, and how many name exceptions."""

    prose: float = 0.0
    exceptions: float = 0.06
    held_out: bool = False
    """Sentences that training never draws."""


LISTS = Wordings()
"""Phrases with `; ` between them."""


def wordings_with(prose: float) -> Wordings:
    """Of training: so many of the definitions as prose; with them more exceptions, which sentences name."""
    return Wordings(prose, 0.15) if prose else LISTS


TRAINING_SOURCES: tuple[TermSource, ...] = ("train", "wide")


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """One category. Satisfies `guard.prompt.CategoryText`."""

    code: str
    title: str
    phrases: tuple[str, ...]
    exceptions: tuple[str, ...] = ()
    concept: str | None = None
    """The built-in concept; None is a customer's own category, understood by its phrases alone."""
    wording: str = ""
    """The definition as prose, which may name exceptions of its own; empty: the phrases as a list."""
    excepted: tuple[str, ...] = ()
    """The exceptions that the wording names."""

    @property
    def definition(self) -> str:
        return self.wording or "; ".join(self.phrases)

    @property
    def allowed(self) -> tuple[str, ...]:
        """What the category excepts, wherever it says so."""
        return (*self.exceptions, *self.excepted)

    @property
    def terms(self) -> tuple[str, ...]:
        """What counts as listed in a customer's own category: its phrases, and its title."""
        return (*self.phrases, self.title)


def draw_term(rng: random.Random, source: TermSource) -> str:
    """One custom term."""
    if source == "train":
        kind = rng.random()
        if kind < 0.15:
            return odd_letters(rng)
        return rng.choice(NOUNS) if kind < 0.4 else made_up(rng)
    if source == "wide":
        kind = rng.random()
        if kind < 0.3:
            return odd_letters(rng)
        return rng.choice(rng.choice((NOUNS, MORE_NOUNS))) if kind < 0.6 else made_up(rng)
    if source == "other_grammar":
        return other_grammar(rng)
    if source == "themes":
        return rng.choice(HELD_OUT_THEMES[rng.choice(list(HELD_OUT_THEMES))])
    return made_up(rng, held_out=True)


def draw_policy(
    rng: random.Random,
    source: TermSource = "train",
    *,
    builtin: int | None = None,
    custom: int | None = None,
    include: str | None = None,
    wordings: Wordings = LISTS,
) -> tuple[PolicyLine, ...]:
    """A policy in canonical order (by code) with `builtin` and `custom` categories, drawn when None.

    `include` names a concept that is always in it. Terms are unique in a policy, exceptions among them.
    """
    names = list(CONCEPTS)
    if builtin is None:
        builtin = rng.randrange(11) if rng.random() < 0.9 else rng.randrange(11, len(names) + 1)
    chosen = rng.sample(names, builtin)
    if include is not None and include not in chosen:
        chosen = [*chosen[:-1], include]
    lines = [_builtin_line(rng, name, wordings) for name in chosen]
    if custom is None:
        custom = rng.choice([0, 1, 1, 2, 3])
    lines += _custom_lines(rng, source, custom if lines else max(1, custom), wordings)
    if wordings.prose:
        held_out = wordings.held_out
        lines = [
            worded(rng, line, held_out=held_out) if rng.random() < wordings.prose else line for line in lines
        ]
    rng.shuffle(lines)
    codes = _draw_codes(rng, len(lines))
    return tuple(replace(line, code=code) for line, code in zip(lines, codes, strict=True))


def worded(rng: random.Random, line: PolicyLine, *, held_out: bool) -> PolicyLine:
    """The category with its definition as prose, its exceptions within it.

    `held_out`: in sentences that training never draws.
    """
    wording = prose(rng, line.phrases, line.exceptions, held_out=held_out)
    return replace(line, wording=wording, exceptions=(), excepted=line.exceptions)


def removed(policy: tuple[PolicyLine, ...], code: str) -> tuple[PolicyLine, ...]:
    """The policy without one category: the twin in which it is switched off."""
    return tuple(line for line in policy if line.code != code)


def draw_unlisted(rng: random.Random, policy: tuple[PolicyLine, ...], source: TermSource, near: float) -> str:
    """A term that the policy does not list; with probability `near` one that resembles a listed term."""
    listed = [term for line in policy if line.concept is None for term in line.terms]
    excepted = [term for line in policy if line.concept is None for term in line.allowed]
    if excepted and rng.random() < 0.3:
        return rng.choice(excepted)
    while True:
        if listed and (source == "near" or rng.random() < near):
            term = near_miss(rng, rng.choice(listed))
        else:
            term = draw_term(rng, source)
        if term not in listed:
            return term


def _builtin_line(rng: random.Random, name: str, wordings: Wordings) -> PolicyLine:
    concept = CONCEPTS[name]
    phrases = tuple(rng.sample(concept.phrases, rng.choice([1, 1, 1, 2, 2, 2, 3, 3, 3, 5])))
    exceptions = (
        tuple(rng.sample(EXCEPTIONS, rng.choice([1, 1, 2]))) if rng.random() < wordings.exceptions else ()
    )
    return PolicyLine("", rng.choice(concept.titles), phrases, exceptions, name)


def _custom_lines(rng: random.Random, source: TermSource, count: int, wordings: Wordings) -> list[PolicyLine]:
    lines: list[PolicyLine] = []
    titles: set[str] = set()
    seen: set[str] = set()
    while len(lines) < count:
        theme = rng.choice(list(HELD_OUT_THEMES))
        if source == "themes":
            title = theme
        elif rng.random() < 0.5:
            title = rng.choice(CUSTOM_TITLES)
        else:
            title = made_up(rng, held_out=source not in TRAINING_SOURCES)
        if title in titles:
            continue
        titles.add(title)
        terms: list[str] = []
        wanted = rng.choice([1, 2, 3, 4, 5, 6])
        excepts = source in TRAINING_SOURCES and rng.random() < wordings.exceptions
        excepted = rng.choice([1, 2]) if excepts else 0
        while len(terms) < wanted + excepted:
            term = rng.choice(HELD_OUT_THEMES[theme]) if source == "themes" else draw_term(rng, source)
            if term not in seen:
                seen.add(term)
                terms.append(term)
        lines.append(PolicyLine("", title, tuple(terms[:wanted]), tuple(terms[wanted:])))
    return lines


def _draw_codes(rng: random.Random, count: int) -> list[str]:
    """Ascending codes of one letter group, mostly 1 to n as policies have them."""
    kind = rng.random()
    if kind < 0.4:
        numbers = list(range(1, count + 1))
    elif kind < 0.6:
        first = rng.randrange(1, HIGHEST_CODE - count + 2)
        numbers = list(range(first, first + count))
    else:
        numbers = sorted(rng.sample(range(1, HIGHEST_CODE + 1), count))
    if rng.random() < 0.2 and count > 1:
        # Two groups in one policy, as when a customer's own categories follow a shipped pack.
        first_letter, second = sorted(rng.sample(CODE_LETTERS, 2))
        split = rng.randrange(1, count)
        codes = [f"{first_letter}{n}" for n in numbers[:split]] + [
            f"{second}{n}" for n in numbers[: count - split]
        ]
    else:
        letter = rng.choice(CODE_LETTERS)
        codes = [f"{letter}{n}" for n in numbers]
    return [code.upper() for code in codes]
