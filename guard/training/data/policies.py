"""The policies that mappings refer to, what their categories share, and how else they can be worded.

Shipped in `policies/`: `<name>.yaml` is a policy as the worker reads it; `overlaps.yaml` says for each
category of a policy which others a text may break as well; `wordings.yaml` has other titles and definitions
that mean the same. Both count for categories that read as the shipped ones: an id alone says nothing, since
customers choose ids. `rsafe-18` reads as the worker's pack does (a test compares them): it stands here again
because the guard knows nothing of the worker.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from guard.training.data.errors import TrainingDataError
from guard.training.data.yaml_file import read_yaml
from schemas.policy import Policy

SHIPPED_POLICIES: Final = Path(__file__).parent / "policies"
_BESIDE: Final = ("overlaps", "wordings")


class Wording(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other words for one category; each means what the policy's own say."""

    titles: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()


def shipped_policies() -> list[str]:
    """Names of the shipped policies, in alphabetical order."""
    return sorted(p.stem for p in SHIPPED_POLICIES.glob("*.yaml") if p.stem not in _BESIDE)


@cache
def read_policy(path: Path) -> Policy:
    """The policy of a file, without its examples; the same object each time. Raises `TrainingDataError`."""
    return msgspec.structs.replace(read_yaml(path, Policy), examples=())


@cache
def policy_of(path: Path, categories: tuple[str, ...]) -> Policy:
    """The policy with these categories only (none named: all of them), of the same id; one object each."""
    policy = read_policy(path)
    if not categories:
        return policy
    known = {category.code for category in policy.categories}
    for code in categories:
        if code not in known:
            raise TrainingDataError(f"{path}: categories: expected {code!r} among them")
    kept = tuple(category for category in policy.categories if category.code in categories)
    return msgspec.structs.replace(policy, categories=kept)


@cache
def overlaps() -> dict[str, dict[str, tuple[str, ...]]]:
    """Policy id → code → codes that a text which breaks it may break as well."""
    return read_yaml(SHIPPED_POLICIES / "overlaps.yaml", dict[str, dict[str, tuple[str, ...]]])


def near(policy: Policy, broken: Collection[str]) -> frozenset[str]:
    """`broken`, and the codes of all other categories that a text which breaks those may break as well.

    `overlaps.yaml` says so of categories that read as the shipped ones. Of any other category nothing is
    known: it is near to all, and all are near to it.
    """
    if not broken:
        return frozenset()
    known = overlaps().get(policy.id)
    codes = {category.code for category in policy.categories}
    shipped = set() if known is None else set(_as_shipped(policy))
    if known is None or not shipped.issuperset(broken):
        return frozenset(codes.union(broken))
    listed = {other for code in broken for other in known.get(code, ())}
    return frozenset({*broken, *(listed & codes), *(codes - shipped)})


def own_wordings(policy: Policy) -> dict[str, Wording]:
    """Code → other words, for the categories that read as the shipped ones of that policy id and code do."""
    known = wordings().get(policy.id, {})
    return {code: known[code] for code in _as_shipped(policy) if code in known}


@cache
def wordings() -> dict[str, dict[str, Wording]]:
    """Policy id → code → its other words."""
    return read_yaml(SHIPPED_POLICIES / "wordings.yaml", dict[str, dict[str, Wording]])


def _as_shipped(policy: Policy) -> list[str]:
    """Codes of the categories with the title, definition and exceptions of the shipped policy of this id.

    A customer may use an id or a code for something else; then nothing is known of it.
    """
    words = _shipped_words(policy.id)
    return [c.code for c in policy.categories if words.get(c.code) == (c.title, c.definition, c.exceptions)]


@cache
def _shipped_words(name: str) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Code → title, definition and exceptions; nothing for a policy that is not shipped."""
    if name not in shipped_policies():
        return {}
    shipped = read_policy(SHIPPED_POLICIES / f"{name}.yaml")
    return {c.code: (c.title, c.definition, c.exceptions) for c in shipped.categories}
