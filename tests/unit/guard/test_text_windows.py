from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guard.text_windows import Span, most_tokens, text_windows
from tests.tokenizer_kinds import PIECES, TEXTS, TOKENIZERS, encoder

ANY = 1_000_000  # more windows than any text here needs


def touched(starts: list[int], begin: int, end: int) -> int:
    """Tokens that the characters from `begin` to `end` touch."""
    before = [token for token, at in enumerate(starts) if at <= begin]
    first = starts.index(starts[before[-1]]) if before else 0
    return sum(at < end for at in starts) - first


@st.composite
def tokenised(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Any text, and where any tokens of it may begin: several at one character, or none for some."""
    text = draw(st.text("ab \n", max_size=60))
    places = st.integers(0, max(0, len(text) - 1))
    return text, sorted(draw(st.lists(places, max_size=120)))


SIZES = st.integers(1, 12).flatmap(lambda overlap: st.tuples(st.integers(2 * overlap, 40), st.just(overlap)))


@settings(max_examples=500)
@given(tokenised(), SIZES, st.integers(1, 30))
@example(("a b", [0, 0, 0, 0, 0, 2]), (2, 1), 5)
@example(("ab", [1] * 30), (4, 2), 30)
def test_windows_are_newest_first_cover_all_and_are_no_larger_than_asked(
    found: tuple[str, list[int]], sizes: tuple[int, int], most: int
) -> None:
    (text, starts), (size, overlap) = found, sizes
    spans = text_windows(text, starts, size=size, overlap=overlap, most=most)
    if spans is None:
        assert len(starts) > size
        return
    assert 1 <= len(spans) <= most
    assert spans[0][1] == len(text)
    assert spans[-1][0] == 0
    for newer, older in pairwise(spans):
        assert older[0] < newer[0] <= older[1] < newer[1]
    for begin, end in spans:
        assert sum(begin <= at < end for at in starts) <= size or len(spans) == 1


@settings(max_examples=500)
@given(tokenised(), SIZES)
def test_what_is_no_longer_than_the_overlap_stands_whole_in_a_window(
    found: tuple[str, list[int]], sizes: tuple[int, int]
) -> None:
    (text, starts), (size, overlap) = found, sizes
    spans = text_windows(text, starts, size=size, overlap=overlap, most=ANY)
    if spans is not None:
        assert lost(text, starts, spans, overlap) == []


def lost(text: str, starts: list[int], spans: list[Span], overlap: int) -> list[Span]:
    """Parts of at most `overlap` tokens that stand whole in no window; the longest from each character."""
    missing = []
    for begin in range(len(text)):
        ends = [end for end in range(begin + 1, len(text) + 1) if touched(starts, begin, end) <= overlap]
        if ends and not any(first <= begin and ends[-1] <= last for first, last in spans):
            missing.append((begin, ends[-1]))
    return missing


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), sizes=st.sampled_from([(24, 12), (40, 8), (30, 4)]))
def test_no_kind_of_tokenizer_loses_a_part_between_windows(
    name: str, texts: list[str], sizes: tuple[int, int]
) -> None:
    text, (size, overlap) = "".join(texts), sizes
    starts = encoder(name).token_starts(text, ANY)
    assert starts is not None
    spans = text_windows(text, starts, size=size, overlap=overlap, most=ANY)
    if spans is not None:  # a single character may be 18 and more tokens
        assert lost(text, starts, spans, overlap) == []
        assert (spans[0][1], spans[-1][0]) == (len(text), 0)
    else:
        assert any(piece in text for piece in PIECES if len(encoder(name).plain([piece])[0]) > 3) or any(
            len(ids) > 3 for ids in encoder(name).plain(list(text))
        )


def test_cuts_stand_between_words_where_there_are_some() -> None:
    text = "some words " * 40
    starts = list(range(len(text)))  # a token a character
    spans = text_windows(text, starts, size=100, overlap=48, most=ANY)
    assert spans is not None
    assert len(spans) > 5
    for begin, end in spans:
        for at in {begin, end} - {0, len(text)}:
            assert text[at].isspace() or text[at - 1].isspace()
    unbroken = text_windows("x" * 440, starts, size=100, overlap=48, most=ANY)
    assert unbroken is not None
    assert all(end - begin == 100 for begin, end in unbroken[:-1])


@given(
    st.integers(1, 400), st.integers(1, 20).flatmap(lambda o: st.tuples(st.integers(2 * o, 60), st.just(o)))
)
def test_the_bound_on_windows_is_a_bound_on_tokens(tokens: int, sizes: tuple[int, int]) -> None:
    text, starts, (size, overlap) = "x" * tokens, list(range(tokens)), sizes
    for most in (1, 2, 5):
        held = most_tokens(size=size, overlap=overlap, most=most)
        fits = text_windows(text, starts, size=size, overlap=overlap, most=most) is not None
        assert fits is (tokens <= held)
