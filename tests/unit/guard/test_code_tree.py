from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.checkpoint import SHIPPED, open_checkpoint
from guard.code_tree import CodeNode, CodeTree, code_tree
from guard.prompt import PromptRenderer
from guard.serving.engine import MOST_LOGPROBS

BRACE, C, ONE, TWO, NOUGHT, COMMA, END = 97, 1, 2, 3, 4, 5, 6
# As a tokenizer that writes digits one by one has them: C1, C10, C12, C2.
SPELT = {
    "C1": (BRACE, C, ONE),
    "C10": (BRACE, C, ONE, NOUGHT),
    "C12": (BRACE, C, ONE, TWO),
    "C2": (BRACE, C, TWO),
}


def tree_of(spelt: Mapping[str, tuple[int, ...]], most: int = MOST_LOGPROBS) -> CodeTree:
    root = CodeNode()
    for code, ids in spelt.items():
        node = root
        for token in ids:
            node = node.children.setdefault(token, CodeNode())
        node.code = code
    return CodeTree(root, most)


def said(tree: CodeTree, *places: dict[int, float]) -> list[tuple[float, ...] | None]:
    """Log-probabilities at each id that was written; what is not given is nearly nought."""
    return [tuple(math.log(place.get(token, 1e-9)) for token in tree.wanted) for place in places]


def test_the_way_to_the_first_choice_is_the_lead() -> None:
    tree = tree_of(SPELT)
    assert tree.lead == (BRACE, C)
    assert set(tree.wanted) == {ONE, TWO, NOUGHT}
    assert tree.wanted[:2] == (ONE, TWO)


def test_a_code_that_begins_like_another_has_what_the_others_leave() -> None:
    tree = tree_of(SPELT)
    logprobs = said(tree, {ONE: 0.6, TWO: 0.2}, {NOUGHT: 0.1, TWO: 0.2}, {})
    weights = tree.written((ONE, END), logprobs[:2])
    assert weights is not None
    assert weights == pytest.approx(
        {"C1": 0.75 * 0.7, "C10": 0.75 * 0.1, "C12": 0.75 * 0.2, "C2": 0.25}, abs=1e-6
    )


def test_the_longer_code_is_followed_to_its_end() -> None:
    tree = tree_of(SPELT)
    weights = tree.written((ONE, TWO, END), said(tree, {ONE: 0.5, TWO: 0.5}, {TWO: 0.8, NOUGHT: 0.1}, {}))
    assert weights is not None
    assert weights == pytest.approx({"C1": 0.05, "C10": 0.05, "C12": 0.4, "C2": 0.5}, abs=1e-6)


def test_what_was_not_written_is_shared_among_the_codes_that_begin_so() -> None:
    tree = tree_of(SPELT)
    weights = tree.written((TWO, END), said(tree, {ONE: 0.3, TWO: 0.7}, {}))
    assert weights is not None
    assert weights == pytest.approx({"C1": 0.1, "C10": 0.1, "C12": 0.1, "C2": 0.7}, abs=1e-6)


LETTERS = {"A": (BRACE, 11), "B": (BRACE, 12), "D": (BRACE, 13)}


def test_a_second_code_has_the_probability_of_its_own_place() -> None:
    tree = tree_of(LETTERS)
    places = said(tree, {11: 0.45, 12: 0.04, 13: 0.01}, {12: 0.1}, {12: 0.8}, {13: 0.05})
    weights = tree.written((11, COMMA, 12, END), places)
    assert weights is not None
    assert weights["A"] == pytest.approx(0.9, abs=1e-6)
    assert weights["B"] == pytest.approx(1 - 0.92 * 0.9 * 0.2, abs=1e-6)
    assert weights["D"] == pytest.approx(1 - 0.98 * 0.95, abs=1e-6)


