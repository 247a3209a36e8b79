"""Policies: rules between fields, and which field enters which hash."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.conduct import Conduct, ConductRule, Level
from schemas.identifiers import FieldError
from schemas.json_schema import NOUNS, wire_schema
from schemas.policy import (
    Band,
    Category,
    Crosswalk,
    Policy,
    PolicyExample,
    canonical_categories,
    judgement_content,
    judgement_hash,
    policy_hash,
)
from tests.unit.schemas.strategies import policies

SPAM = Category(code="C1", title="Spam", definition="bulk messages; unwanted ads", exceptions=("news",))
RIVALS = Category(code="C2", title="Rivals", definition="acme; globex")
POLICY = Policy(id="house-rules", version="1", categories=(SPAM, RIVALS))
BOTH, POLICY_ONLY, NEITHER = {"policy_hash", "judgement_hash"}, {"policy_hash"}, set[str]()

RATED = "max_false_positive_rate"
NO_THRESHOLD = {"threshold": None}

# field → a value that differs from POLICY's
POLICY_CHANGES: dict[str, Any] = {
    "id": "other",
    "version": "2",
    "categories": (SPAM,),
    "title": "House rules",
    "tenant": "acme",
    "threshold": 0.25,
    RATED: 0.01,
    "surfaces": ("user",),
    "mode": "fast",
    "uncertain_band": Band(low=0.2, high=0.8),
    "on_unjudged": "block",
    "on_unavailable": "allow",
    "conduct": Conduct(
        rules=(ConductRule(id="r", per="author", window_s=60, levels=(Level(score=3, recommend="warn"),)),)
    ),
    "deadline_ms": 5,
    "cache_ttl": 5,
    "examples": (PolicyExample(text="hello", label="safe"),),
}
CATEGORY_CHANGES: dict[str, Any] = {
    "code": "C9",
    "title": "Ads",
    "definition": "bulk messages",
    "exceptions": ("news", "art"),
    "action": "flag",
    "threshold": 0.25,
    RATED: 0.01,
    "crosswalk": Crosswalk(rsafe=("U3",)),
}


def _changed_hashes(changed: Policy) -> set[str]:
    hashes = {"policy_hash": policy_hash, "judgement_hash": judgement_hash}
    return {name for name, compute in hashes.items() if compute(changed) != compute(POLICY)}


def _enters(definition: dict[str, Any]) -> dict[str, set[str]]:
    return {name: set(field["x-enters"]) for name, field in definition["properties"].items()}


_SCHEMA = wire_schema(next(noun for noun in NOUNS if noun.struct is Policy))


def test_hashes_are_pinned() -> None:
    assert policy_hash(POLICY) == "0dbda162ad44dced5c996588954f4f78bd4570d4b78cf98f4cc9f0dee35d8962"
    assert judgement_hash(POLICY) == "53c3cfa0091fb3a0b8bc59202a350469cbe2fd6efb133d0938ca9b94b9699391"


def test_every_field_says_which_hash_it_enters() -> None:
    assert set(_enters(_SCHEMA)) == set(POLICY_CHANGES) == set(Policy.__struct_fields__)
    assert (
        set(_enters(_SCHEMA["$defs"]["Category"])) == set(CATEGORY_CHANGES) == set(Category.__struct_fields__)
    )


@pytest.mark.parametrize("field", POLICY_CHANGES)
def test_a_policy_field_enters_the_hashes_that_it_says(field: str) -> None:
    # A rate stands in the place of a threshold.
    more = NO_THRESHOLD if field == RATED else {}
    changed = msgspec.structs.replace(POLICY, **{field: POLICY_CHANGES[field], **more})
    assert _changed_hashes(changed) == _enters(_SCHEMA)[field]


@pytest.mark.parametrize("field", CATEGORY_CHANGES)
def test_a_category_field_enters_the_hashes_that_it_says(field: str) -> None:
    category = msgspec.structs.replace(SPAM, **{field: CATEGORY_CHANGES[field]})
    changed = msgspec.structs.replace(POLICY, categories=(category, RIVALS))
    assert _changed_hashes(changed) == _enters(_SCHEMA["$defs"]["Category"])[field]


def test_a_changed_threshold_keeps_the_judgement_hash() -> None:
    assert _enters(_SCHEMA)["threshold"] == POLICY_ONLY
    assert _enters(_SCHEMA)["examples"] == NEITHER
    assert _enters(_SCHEMA["$defs"]["Category"])["definition"] == BOTH


def test_a_policy_without_a_rate_keeps_the_hash_that_it_had_before_rates_existed() -> None:
    assert POLICY.threshold == 0.5
    assert policy_hash(POLICY) == policy_hash(msgspec.structs.replace(POLICY, threshold=None))


def test_a_band_ends_where_it_begins_or_above() -> None:
    assert Band(low=0.4, high=0.4).high == 0.4
    with pytest.raises(FieldError) as caught:
        Band(low=0.4, high=0.3)
    assert caught.value.path == ("high",)


def test_either_a_threshold_or_a_rate_and_not_both() -> None:
    with pytest.raises(FieldError, match="not both") as caught:
        msgspec.structs.replace(POLICY, max_false_positive_rate=0.01)
    assert caught.value.path == ("max_false_positive_rate",)
    with pytest.raises(FieldError, match="not both") as caught:
        msgspec.structs.replace(SPAM, threshold=0.5, max_false_positive_rate=0.01)
    assert caught.value.path == ("max_false_positive_rate",)
    rated = Policy(id="a", version="1", categories=(SPAM,), max_false_positive_rate=0.01)
    assert rated.threshold is None
    assert msgspec.json.decode(msgspec.json.encode(rated), type=Policy) == rated


@given(policies(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_the_order_of_categories_and_surfaces_enters_no_hash(policy: Policy, random: Any) -> None:
    categories, surfaces = list(policy.categories), list(policy.surfaces)
    random.shuffle(categories)
    random.shuffle(surfaces)
    shuffled = msgspec.structs.replace(policy, categories=tuple(categories), surfaces=tuple(surfaces))
    assert policy_hash(shuffled) == policy_hash(policy)
    assert judgement_hash(shuffled) == judgement_hash(policy)
    assert judgement_content(shuffled) == judgement_content(policy)


@given(policies(), policies())
@settings(deadline=None, max_examples=50)
def test_different_questions_have_different_judgement_hashes(one: Policy, other: Policy) -> None:
    assert (judgement_hash(one) == judgement_hash(other)) == (
        judgement_content(one) == judgement_content(other)
    )


def test_codes_that_differ_only_in_leading_zeros_have_one_order() -> None:
    codes = ("S1", "S01", "S10", "S2", "s3")
    categories = tuple(msgspec.structs.replace(SPAM, code=code) for code in codes)
    policy = msgspec.structs.replace(POLICY, categories=categories)
    assert [c.code for c in canonical_categories(policy)] == ["S01", "S1", "S2", "s3", "S10"]


def test_a_code_stands_once_whatever_its_case() -> None:
    with pytest.raises(FieldError, match="'c1' stands twice") as caught:
        Policy(id="a", version="1", categories=(SPAM, msgspec.structs.replace(SPAM, code="c1")))
    assert caught.value.path == ("categories", 1, "code")


def test_an_example_names_only_categories_of_its_policy() -> None:
    examples = (PolicyExample(text="x", label="unsafe", codes=("C1", "C7")),)
    with pytest.raises(FieldError, match="no category 'C7'") as caught:
        msgspec.structs.replace(POLICY, examples=examples)
    assert caught.value.path == ("examples", 0, "codes", 1)


def test_a_safe_example_names_no_category() -> None:
    examples = (PolicyExample(text="x", label="safe", codes=("C1",)),)
    with pytest.raises(FieldError, match="a safe example"):
        msgspec.structs.replace(POLICY, examples=examples)


def test_surfaces_names_a_role_once() -> None:
    with pytest.raises(FieldError, match="stands twice"):
        msgspec.structs.replace(POLICY, surfaces=("user", "user"))
