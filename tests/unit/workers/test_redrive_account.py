"""What a redrive remembers and counts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from workers.redrive_account import Places, by_reason


def test_counts_are_told_the_most_frequent_first() -> None:
    assert by_reason(Counter(invalid=2, empty=2, over_limit=7)) == "over_limit 7, empty 2, invalid 2"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 2000))))
def test_a_set_of_places_is_a_set(places: list[tuple[str, int, int]]) -> None:
    found = Places()
    for place in places:
        found.add(place)
    for topic in "ab":
        for offset in {offset + shift for *_, offset in places for shift in (-1, 0, 1)} - {-1}:
            assert ((topic, 1, offset) in found) == ((topic, 1, offset) in places)
