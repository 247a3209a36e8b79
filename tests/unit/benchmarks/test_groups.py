"""The fewest partitions that have to move."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from benchmarks.groups import _even_shares, fewest_moves


@given(members=some.integers(1, 200), partitions=some.integers(1, 1000))
def test_one_more_member_takes_its_share_and_no_more(members: int, partitions: int) -> None:
    moved = fewest_moves(partitions, _even_shares(partitions, members), members + 1)
    assert moved == partitions // (members + 1)


@given(members=some.integers(2, 200), partitions=some.integers(1, 1000), which=some.integers(0, 199))
def test_one_member_less_gives_away_at_least_its_share(members: int, partitions: int, which: int) -> None:
    shares = _even_shares(partitions, members)
    moved = fewest_moves(partitions, shares, members - 1)
    assert moved >= min(shares)
    assert moved <= partitions


@given(members=some.integers(1, 200), partitions=some.integers(1, 1000))
def test_even_shares_need_no_move(members: int, partitions: int) -> None:
    assert fewest_moves(partitions, _even_shares(partitions, members), members) == 0


@given(partitions=some.integers(1, 1000), members=some.integers(1, 100))
def test_from_nobody_all_move(partitions: int, members: int) -> None:
    assert fewest_moves(partitions, [], members) == partitions
