"""Changes of a policy: pure functions of a policy and a random generator.

Those that keep labels: `drop_some`, `reorder`, `rename`, `reword`, `add_list`, `except_other`. Those that
turn them: `switch_off` (the violated categories are gone), `inverted` (they are gone, and another category
names them as its exception) and `forbid` (a list has a word of the text). A prompt shows categories in the
order of their codes, so to change places is to change codes.

Lists are made of words that nobody uses, or of the text's own, so the label follows from what is written.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from guard.training.data.policies import Wording
from guard.training.generator.words import made_up
from schemas.policy import Category, Policy, canonical_categories

_LETTERS: Final = "ABCDEFGHKLMNPRSTUVWXYZ"
_HIGHEST: Final = 99
_LIST_TITLES: Final = (
    "Words that we do not want",
    "Blocked terms",
    "Names that are not mentioned here",
    "House list",
    "Terms of other houses",
    "Not talked about here",
)
_PROSE: Final = (
    "This covers {all}.",
    "Not allowed: {any}.",
    "The following is forbidden here: {all}.",
    "This is about {all}.",
    "We remove messages with {any}.",
)
_MENTIONS: Final = ("Every mention of {any}.", "Messages that name {any}.", "Nobody may write {any} here.")
_MOST_TERMS: Final = 6
# Of switched-off categories, the share in whose place a list stands.
_REPLACED: Final = 0.5
# Of a word of a subject that is looked for in texts; shorter ones stand everywhere.
_LEAST_LETTERS: Final = 5
# Characters of a definition that a policy may have.
_LONGEST: Final = 4000


@dataclass(frozen=True, slots=True)
class Changed:
    """A policy after changes."""

    policy: Policy
    codes: dict[str, str]
    """Code before → code now; categories that are gone or new are not in it."""
    terms: tuple[str, ...] = ()
    """What the added lists forbid or except, and what exceptions name: none of it may stand in the text."""
    ways: tuple[str, ...] = ()
    """Names of the changes, for counting."""

    def then(self, after: Changed) -> Changed:
        """This change and another one after it."""
        codes = {old: after.codes[now] for old, now in self.codes.items() if now in after.codes}
        return Changed(after.policy, codes, self.terms + after.terms, self.ways + after.ways)


def unchanged(policy: Policy) -> Changed:
    """The policy as it is."""
    return Changed(policy, {category.code: category.code for category in policy.categories})


def drop_some(policy: Policy, rng: random.Random, keep: Collection[str]) -> Changed:
    """Some categories but those in `keep` taken out; at least one is left."""
    free = [category.code for category in policy.categories if category.code not in keep]
    least = 0 if keep else 1
    left = rng.randint(min(least, len(free)), len(free)) if free else 0
    kept = {*keep, *rng.sample(free, left)}
    return _kept(policy, [category for category in policy.categories if category.code in kept])


def reorder(policy: Policy, rng: random.Random) -> Changed:
    """The codes given out anew among the categories, so that these change places."""
    codes = [category.code for category in policy.categories]
    return _recoded(policy, rng.sample(codes, len(codes)))


def rename(policy: Policy, rng: random.Random, wordings: dict[str, Wording]) -> Changed:
    """New codes in the same order, and other titles where `wordings` (by code) has some."""
    ordered = list(canonical_categories(policy))
    titled = []
    for category in ordered:
        wording = wordings.get(category.code)
        titles = (category.title, *(wording.titles if wording else ()))
        titled.append(msgspec.structs.replace(category, title=rng.choice(titles)))
    return _recoded(msgspec.structs.replace(policy, categories=tuple(titled)), _new_codes(rng, len(ordered)))


def reword(policy: Policy, rng: random.Random, wordings: dict[str, Wording]) -> Changed:
    """Other definitions: those of `wordings` (by code), the list in another order, or the list as prose."""
    categories = []
    for category in policy.categories:
        wording = wordings.get(category.code)
        phrases = [phrase.strip() for phrase in category.definition.split(";") if phrase.strip()]
        forms = list(wording.definitions) if wording else []
        if len(phrases) > 1:
            shuffled = rng.sample(phrases, len(phrases))
            forms += ["; ".join(shuffled), _prose(rng, _PROSE, shuffled)]
        forms = [form for form in forms if len(form) <= _LONGEST] + [category.definition]
        categories.append(msgspec.structs.replace(category, definition=rng.choice(forms)))
    return Changed(msgspec.structs.replace(policy, categories=tuple(categories)), unchanged(policy).codes)


def add_list(policy: Policy, rng: random.Random) -> Changed:
    """One category more: a customer's list of words that nobody uses; now and then with an exception."""
    terms = [made_up(rng) for _ in range(rng.randint(1, _MOST_TERMS))]
    exceptions = (made_up(rng),) if rng.random() < 0.1 else ()
    added = _list_category(rng, policy, terms, exceptions)
    changed = msgspec.structs.replace(policy, categories=(*policy.categories, added))
    return Changed(changed, unchanged(policy).codes, (*terms, *exceptions))


