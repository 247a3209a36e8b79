from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from guard.training.data.rows import LabelledRow
from guard.training.row_deck import MOST_TOKENS, RowDeck
from guard.training.settings import BatchSettings
from tests.unit.guard.training.labelled_rows import POLICY, row

OTHER = replace(POLICY, id="other")


def batch(
    policies: int = 2, exchanges: int = 4, source_power: float = 1.0, label_power: float = 1.0
) -> BatchSettings:
    return BatchSettings(
        task="rows",
        policies=policies,
        exchanges=exchanges,
        source_power=source_power,
        label_power=label_power,
    )


def of_source(source: str, count: int, label: Literal["safe", "unsafe"], first: int = 0) -> list[LabelledRow]:
    policy = OTHER if source == "other" else POLICY
    return [replace(row(first + n, label), source=source, policy=policy) for n in range(count)]


def deck(rows: list[LabelledRow], tokens: int = 20) -> RowDeck:
    return RowDeck(rows, [tokens] * len(rows), [30] * len(rows))


MIXED = [
    *of_source("test", 30, "safe"),
    *of_source("test", 10, "unsafe", 100),
    *of_source("other", 10, "safe", 200),
]


def test_every_row_is_drawn_once_an_epoch_where_rows_count_alike() -> None:
    dealt, settings = deck(MIXED), batch(policies=1)
    hands = [dealt.deal(3, step, settings)[0] for step in range(1, 14)]  # 40 and 10 rows in hands of four
    assert sorted(index for hand in hands for index in hand) == list(range(50))
    again = [dealt.deal(3, step, settings)[0] for step in range(14, 27)]
    assert sorted(index for hand in again for index in hand) == list(range(50))
    assert again != hands


def test_a_hand_has_one_policy_and_its_limits() -> None:
    settings = batch(policies=3, exchanges=4)
    for hand in (hand for step in range(1, 9) for hand in deck(MIXED).deal(1, step, settings)):
        assert 1 <= len(hand) <= 4
        assert len({MIXED[index].policy.id for index in hand}) == 1


def test_long_rows_make_small_hands() -> None:
    tokens = MOST_TOKENS // 4
    (first, second) = deck(MIXED, tokens).deal(1, 1, batch(policies=2, exchanges=8))
    assert len(first) == len(second) == 1
    # One row that is longer than a hand may be is dealt alone and not left out.
    assert len(deck(MIXED, 2 * MOST_TOKENS).deal(1, 1, batch())) == 2


@given(steps=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 3))
def test_a_hand_follows_from_seed_and_step_alone(steps: list[int], seed: int) -> None:
    settings = batch(source_power=0.5, label_power=0.5)
    asked = deck(MIXED)
    for step in steps:
        assert asked.deal(seed, step, settings) == deck(MIXED).deal(seed, step, settings)


@pytest.mark.parametrize(("power", "shares"), [(1.0, (40, 10)), (0.0, (25, 25)), (0.5, (33.3, 16.7))])
def test_sources_count_by_their_rows_to_a_power(power: float, shares: tuple[float, float]) -> None:
    weights = deck(MIXED).weights(power, 1.0)
    assert sum(weights[:40]) == pytest.approx(shares[0], abs=0.1)
    assert sum(weights[40:]) == pytest.approx(shares[1], abs=0.1)


def test_labels_within_a_source_count_by_their_rows_to_a_power() -> None:
    weights = deck(MIXED).weights(1.0, 0.0)
    assert sum(weights[:30]) == pytest.approx(20)
    assert sum(weights[30:40]) == pytest.approx(20)
    assert sum(weights[40:]) == pytest.approx(10)  # of one label: as it is


def test_twins_are_drawn_equally_often() -> None:
    pair = [
        replace(row(501, "unsafe", twin="row-502"), source="test"),
        replace(row(502, "safe", twin="row-501"), source="test", policy=OTHER),
    ]
    rows, settings = [*MIXED, *pair], batch(source_power=0.3, label_power=0.0)
    hands = [hand for epoch in range(9) for hand in deck(rows)._shuffled(1, epoch, settings)]
    found = Counter(rows[index].id for hand in hands for index in hand)
    assert found["row-501"] == found["row-502"] > 0
