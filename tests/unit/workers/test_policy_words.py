"""Words for what is wrong with a value; `test_policy_files` has them with files, lines and fields."""

from __future__ import annotations

import pytest

from workers.policy_words import plainer, unknown_field


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Expected `int | null`, got `bool`", "expected a whole number, got yes or no"),
        ("Expected `str`, got `int`", "expected text, got a number; put it in quotes"),
        ("Expected `str | null`, got `array`", "expected text, got a list"),
        ("Expected `float` >= 0.0", "expected a number, at least 0"),
        ("Expected `float` > 0.0", "expected a number, more than 0"),
        ("Expected `array` of length <= 64", "expected a list of at most 64 entries"),
        ("Expected `something new`", "expected something new"),
    ],
)
def test_types_and_bounds_are_told_in_plain_words(message: str, expected: str) -> None:
    assert plainer(message, ["title"]) == expected


def test_a_field_that_is_none_is_told_with_the_nearest_of_its_place() -> None:
    assert unknown_field("treshold", []) == "unknown field; did you mean threshold?"
    assert unknown_field("defintion", ["categories", 0]) == "unknown field; did you mean definition?"