def except_other(policy: Policy, rng: random.Random, subjects: Sequence[str]) -> Changed:
    """One category names one or two of the `subjects`, which the text is not about, as its exceptions.

    `terms` are these and their longer words: a text in which one of them stands may be about the subject.
    """
    categories = list(policy.categories)
    at = rng.randrange(len(categories))
    named = rng.sample(subjects, min(len(subjects), rng.choice((1, 1, 2))))
    exceptions = (*categories[at].exceptions, *(_in_line(subject) for subject in named))
    categories[at] = msgspec.structs.replace(categories[at], exceptions=exceptions)
    words = (word for subject in named for word in re.findall(rf"\w{{{_LEAST_LETTERS},}}", subject))
    changed = msgspec.structs.replace(policy, categories=tuple(categories))
    return Changed(changed, unchanged(policy).codes, tuple(dict.fromkeys((*named, *words))))


def switch_off(policy: Policy, rng: random.Random, gone: Collection[str]) -> Changed:
    """The policy without the categories in `gone`, half of the time with a list in their place.

    Else a short policy would more often mean safe. The list is of unused words; where no category is left, it
    is always there.
    """
    left = [category for category in policy.categories if category.code not in gone]
    if left:
        off = _kept(policy, left)
        return off.then(add_list(off.policy, rng)) if rng.random() < _REPLACED else off
    terms = [made_up(rng) for _ in range(rng.randint(1, _MOST_TERMS))]
    only = _list_category(rng, policy, terms, ())
    return Changed(msgspec.structs.replace(policy, categories=(only,)), {}, tuple(terms))


def inverted(policy: Policy, rng: random.Random, gone: Collection[str], allowed: Collection[str]) -> Changed:
    """As `switch_off`, and a category that is left names the titles of the `allowed` ones as exceptions."""
    titles = [category.title for category in policy.categories if category.code in allowed]
    off = switch_off(policy, rng, gone)
    categories = list(off.policy.categories)
    at = rng.randrange(len(categories))
    exceptions = (*categories[at].exceptions, *(_in_line(title) for title in titles))
    categories[at] = msgspec.structs.replace(categories[at], exceptions=exceptions)
    return Changed(msgspec.structs.replace(off.policy, categories=tuple(categories)), off.codes, off.terms)


@dataclass(frozen=True, slots=True)
class Forbidden:
    """Two policies that differ in one list: `on` has the word, `off` another word or no list at all."""

    on: Policy
    off: Policy
    code: str
    """Of the list in `on`."""
    terms: tuple[str, ...]
    """The words of the lists beside the forbidden one."""


def forbid(policy: Policy, rng: random.Random, word: str) -> Forbidden:
    """The policy with a list of `word` and unused words, and its twin without the word."""
    other, *terms = (made_up(rng) for _ in range(rng.randint(1, _MOST_TERMS)))
    seed = rng.random()
    at = rng.randint(0, len(terms))

    def listed(one: str) -> Policy:
        words = [*terms[:at], one, *terms[at:]]
        added = _list_category(random.Random(seed), policy, words, ())
        return msgspec.structs.replace(policy, categories=(*policy.categories, added))

    on = listed(word)
    off = listed(other) if rng.random() < 0.5 else policy
    return Forbidden(on, off, on.categories[-1].code, (other, *terms))


def _list_category(
    rng: random.Random, policy: Policy, terms: Sequence[str], exceptions: tuple[str, ...]
) -> Category:
    taken = {category.code.casefold() for category in policy.categories}
    while (code := f"{rng.choice(_LETTERS)}{rng.randint(1, _HIGHEST)}").casefold() in taken:
        pass
    definition = "; ".join(terms) if rng.random() < 0.5 else _prose(rng, _MENTIONS, terms)
    return Category(code=code, title=rng.choice(_LIST_TITLES), definition=definition, exceptions=exceptions)


def _prose(rng: random.Random, frames: Sequence[str], phrases: Sequence[str]) -> str:
    *first, last = phrases
    head = ", ".join(first)
    return (
        rng.choice(frames)
        .replace("{all}", f"{head} and {last}" if first else last)
        .replace("{any}", f"{head} or {last}" if first else last)
    )


def _in_line(title: str) -> str:
    """A title as it stands within a list."""
    return title[:1].lower() + title[1:]


def _kept(policy: Policy, categories: Sequence[Category]) -> Changed:
    changed = msgspec.structs.replace(policy, categories=tuple(categories))
    return Changed(changed, {category.code: category.code for category in categories})


def _recoded(policy: Policy, codes: Sequence[str]) -> Changed:
    """The policy with these codes, in the order of its categories as they stand."""
    pairs = zip(policy.categories, codes, strict=True)
    categories = tuple(msgspec.structs.replace(category, code=code) for category, code in pairs)
    before = [category.code for category in policy.categories]
    return Changed(
        msgspec.structs.replace(policy, categories=categories), dict(zip(before, codes, strict=True))
    )


def _new_codes(rng: random.Random, count: int) -> list[str]:
    """Ascending codes: mostly 1 to n behind a letter, now and then with gaps."""
    letter = rng.choice(_LETTERS)
    if rng.random() < 0.5:
        return [f"{letter}{number}" for number in range(1, count + 1)]
    return [f"{letter}{number}" for number in sorted(rng.sample(range(1, _HIGHEST + 1), count))]


def words_of(text: str) -> list[str]:
    """Words of a text that a list may forbid: 6 to 24 letters, as they are written, each once."""
    return list(dict.fromkeys(re.findall(r"(?<!\w)[^\W\d_]{6,24}(?!\w)", text)))
