from collections import Counter
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import TrainingError
from guard.training.batches import order_by_length, order_of_units, twin_units
from guard.training.rewards import Truth
from guard.training.row_encoding import Asked


def asked(name: str, label: Literal["safe", "unsafe"] = "safe", twin: str = "") -> Asked:
    truth = Truth(label=label, codes=(), policy_codes=("C1",), turns=("t",), rules=())
    return Asked(name, "think", np.zeros(1, dtype=np.int32), (), truth, twin)


def test_rows_of_like_length_stand_together_and_each_stands_once_an_epoch() -> None:
    lengths = [n % 50 for n in range(400)]
    order = order_by_length(lengths, batch=4, epochs=2, seed=3)
    assert Counter(order) == dict.fromkeys(range(400), 2)
    spread = [max(map(lengths.__getitem__, b)) - min(map(lengths.__getitem__, b)) for b in _cut(order, 4)]
    assert sum(spread) / len(spread) < 2
    assert order == order_by_length(lengths, batch=4, epochs=2, seed=3)
    assert order != order_by_length(lengths, batch=4, epochs=2, seed=4)


def test_what_fills_no_batch_is_left_and_too_few_rows_are_refused() -> None:
    assert len(order_by_length([1] * 7, batch=4, epochs=1, seed=0)) == 4
    with pytest.raises(TrainingError, match="7 rows over all epochs do not fill one step of 8"):
        order_by_length([1] * 7, batch=8, epochs=1, seed=0)
    with pytest.raises(TrainingError, match="do not fill one step of 8"):
        order_of_units([(0, 1)], batch=8, epochs=1, seed=0)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 4), st.integers(1, 9), st.integers(0, 5))
def test_twins_are_never_parted_and_no_row_is_taken_too_often(
    pairs: int, singles: int, epochs: int, batch: int, seed: int
) -> None:
    units: list[tuple[int, ...]] = [(2 * n, 2 * n + 1) for n in range(pairs)]
    units += [(2 * pairs + n,) for n in range(singles)]
    try:
        order = order_of_units(units, batch=batch, epochs=epochs, seed=seed)
    except TrainingError:
        assert (batch % 2 and pairs) or len(units) == 0 or (2 * pairs + singles) * epochs < batch + 1
        return
    assert len(order) % batch == 0
    assert len(order) > (2 * pairs + singles) * epochs - batch - 1
    assert max(Counter(order).values()) <= epochs
    for rows in _cut(order, batch):
        counts = Counter(rows)
        assert all(counts[n] == counts[n ^ 1] for n in range(2 * pairs))


def test_an_even_batch_of_pairs_loses_less_than_one_batch() -> None:
    units = [(2 * n, 2 * n + 1) for n in range(21)]
    assert len(order_of_units(units, batch=4, epochs=1, seed=0)) == 40


def test_pairs_alone_need_an_even_batch() -> None:
    with pytest.raises(TrainingError, match="expected an even number"):
        order_of_units([(0, 1), (2, 3)], batch=3, epochs=1, seed=0)


def test_a_row_whose_twin_is_not_there_is_left_out() -> None:
    rows = [asked("a", "unsafe", "b"), asked("b", "safe", "a"), asked("c", "safe", "gone"), asked("d")]
    assert twin_units(rows) == ([(0, 1), (3,)], 1)


def test_one_of_two_twins_may_name_the_other_alone() -> None:
    assert twin_units([asked("a", "unsafe"), asked("b", "safe", "a")]) == ([(0, 1)], 0)


def test_twins_of_one_label_and_a_row_of_two_twins_are_refused() -> None:
    with pytest.raises(TrainingError, match="row a: twin: b has the same label"):
        twin_units([asked("a", "safe", "b"), asked("b", "safe", "a")])
    with pytest.raises(TrainingError, match="row b: twin: two rows name it"):
        twin_units([asked("a", "safe", "b"), asked("b", "unsafe", "a"), asked("c", "safe", "b")])


def _cut(order: list[int], batch: int) -> list[list[int]]:
    return [order[at : at + batch] for at in range(0, len(order), batch)]
