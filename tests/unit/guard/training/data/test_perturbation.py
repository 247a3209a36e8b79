import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.training.data.perturbation import (
    Changed,
    add_list,
    drop_some,
    except_other,
    forbid,
    inverted,
    rename,
    reorder,
    reword,
    switch_off,
    unchanged,
    words_of,
)
from guard.training.data.policies import Wording
from schemas.policy import Policy, canonical_categories
from tests.unit.guard.training.data.samples import policy

CODES = ("A1", "A2", "A3", "A4")
WORDINGS = {"A2": Wording(titles=("Other title",), definitions=("Said in other words.",))}
seeds = st.integers(0, 10_000).map(random.Random)
KEEPING: dict[str, Callable[[Policy, random.Random], Changed]] = {
    "drop": lambda p, rng: drop_some(p, rng, {"A2"}),
    "reorder": reorder,
    "rename": lambda p, rng: rename(p, rng, WORDINGS),
    "reword": lambda p, rng: reword(p, rng, WORDINGS),
    "add": add_list,
    "except_other": lambda p, rng: except_other(p, rng, ["travel", "food", "music"]),
}


def meaning(changed: Changed, code: str) -> set[str]:
    """The words by which a category of the tests is known, wherever it now stands."""
    (category,) = (c for c in changed.policy.categories if c.code == changed.codes[code])
    if "other words" in category.definition:
        return {f"{word} of A2" for word in ("first", "second", "third")}
    return {
        f"{word} of {c}"
        for c in CODES
        for word in ("first", "second", "third")
        if f"{word} of {c}" in category.definition
    }


@pytest.mark.parametrize("name", KEEPING)
@given(rng=seeds)
def test_a_change_that_keeps_labels_keeps_what_codes_mean(name: str, rng: random.Random) -> None:
    changed = KEEPING[name](policy(*CODES), rng)
    assert changed.codes.get("A2")
    for code in changed.codes:
        assert meaning(changed, code) == {f"{word} of {code}" for word in ("first", "second", "third")}
    codes = [category.code for category in changed.policy.categories]
    assert len(set(codes)) == len(codes) >= 1


@pytest.mark.parametrize("name", KEEPING)
def test_every_change_changes_something_and_is_drawn_from_the_seed(name: str) -> None:
    made = [KEEPING[name](policy(*CODES), random.Random(seed)) for seed in range(20)]
    again = [KEEPING[name](policy(*CODES), random.Random(seed)) for seed in range(20)]
    assert made == again
    assert any(one.policy != policy(*CODES) for one in made)
    assert len({msgspec.json.encode(one.policy) for one in made}) > 3


def test_reordering_changes_the_places_in_the_prompt() -> None:
    orders = {
        tuple(c.title for c in canonical_categories(reorder(policy(*CODES), random.Random(seed)).policy))
        for seed in range(40)
    }
    assert len(orders) > 10


@given(rng=seeds)
def test_dropping_leaves_something(rng: random.Random) -> None:
    assert drop_some(policy("A1", "A2"), rng, ()).policy.categories
    assert "A1" in drop_some(policy("A1", "A2"), rng, {"A1"}).codes


@given(rng=seeds)
def test_changes_in_turn_are_one_change(rng: random.Random) -> None:
    first = drop_some(policy(*CODES), rng, {"A2"})
    both = first.then(rename(first.policy, rng, WORDINGS))
    assert set(both.codes) == set(first.codes)
    assert meaning(both, "A2") == {"first of A2", "second of A2", "third of A2"}


@given(rng=seeds)
def test_a_subject_that_is_excepted_may_not_stand_in_the_text(rng: random.Random) -> None:
    changed = except_other(policy(*CODES), rng, ["the weather", "Chess"])
    exceptions = {e for category in changed.policy.categories for e in category.exceptions}
    assert 1 <= len(exceptions) <= 2
    assert ("the weather" in changed.terms) == ("weather" in changed.terms) == ("the weather" in exceptions)
    assert ("Chess" in changed.terms) == ("chess" in exceptions)
    assert "the" not in changed.terms


@given(rng=seeds)
def test_an_added_list_says_its_terms(rng: random.Random) -> None:
    changed = add_list(policy(*CODES), rng)
    added = changed.policy.categories[-1]
    said = added.definition + " " + " ".join(added.exceptions)
    assert changed.terms
    assert all(term in said for term in changed.terms)


@given(rng=seeds, gone=st.sets(st.sampled_from(CODES), min_size=1))
def test_what_is_switched_off_is_gone_and_the_rest_untouched(rng: random.Random, gone: set[str]) -> None:
    off = switch_off(policy(*CODES), rng, gone)
    assert set(off.codes) == set(CODES) - gone
    assert off.policy.categories
    assert off.terms or gone != set(CODES)
    assert len(off.policy.categories) == len(off.codes) + bool(off.terms)
    text = str(msgspec.to_builtins(off.policy))
    assert not [code for code in gone if f"first of {code}" in text]


@given(rng=seeds)
def test_an_inverted_category_is_an_exception_of_another(rng: random.Random) -> None:
    off = inverted(policy(*CODES), rng, {"A1", "A2"}, {"A1"})
    exceptions = [e for category in off.policy.categories for e in category.exceptions]
    assert exceptions.count("title of A1") == 1
    assert set(exceptions) - {"title of A1"} <= set(off.terms)
    assert set(off.codes) == {"A3", "A4"}


@given(rng=seeds)
def test_a_forbidden_word_is_all_that_tells_the_twins_apart(rng: random.Random) -> None:
    made = forbid(policy(*CODES), rng, "umbrella")
    on = {c.code: c for c in made.on.categories}
    off = {c.code: c for c in made.off.categories}
    assert "umbrella" in on[made.code].definition
    assert "umbrella" not in str(msgspec.to_builtins(made.off))
    assert {code: c for code, c in on.items() if code != made.code} == {
        code: c for code, c in off.items() if code != made.code
    }
    if made.code in off:
        assert off[made.code].title == on[made.code].title
        other = made.terms[0]
        assert off[made.code].definition == on[made.code].definition.replace("umbrella", other)


def test_words_are_long_and_each_stands_once() -> None:
    assert words_of("The umbrella, an UMBRELLA and the umbrella of number1 tomorrow") == [
        "umbrella",
        "UMBRELLA",
        "tomorrow",
    ]
    assert words_of("a b c") == []


def test_nothing_changes_when_nothing_is_asked() -> None:
    assert unchanged(policy("A1")).codes == {"A1": "A1"}


def test_a_definition_stays_within_the_limit_of_policies() -> None:
    (category,) = policy("A1").categories
    long = msgspec.structs.replace(category, definition="; ".join(["x" * 1998] * 2))
    whole = msgspec.structs.replace(policy("A1"), categories=(long,))
    for seed in range(20):
        (after,) = reword(whole, random.Random(seed), {}).policy.categories
        assert len(after.definition) <= 4000
