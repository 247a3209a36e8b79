"""Which rows are perturbed, and how: labels follow the policy's text, and each turned label has its twin.

A row first may go to another view of its source's mapping, then its policy is changed in ways that keep the
label, then it may get a twin: an unsafe row under the policy without what it violates, a safe row under a
policy that lists a word of it. Policies of such twins differ in that, and in a list. Everything follows from
the seed, the row's id, and how often the rows of its policy violate what.

A policy must not tell the label by itself. What an unsafe row violates stays in its policy, so its variants
are of its own kind; a safe row gets one of a kind as an unsafe row of its policy has it, as often as those
have it. When safe rows had variants of their own, a model from scratch learnt these, and called every text
unsafe under the policies as they are written.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar

import msgspec

from guard.training.data.drafts import Draft, chance
from guard.training.data.groups import plain_text
from guard.training.data.mapping import Placed
from guard.training.data.perturbation import (
    Changed,
    Forbidden,
    forbid,
    inverted,
    switch_off,
    unchanged,
    words_of,
)
from guard.training.data.policies import near
from guard.training.data.rationales import recoded, within
from guard.training.data.rows import LabelledRow
from guard.training.data.same_meaning import kept_in_meaning
from guard.training.data.settings import PerturbationSettings
from schemas.policy import Policy

# Unused words are new words, so a second try is rare.
_TRIES: Final = 8
# Categories beside the list of a word: no other row has use of such a policy, so it should be short.
_MOST_BESIDE: Final = 3
# Of a policy with a category switched off: they differ in the list, and in which other one has the exception.
_OFF_VARIANTS: Final = 6
_Made = TypeVar("_Made", Changed, Forbidden)
_Kinds = tuple[list[frozenset[str] | None], list[int]]
"""Sets of violated categories in a fixed order (None: nobody knows which), and counts added up."""


class Variation:
    """Perturbs drafts by the settings. `counts` says how many rows were changed in which way."""

    def __init__(self, settings: PerturbationSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._made: dict[tuple[object, ...], tuple[Policy, Changed]] = {}
        self._kinds: dict[str, _Kinds] = {}
        self.counts: Counter[str] = Counter()

    def apply(self, drafts: Iterable[Draft]) -> list[Draft]:
        """The drafts in order, changed, each twin behind its row."""
        placed = [self._placed(draft) for draft in drafts]
        self._kinds = _kinds(one for drafts in placed for one in drafts if self._varies(one))
        return [after for drafts in placed for after in self._changed(drafts)]

    def _varies(self, draft: Draft) -> bool:
        return draft.perturb and draft.row.split in self._settings.splits

    def _placed(self, draft: Draft) -> list[Draft]:
        """The row in the view that it keeps, or in two of them as twins."""
        if self._varies(draft) and draft.others and self._hit("other_views", draft.row):
            return self._in_view(draft)
        return [draft]

    def _changed(self, placed: list[Draft]) -> list[Draft]:
        draft = placed[0]
        if not self._varies(draft):
            return placed
        text = plain_text(draft.row.turns)
        if len(placed) > 1 or draft.row.twin:
            return [self._surface(each, text)[0] for each in placed]
        changed, codes = self._surface(draft, text)
        if changed.row.label == "unsafe":
            return self._with_off(draft, changed, codes, text)
        return self._with_on(changed, text)

    def _hit(self, name: str, row: LabelledRow) -> bool:
        share: float = getattr(self._settings, name)
        return chance(self._seed, name, row.id) < share

    def _in_view(self, draft: Draft) -> list[Draft]:
        """The row in another view; with it as it was, where the labels differ."""
        other = draft.others[int(chance(self._seed, "view", draft.row.id) * len(draft.others))]
        self.counts["other_views"] += 1
        if other.ruling.label == draft.row.label:
            return [_under(draft, other, draft.row.id, "")]
        name = f"{draft.row.id}~{other.view}"
        mine = msgspec.structs.replace(draft.row, twin=name)
        self.counts["twins_by_view"] += 1
        return [Draft(mine, draft.touched), _under(draft, other, name, draft.row.id)]

    def _surface(self, draft: Draft, text: str) -> tuple[Draft, dict[str, str]]:
        """The row under a policy that says the same of it, and what became of the codes."""
        row = draft.row
        # Where nobody knows which category the text breaks (None), none may go.
        keep = draft.touched
        if row.label == "safe" and keep is not None:
            keep = self._kind_for(row, keep)

        def make(rng: random.Random) -> Changed:
            return kept_in_meaning(row.policy, rng, self._settings, keep)

        changed = self._shared(row, (row.policy, keep), text, make, self._settings.variants)
        if changed is None or not changed.ways:
            return draft, unchanged(row.policy).codes
        self.counts.update(changed.ways)
        codes = tuple(changed.codes[code] for code in row.codes)
        touched = draft.touched
        if touched is not None:
            touched = frozenset(changed.codes[code] for code in touched)
        after = msgspec.structs.replace(
            row,
            policy=changed.policy,
            codes=codes,
            rationale=recoded(row.rationale, row.policy, changed.codes),
        )
        return Draft(after, touched), changed.codes

    def _kind_for(self, row: LabelledRow, keep: frozenset[str]) -> frozenset[str] | None:
        """What an unsafe row of the policy violates, drawn as often as they do, beside what must stay."""
        kinds = self._kinds.get(_name_of(row.policy))
        if kinds is None:
            return keep
        sets, counts = kinds
        place = chance(self._seed, "kind", row.id) * counts[-1]
        drawn = sets[bisect.bisect_right(counts, place)]
        return None if drawn is None else keep | drawn

    def _with_off(self, before: Draft, draft: Draft, codes: dict[str, str], text: str) -> list[Draft]:
        """An unsafe row, and by chance its twin under a policy without what it violates."""
        row = draft.row
        if not self._hit("switch_off", row):
            return [draft]
        broken = frozenset(codes) if before.touched is None else before.touched
        gone = frozenset(codes[c] for c in near(before.row.policy, broken) if c in codes)
        allowed = frozenset(codes[c] for c in broken if c in codes)
        # Where nobody knows what is broken, an exception would have to name the whole policy.
        invert = before.touched is not None and self._hit("invert", row)

        def make(rng: random.Random) -> Changed:
            if invert:
                return inverted(row.policy, rng, gone, allowed)
            return switch_off(row.policy, rng, gone)

        off = self._shared(
            row, (row.policy, "off", gone, allowed if invert else None), text, make, _OFF_VARIANTS
        )
        if off is None:
            return [draft]
        self.counts["twins_inverted" if invert else "twins_switched_off"] += 1
        on, twin = _paired(row, "off", policy=off.policy, label="safe", codes=(), rationale="")
        return [Draft(on, draft.touched), Draft(twin, frozenset())]

    def _with_on(self, draft: Draft, text: str) -> list[Draft]:
        """A safe row, and by chance its twin under a policy that lists one of its words."""
        row = draft.row
        words = words_of(row.turns[-1].text)
        if not words or not self._hit("switch_on", row):
            return [draft]
        rng = random.Random(f"{self._seed}-word-{row.id}")
        # Longer words are more often the subject of a text.
        word = max(rng.sample(words, min(3, len(words))), key=len)
        few = rng.sample(row.policy.categories, rng.randint(1, min(_MOST_BESIDE, len(row.policy.categories))))
        policy = msgspec.structs.replace(row.policy, categories=tuple(few))
        made = _absent_from(text, (forbid(policy, rng, word) for _ in range(_TRIES)))
        if made is None:
            return [draft]
        self.counts["twins_switched_on"] += 1
        rationale = within(row.rationale, row.policy, {category.code for category in few})
        safe = msgspec.structs.replace(row, policy=made.off, rationale=rationale)
        off, twin = _paired(safe, "on", policy=made.on, label="unsafe", codes=(made.code,), rationale="")
        return [Draft(off, frozenset()), Draft(twin, frozenset((made.code,)))]

    def _shared(
        self,
        row: LabelledRow,
        key: tuple[Policy, *tuple[object, ...]],
        text: str,
        make: Callable[[random.Random], Changed],
        variants: int,
    ) -> Changed | None:
        """One of so many variants of a change, shared by rows; None where their words stand in the text."""
        policy, *rest = key
        first = int(chance(self._seed, "variant", row.id) * variants)
        for number in range(first, first + _TRIES):
            name = (id(policy), *rest, number % variants)
            # The policy is kept beside what was made of it, so that its id is not given to another.
            known = self._made.get(name)
            if known is None:
                words = [sorted(part) if isinstance(part, frozenset) else part for part in name[1:]]
                known = policy, make(random.Random(f"{self._seed}-{_name_of(policy)}-{words}"))
                self._made[name] = known
            if not _stands_in(known[1].terms, text):
                return known[1]
        return None


def _kinds(drafts: Iterable[Draft]) -> dict[str, _Kinds]:
    """By the name of a policy: what its unsafe rows violate, and how many rows up to there do."""
    found: dict[str, Counter[frozenset[str] | None]] = {}
    for draft in drafts:
        if draft.row.label == "unsafe":
            found.setdefault(_name_of(draft.row.policy), Counter())[draft.touched] += 1
    kinds = {}
    for policy, counted in found.items():
        sets = sorted(counted, key=lambda one: (one is None, sorted(one or ())))
        kinds[policy] = sets, list(itertools.accumulate(counted[one] for one in sets))
    return kinds


def _under(draft: Draft, placed: Placed, name: str, twin: str) -> Draft:
    """The row in another view, without its reasoning: that speaks of another policy."""
    ruling = placed.ruling
    assert ruling.label is not None
    row = msgspec.structs.replace(
        draft.row,
        id=name,
        policy=placed.policy,
        label=ruling.label,
        codes=ruling.codes,
        twin=twin,
        rationale="",
    )
    return Draft(row, ruling.touched)


def _paired(row: LabelledRow, ending: str, **other: object) -> tuple[LabelledRow, LabelledRow]:
    """The row with a twin, and the twin: the same text, and what is other."""
    name = f"{row.id}~{ending}"
    twin = msgspec.structs.replace(row, id=name, twin=row.id, **other)
    return msgspec.structs.replace(row, twin=name), twin


def _absent_from(text: str, made: Iterable[_Made]) -> _Made | None:
    return next((one for one in made if not _stands_in(one.terms, text)), None)


def _stands_in(terms: Collection[str], text: str) -> bool:
    return any(term.casefold() in text for term in terms)


def _name_of(policy: Policy) -> str:
    return f"{policy.id}-{','.join(category.code for category in policy.categories)}"
