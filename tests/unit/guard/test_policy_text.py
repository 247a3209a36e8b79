import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.policy_text import EXCEPTION_WORDS, with_codes

WORDS = st.from_regex(r"[a-z]{2,8}", fullmatch=True).filter(
    lambda word: word not in {"or", "and", "but", *EXCEPTION_WORDS}
)
PHRASES = st.lists(WORDS, min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("definition", "coded"),
    [
        ("casino; poker", "casino C3 poker C3"),
        ("rifles and pistols; guns", "rifles and pistols C3 guns C3"),
        ("casino", "casino C3"),
        ("Messages that name casinos, poker or dice.", "Messages that name casinos C3 poker C3 dice C3"),
        ("Talk of casinos, and poker", "Talk of casinos C3 poker C3"),
        ("No casinos, except bingo or lotto.", "No casinos C3 except bingo or lotto."),
        ("No casinos (except bingo). No dice!", "No casinos C3 (except bingo). No dice C3"),
        ("No casinos. However, bingo is fine.", "No casinos C3 However, bingo is fine."),
        ("Butter and exceptional cheese", "Butter C3 exceptional cheese C3"),
        ("", ""),
    ],
)
def test_a_code_follows_every_phrase_and_no_exception(definition: str, coded: str) -> None:
    assert with_codes(definition, "C3") == coded.strip()


@given(PHRASES)
def test_a_list_reads_the_same_as_before_prose_was_read(phrases: list[str]) -> None:
    assert with_codes("; ".join([*phrases, "last"]), "C3") == " ".join(f"{p} C3" for p in [*phrases, "last"])


@given(PHRASES, st.sampled_from([", ", " or ", " and ", ", or "]))
def test_every_phrase_of_a_sentence_has_its_code(phrases: list[str], between: str) -> None:
    coded = with_codes(f"talk of {between.join(phrases)}.", "C3")
    assert coded == "talk of " + " ".join(f"{phrase} C3" for phrase in phrases)


@given(PHRASES, st.sampled_from(EXCEPTION_WORDS), PHRASES)
def test_what_is_excepted_has_none(phrases: list[str], word: str, allowed: list[str]) -> None:
    coded = with_codes(f"talk of {', '.join(phrases)}, {word} {' or '.join(allowed)}", "C3")
    assert coded.count("C3") == len(phrases)
    assert coded.endswith(f"{word} {' or '.join(allowed)}")


@given(st.text(max_size=60))
def test_any_definition_keeps_its_letters_in_order(text: str) -> None:
    line = " ".join(text.split())
    kept = "".join(re.findall(r"\w", re.sub(r"\b(or|and)\b", "", line, flags=re.IGNORECASE)))
    said = "".join(
        re.findall(r"\w", re.sub(r"\b(or|and|Q77)\b", "", with_codes(line, "Q77"), flags=re.IGNORECASE))
    )
    assert said == kept