def test_a_policy_of_one_category_leaves_nothing_to_ask() -> None:
    tree = tree_of({"A": (BRACE, 11, 12)})
    assert (tree.lead, tree.wanted) == ((BRACE, 11, 12), ())
    assert tree.written((), ()) == {"A": 1.0}


def test_without_log_probabilities_nothing_is_known() -> None:
    tree = tree_of(LETTERS)
    assert tree.written((11,), (None,)) is None
    assert tree.written((), ()) is None
    assert tree.written((11,), ((math.nan, 0.0, 0.0),)) is None
    assert tree.written((11,), ((-math.inf,) * 3,)) is None


def test_more_ids_than_an_engine_gives_are_not_told_apart() -> None:
    spelt = {f"C{n}": (BRACE, 100 + n // 10, 200 + n) for n in range(40)}
    tree = tree_of(spelt, most=14)
    assert len(tree.wanted) == 14
    assert set(tree.wanted[:4]) == {100, 101, 102, 103}
    weights = tree.written((103, 239), said(tree, {103: 0.9, 100: 0.1}, {}))
    assert weights is not None
    assert weights["C39"] == pytest.approx(0.09, abs=1e-6)
    assert weights["C0"] == pytest.approx(0.01, abs=1e-6)


@st.composite
def walks(draw: st.DrawFn) -> tuple[CodeTree, tuple[int, ...], Sequence[tuple[float, ...]]]:
    codes = draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, unique_by=tuple))
    tree = tree_of({f"C{number}": (BRACE, *ids) for number, ids in enumerate(codes)})
    ids = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))
    values = st.lists(st.floats(-50, 0), min_size=len(tree.wanted), max_size=len(tree.wanted)).map(tuple)
    logprobs = draw(st.lists(values, min_size=len(ids), max_size=len(ids)))
    return tree, tuple(ids), logprobs


@given(walks())
def test_weights_are_probabilities_of_every_code_and_of_one_place_the_sum_is_one(
    walk: tuple[CodeTree, tuple[int, ...], Sequence[tuple[float, ...]]],
) -> None:
    tree, ids, logprobs = walk
    weights = tree.written(ids, logprobs)
    assert weights is not None
    assert list(weights) == tree.root.codes()
    assert all(0.0 <= weight <= 1.0 for weight in weights.values())
    if tree.wanted:
        one = tree.written(ids[:1], logprobs[:1])
        assert one is not None
        assert math.fsum(one.values()) == pytest.approx(1.0)
        # What is written later adds, and takes nothing away.
        longer = tree._place(ids, logprobs, first=True)
        assert longer is not None
        assert all(weights[code] >= share - 1e-9 for code, share in longer[0].items())


@pytest.fixture(scope="module")
def renderer() -> PromptRenderer:
    checkpoint = open_checkpoint(str(SHIPPED / "tiny"), weights=False)
    return PromptRenderer(checkpoint.path, checkpoint.template, b"secret")


def test_the_shipped_checkpoint_chooses_between_its_codes_in_one_token(renderer: PromptRenderer) -> None:
    codes = [f"C{number}" for number in range(1, 25)]
    tree = code_tree(renderer, codes, MOST_LOGPROBS)
    assert tree is not None
    assert renderer.decode(tree.lead) == "}"
    assert [renderer.decode([token]).strip().upper() for token in tree.wanted] == codes
    assert tree.root.codes() == codes


@pytest.mark.parametrize("codes", [["VIOLENCE", "VICE", "hate-1"], ["C1"], ["C1", "C100", "C10"]])
def test_every_code_is_found_behind_the_verdict(renderer: PromptRenderer, codes: list[str]) -> None:
    tree = code_tree(renderer, codes, MOST_LOGPROBS)
    assert tree is not None
    assert sorted(tree.root.codes()) == sorted(codes)


def test_codes_that_a_tokenizer_does_not_tell_apart_have_no_tree(renderer: PromptRenderer) -> None:
    assert code_tree(renderer, ["C1", "c1"], MOST_LOGPROBS) is None
