"""A profile: how one kind of guard is asked, and the grammar of its answers.

A guard either reads the policy's own text, or judges by a *taxonomy* of its own; then the `crosswalk` of the
policy's categories says which of its codes are meant. A category that maps to none of them cannot be judged,
and such a policy is refused before anything is started.

A code of the taxonomy that maps to no category is no violation under the policy: an `unsafe` that names only
such codes is `safe`, without a score (the guard's own is of another question), and the rationale says so. An
`unsafe` that names a mapped code beside others is unsafe.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from guard.answer import Answer, Unparseable
from guard.profiles.format import Format
from guard.prompt_encoding import Skeleton
from schemas.identifiers import Mode, Role, Way
from schemas.policy import Policy, canonical_categories

TaxonomyName = Literal["rsafe", "mlcommons", "qwen3guard"]
"""Field of `crosswalk` that maps to it."""
Read = Callable[[str, Collection[str]], Answer | Unparseable]
"""A completion and the guard's codes → what it says, in these codes. Never raises."""

EVERYBODY: Final[frozenset[Role]] = frozenset({"user", "assistant"})


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """What a guard judges by, whatever the policy says."""

    name: TaxonomyName
    codes: Mapping[str, frozenset[Role]]
    """As the guard writes them, and in whose messages it looks for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A kind of guard. Equal names, equal prompts and equal reading of answers."""

    name: str
    """What a manifest and `RSAFE_GUARD__PROFILE` call it."""
    grammar: str
    """Name of the grammar; `parser_version` of decisions."""
    read: Read
    modes: tuple[Way, ...]
    """Ways in which it can be asked, 1 or 2; `adaptive` needs both."""
    taxonomy: Taxonomy | None = None
    """What it judges by; None: by the policy's own text."""
    numbered: bool = False
    """Whether the policy's categories stand in the prompt as S1, S2 and so on, in canonical order."""
    one_category: bool = False
    """Whether a call is about one category: a policy of several needs a call for each."""
    answer_tokens: int = 0
    """Room that its longest answer needs, in tokens; 0: what the setting says."""
    template: str = ""
    """Our own prompt template; empty: the checkpoint's, else the default. Not with `format`."""
    skeleton: Skeleton | None = None
    """Chat structure around our template; None: that of the tokenizer's chat template."""
    format: Format | None = None
    """The prompt in the maker's words; None: ours (`guard.prompt`)."""

    @property
    def scores_codes(self) -> bool:
        """Whether the codes behind an `unsafe` can be scored: it writes the policy's own, in our grammar."""
        return self.format is None and self.taxonomy is None

    def codes_of(self, policy: Policy) -> dict[str, tuple[str, ...]]:
        """What the guard may answer → codes of the policy that it stands for; none: it is no violation."""
        categories = canonical_categories(policy)
        if self.numbered:
            return {f"S{number}": (category.code,) for number, category in enumerate(categories, 1)}
        if self.taxonomy is None:
            return {category.code: (category.code,) for category in policy.categories}
        name = self.taxonomy.name
        return {
            code: tuple(c.code for c in categories if code in getattr(c.crosswalk, name))
            for code in self.taxonomy.codes
        }

    def answer(self, text: str, policy: Policy) -> Answer | Unparseable:
        """What a completion says under the policy, in its codes. Never raises."""
        codes = self.codes_of(policy)
        found = self.read(text, codes)
        if isinstance(found, Unparseable) or (self.taxonomy is None and not self.numbered):
            return found
        ours = tuple(dict.fromkeys(code for theirs in found.codes for code in codes[theirs]))
        if found.label == "unsafe" and found.codes and not ours:
            theirs = ", ".join(found.codes)
            note = f"The guard names {theirs}, which is no category of this policy."
            return Answer("safe", (), f"{found.rationale} {note}".strip())
        return msgspec.structs.replace(found, codes=ours)

    def mapping(self, policy: Policy) -> str:
        """Canonical text of what the guard's codes mean under the policy; empty where it reads the policy.

        Verdicts under different ones are not comparable, whatever else is equal.
        """
        if self.taxonomy is None:
            return ""
        return ";".join(f"{code}={','.join(ours)}" for code, ours in self.codes_of(policy).items() if ours)

    def refusals(self, policy: Policy) -> list[str]:
        """Why the guard cannot judge by the policy, a sentence a reason; none: it can."""
        found = []
        if (mode := self._lacking(policy.mode)) is not None:
            have = ", ".join(f"`{way}`" for way in self.modes)
            needs = f", which `{policy.mode}` needs" if policy.mode != mode else ""
            found.append(
                f"mode: a guard of the profile {self.name!r} has no `{mode}`{needs}; expected {have}"
            )
        if self.taxonomy is not None:
            found.extend(self._unmapped(policy, self.taxonomy))
        return found

    def _lacking(self, mode: Mode) -> Way | None:
        wanted: tuple[Way, ...] = ("fast", "think") if mode == "adaptive" else (mode,)
        return next((way for way in wanted if way not in self.modes), None)

    def _unmapped(self, policy: Policy, taxonomy: Taxonomy) -> list[str]:
        found = []
        for category in canonical_categories(policy):
            field = f"category {category.code}: crosswalk.{taxonomy.name}"
            codes = getattr(category.crosswalk, taxonomy.name)
            strange = [code for code in codes if code not in taxonomy.codes]
            known = ", ".join(taxonomy.codes)
            if strange:
                found.append(f"{field}: the profile {self.name!r} has no {strange[0]!r}; expected of {known}")
                continue
            if not codes:
                found.append(
                    f"{field}: absent, so a guard of the profile {self.name!r}, which judges by categories "
                    f"of its own, cannot judge this one; expected one or more of {known}, or a profile that "
                    "reads the policy"
                )
                continue
            looked: frozenset[Role] = frozenset().union(*(taxonomy.codes[code] for code in codes))
            found.extend(
                f"{field}: the profile {self.name!r} does not look for {', '.join(codes)} in messages of "
                f"the role {role}; expected another code too, or `surfaces` without {role}"
                for role in sorted(set(policy.surfaces) - looked)
            )
        return found
