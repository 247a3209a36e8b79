"""Variants of a policy under which a row keeps its label: which changes are made, and in which order."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec

from guard.training.data.perturbation import (
    Changed,
    add_list,
    drop_some,
    except_other,
    rename,
    reorder,
    reword,
    unchanged,
)
from guard.training.data.policies import near, own_wordings
from guard.training.data.settings import PerturbationSettings
from schemas.policy import Policy, judgement_content

# A policy may have 64 categories; a list is added to those with room.
_MOST_CATEGORIES: Final = 60
# Subjects that no harm is about, unlike programming or cooking.
_HARMLESS: Final = (
    "sports results",
    "gardening",
    "music lessons",
    "the weather",
    "school mathematics",
    "holiday photographs",
    "chess",
    "knitting",
)


def kept_in_meaning(
    policy: Policy, rng: random.Random, settings: PerturbationSettings, keep: frozenset[str] | None
) -> Changed:
    """Changes that keep labels, each by its share, in one fixed order.

    Words are looked up by the policy's own codes, so codes change after them. `keep` None: all categories.
    """
    words = own_wordings(policy)
    steps: dict[str, Callable[[Policy], Changed]] = {
        "drop": lambda before: drop_some(before, rng, keep or ()),
        "except_other": lambda before: except_other(before, rng, _other_subjects(policy, before, keep)),
        "reword": lambda before: reword(before, rng, words),
        "rename": lambda before: rename(before, rng, words),
        "reorder": lambda before: reorder(before, rng),
        "add": lambda before: add_list(before, rng),
    }
    if keep is None:
        del steps["drop"]
    if len(policy.categories) > _MOST_CATEGORIES:
        del steps["add"]
    changed = unchanged(policy)
    for way, step in steps.items():
        share: float = getattr(settings, way)
        if rng.random() < share:
            after = changed.then(step(changed.policy))
            changed = replace(after, ways=(*changed.ways, way))
    return changed


def _other_subjects(policy: Policy, left: Policy, keep: frozenset[str] | None) -> list[str]:
    """What an exception may name without a change of any label: nothing that the text may be about.

    Harmless subjects of which the policy does not speak, and titles of categories that were taken out, are
    not violated and do not overlap with what is.
    """
    words = msgspec.json.encode(judgement_content(policy)).decode().casefold()
    subjects = [subject for subject in _HARMLESS if subject.rpartition(" ")[2] not in words]
    if keep is not None:
        other = near(policy, keep).union(category.code for category in left.categories)
        subjects += [category.title for category in policy.categories if category.code not in other]
    return subjects
