import random

from hypothesis import given
from hypothesis import strategies as st

from guard.training.data.policies import SHIPPED_POLICIES, overlaps, policy_of
from guard.training.data.same_meaning import kept_in_meaning
from guard.training.data.settings import PerturbationSettings
from tests.unit.guard.training.data.samples import policy

RSAFE = policy_of(SHIPPED_POLICIES / "rsafe-18.yaml", ())
TOPICS = policy_of(SHIPPED_POLICIES / "topics.yaml", ())


def only(**shares: float) -> PerturbationSettings:
    """These changes and no others."""
    names = ("drop", "reorder", "rename", "reword", "add", "except_other")
    return PerturbationSettings(**{**dict.fromkeys(names, 0.0), **shares})  # type: ignore[arg-type]


@given(seed=st.integers(0, 60))
def test_exceptions_name_nothing_that_the_text_may_be_about(seed: int) -> None:
    own = {category.code: set(category.exceptions) for category in RSAFE.categories}
    title = {category.code: category.title for category in RSAFE.categories}
    near = {title[code].lower() for code in ("U7", *overlaps()["rsafe-18"]["U7"])}
    settings = only(drop=1, except_other=1)
    changed = kept_in_meaning(RSAFE, random.Random(seed), settings, frozenset(("U7",))).policy
    added = {e for c in changed.categories for e in c.exceptions if e not in own[c.code]}
    assert 1 <= len(added) <= 2
    assert not near & {exception.lower() for exception in added}
    assert not {category.title.lower() for category in changed.categories} & added


@given(seed=st.integers(0, 60))
def test_an_exception_is_no_subject_of_the_policy(seed: int) -> None:
    changed = kept_in_meaning(TOPICS, random.Random(seed), only(except_other=1), None).policy
    assert "school mathematics" not in {e for c in changed.categories for e in c.exceptions}


@given(seed=st.integers(0, 30))
def test_nothing_is_dropped_where_any_category_may_be_violated(seed: int) -> None:
    changed = kept_in_meaning(RSAFE, random.Random(seed), only(drop=1, rename=1), None)
    assert set(changed.codes) == {category.code for category in RSAFE.categories}
    assert changed.ways == ("rename",)


@given(seed=st.integers(0, 30))
def test_words_are_those_of_the_category_whatever_its_code_becomes(seed: int) -> None:
    """Definitions of a category are known by a word that none of its other wordings lacks."""
    settings = only(drop=1, reorder=1, rename=1, reword=1, add=1)
    changed = kept_in_meaning(RSAFE, random.Random(seed), settings, frozenset(("U18",)))
    (espionage,) = (c for c in changed.policy.categories if c.code == changed.codes["U18"])
    assert "secrets" in espionage.definition
    assert changed.ways == ("drop", "reword", "rename", "reorder", "add")


@given(seed=st.integers(0, 30))
def test_a_customers_policy_with_a_shipped_id_keeps_its_own_words(seed: int) -> None:
    own = policy("U1", "U7", name="rsafe-18")
    changed = kept_in_meaning(own, random.Random(seed), only(reword=1, rename=1), None)
    for category in own.categories:
        (now,) = (c for c in changed.policy.categories if c.code == changed.codes[category.code])
        assert now.title == category.title
        assert f"second of {category.code}" in now.definition


def test_a_full_policy_gets_no_list() -> None:
    full = policy(*(f"C{number}" for number in range(1, 65)))
    changed = kept_in_meaning(full, random.Random(0), only(add=1), None)
    assert len(changed.policy.categories) == 64
