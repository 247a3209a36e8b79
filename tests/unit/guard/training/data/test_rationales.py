import pytest

from guard.training.data.rationales import recoded, within
from tests.unit.guard.training.data.samples import policy

CODES = {"U1": "B7", "U2": "U1"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("casino U1 listed.", "casino B7 listed."),
        ("U1, U2 and (U1).", "B7, U1 and (B7)."),
        ("nothing is named here.", "nothing is named here."),
        ("the U13 boat, no code.", "the U13 boat, no code."),
        ("of U3, which is gone.", ""),
        ("a U1-like boat.", ""),
        ("what u1 forbids.", ""),
        ("U1's own words.", ""),
        ("", ""),
    ],
)
def test_codes_are_called_as_now_or_the_reasoning_goes(before: str, after: str) -> None:
    assert recoded(before, policy("U1", "U2", "U3"), CODES) == after


def test_a_code_that_is_a_word_is_never_replaced_in_prose() -> None:
    words = policy("hate", "A")
    assert recoded("A speech full of hate.", words, {"hate": "B1", "A": "B2"}) == ""
    assert recoded("words of contempt.", words, {"hate": "B1", "A": "B2"}) == "words of contempt."


def test_reasoning_stays_as_it_is_where_codes_do() -> None:
    words = policy("hate", "A")
    assert recoded("A speech full of hate.", words, {"hate": "hate", "A": "A"}) == "A speech full of hate."


def test_reasoning_names_only_what_is_kept() -> None:
    own = policy("U1", "U2", "U3")
    assert within("about U1.", own, {"U1", "U2"}) == "about U1."
    assert within("about U3.", own, {"U1", "U2"}) == ""
    assert within("no code.", own, {"U1"}) == "no code."


def test_a_longer_code_is_not_its_beginning() -> None:
    assert recoded("U1-b here.", policy("U1", "U1-b"), {"U1": "A1", "U1-b": "A2"}) == "A2 here."
