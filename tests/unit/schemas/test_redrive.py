"""Headers of a record that was put back, and marks."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import DeadLetter, dead_letter_headers, read_dead_letter
from schemas.redrive import Headers, headers_to_put_back, mark_headers, read_mark
from tests.unit.schemas.strategies import instances

LETTER = DeadLetter(
    topic="chat.events", partition=1, offset=7, reason="invalid", sentence="expected text", timestamp_ms=1000
)
ADDED: Headers = [
    ("rsafe-origin-topic", b"chat.events"),
    ("rsafe-origin-partition", b"1"),
    ("rsafe-origin-offset", b"7"),
    ("rsafe-origin-timestamp-ms", b"1000"),
    ("rsafe-attempts", b"1"),
]
headers = st.lists(
    st.tuples(
        st.one_of(
            st.text(max_size=8),
            st.sampled_from(["rsafe-topic", "rsafe-reason", "rsafe-other", "rsafe-redriven-topic"]),
        ),
        st.one_of(st.none(), st.binary(max_size=8)),
    ),
    max_size=6,
)


def lettered(original: Headers, letter: DeadLetter) -> Headers:
    """As the worker writes them."""
    return [*original, *dead_letter_headers(letter)]


@given(headers, instances(DeadLetter))
def test_headers_come_back_as_they_were_with_the_coordinates_behind(
    original: Headers, letter: DeadLetter
) -> None:
    found = headers_to_put_back(lettered(original, letter), letter)
    assert found[: len(original)] == original
    added = dict(found[len(original) :])
    assert added["rsafe-origin-topic"] == letter.topic.encode()
    assert added["rsafe-attempts"] == str(letter.attempts).encode()


def test_the_first_coordinates_are_carried_on_and_the_attempts_are_the_newest() -> None:
    original: Headers = [("trace", b"1"), ("trace", b"2"), ("none", None)]
    once = headers_to_put_back(lettered(original, LETTER), LETTER)
    assert once == [*original, *ADDED]
    again = msgspec.structs.replace(LETTER, offset=99, timestamp_ms=5000, attempts=2)
    twice = headers_to_put_back(lettered(once, again), again)
    assert twice == [*original, *ADDED[:-1], ("rsafe-attempts", b"2")]


def test_half_a_set_of_coordinates_is_replaced() -> None:
    found = headers_to_put_back(lettered([("rsafe-origin-topic", b"forged")], LETTER), LETTER)
    assert found == ADDED


def test_a_letter_that_was_copied_with_more_headers_loses_ours() -> None:
    found = headers_to_put_back([*lettered([("a", b"1")], LETTER), ("copied", b"2")], LETTER)
    assert found == [("a", b"1"), ("copied", b"2"), *ADDED]


@given(instances(DeadLetter))
def test_a_mark_names_its_letter(letter: DeadLetter) -> None:
    mark = read_mark(mark_headers(letter))
    assert mark is not None
    assert (mark.redriven_topic, mark.redriven_partition, mark.redriven_offset) == (
        letter.topic,
        letter.partition,
        letter.offset,
    )
    with pytest.raises(msgspec.ValidationError):
        read_dead_letter(mark_headers(letter))


def test_a_letter_of_a_record_that_looks_like_a_mark_is_a_letter() -> None:
    forged = lettered(mark_headers(LETTER), LETTER)
    assert read_mark(forged) is None
    assert read_dead_letter(forged) == LETTER


@pytest.mark.parametrize(
    "found", [None, [], [("rsafe-redriven-topic", b"x")] * 3, [*mark_headers(LETTER)[:2], ("other", b"1")]]
)
def test_other_headers_are_no_mark(found: Headers | None) -> None:
    assert read_mark(found) is None
