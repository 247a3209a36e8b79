from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workers.commands.checkpoint_facts import leaves

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=12,
)


@given(json_values)
def test_every_leaf_is_found_whatever_a_manifest_holds(value: Any) -> None:
    assert [leaf for _, leaf in leaves(value, "x")] == list(_flat(value))


def _flat(value: Any) -> Any:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _flat(inner)
    else:
        yield value


def test_rows_are_named_by_their_words_and_by_their_place_where_these_are_equal() -> None:
    rows = [{"mode": "fast", "figure": "f1", "value": 1}, {"mode": "think", "figure": "f1", "value": 2}]
    assert ("bars[f1 think].value", 2) in list(leaves(rows, "bars"))
    assert ("bars[1].value", 1) in list(leaves([rows[0], rows[0]], "bars"))
