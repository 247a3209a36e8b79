"""Even shares, the fewest moves, two rounds, and the time without an owner; what members say on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from benchmarks.group_member import assigned_in, assignment_of, metadata_of, owned_in
from benchmarks.group_report import Change, Commits, percentile, report
from benchmarks.group_shares import Owners, even_shares, even_sizes, fewest_moves, this_round

NUMBERS = some.frozensets(some.integers(0, 2**31 - 1), max_size=30)


@some.composite
def owned(draw: some.DrawFn) -> tuple[int, dict[str, frozenset[int]]]:
    """So many partitions, and who has which of them; some have none, some are nobody's."""
    partitions = draw(some.integers(1, 60))
    members = [f"m{number}" for number in range(draw(some.integers(1, 12)))]
    owners = draw(some.lists(some.sampled_from([None, *members]), min_size=partitions, max_size=partitions))
    return partitions, {
        member: frozenset(number for number, owner in enumerate(owners) if owner == member)
        for member in members
    }


@given(members=some.integers(1, 200), partitions=some.integers(1, 1000))
def test_one_more_member_takes_its_share_and_no_more(members: int, partitions: int) -> None:
    moved = fewest_moves(partitions, even_sizes(partitions, members), members + 1)
    assert moved == partitions // (members + 1)


@given(members=some.integers(2, 200), partitions=some.integers(1, 1000), which=some.integers(0, 199))
def test_one_member_less_gives_away_its_share_and_no_more(members: int, partitions: int, which: int) -> None:
    shares = even_sizes(partitions, members)
    share = shares.pop(which % members)
    assert fewest_moves(partitions, shares, members - 1) == share


@given(members=some.integers(1, 200), partitions=some.integers(1, 1000))
def test_even_shares_need_no_move(members: int, partitions: int) -> None:
    assert fewest_moves(partitions, even_sizes(partitions, members), members) == 0


@given(partitions=some.integers(1, 1000), members=some.integers(1, 100))
def test_from_nobody_all_move(partitions: int, members: int) -> None:
    assert fewest_moves(partitions, [], members) == partitions


@given(case=owned())
def test_the_assignor_makes_even_shares_with_the_fewest_moves(
    case: tuple[int, dict[str, frozenset[int]]],
) -> None:
    partitions, before = case
    after = even_shares(partitions, before)
    assert sorted(number for share in after.values() for number in share) == list(range(partitions))
    assert sorted(map(len, after.values()), reverse=True) == even_sizes(partitions, len(before))
    moved = sum(len(after[member] - before[member]) for member in before)
    assert moved == fewest_moves(partitions, [len(share) for share in before.values()], len(before))


@given(case=owned())
def test_two_rounds_give_it_all_and_never_to_two_at_a_time(
    case: tuple[int, dict[str, frozenset[int]]],
) -> None:
    partitions, before = case
    first = this_round(even_shares(partitions, before), before)
    for member, share in first.items():
        others = [before[other] for other in before if other != member]
        assert not any(share & other for other in others)
    second_target = even_shares(partitions, first)
    assert this_round(second_target, first) == second_target
    assert sorted(number for share in second_target.values() for number in share) == list(range(partitions))


def test_time_without_an_owner_is_from_the_first_taken_to_the_last_given() -> None:
    now = [0.0]
    owners = Owners(2, lambda: now[0])
    now[0] = 1.0
    owners.give("a", {0})
    now[0] = 3.0
    owners.give("b", {1})
    now[0] = 10.0
    assert owners.without_s() == 3.0
    owners.take({1})
    now[0] = 11.0
    owners.take({0})
    assert owners.without_s() == 4.0
    owners.give("a", {0, 1})
    now[0] = 20.0
    assert (owners.without_s(), owners.given) == (4.0, 4)


def test_a_partition_has_never_two_owners() -> None:
    owners = Owners(2, lambda: 0.0)
    owners.give("a", {0})
    with pytest.raises(RuntimeError, match="partition 0 was given to b while a has it"):
        owners.give("b", {0})


def test_shares_are_even_when_all_is_owned_and_nobody_has_two_more() -> None:
    owners = Owners(5, lambda: 0.0)
    owners.give("a", {0, 1})
    assert not owners.even(1)
    owners.give("b", {2, 3, 4})
    assert owners.even(2)
    assert not owners.even(3)
    owners.take({3, 4})
    owners.give("a", {3, 4})
    assert not owners.even(2)


def test_with_more_members_than_partitions_some_have_none() -> None:
    owners = Owners(2, lambda: 0.0)
    owners.give("a", {0})
    owners.give("b", {1})
    assert owners.even(3)


@given(numbers=NUMBERS)
def test_a_members_partitions_come_back_from_its_metadata_and_assignment(numbers: frozenset[int]) -> None:
    assert owned_in(metadata_of("moderation.events", numbers)) == numbers
    assert assigned_in(assignment_of("moderation.events", numbers)) == numbers


def test_an_empty_assignment_is_no_partition() -> None:
    assert assigned_in(b"") == frozenset()


def test_metadata_are_those_of_kip_429() -> None:
    assert metadata_of("ab", {7}) == bytes.fromhex(
        "0001"  # version
        "00000001" "0002" "6162"  # one topic
        "00000000"  # no data of the user
        "00000001" "0002" "6162" "00000001" "00000007"  # its partitions
    )  # fmt: skip


@given(values=some.lists(some.floats(0, 100), min_size=1), share=some.floats(0.01, 1))
def test_a_percentile_is_the_smallest_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert sum(value <= found for value in ordered) >= share * len(ordered)
    assert sum(value < found for value in ordered) < share * len(ordered)


def test_the_report_tells_a_death_from_the_end_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr(
        "benchmarks.group_report.write_results", lambda name, markdown, data: written.update({name: markdown})
    )
    changes = [
        Change(members=2, what=what, seconds=seconds, moved=4, fewest=3, without_owner_s=2.5)
        for what, seconds in (("all start", 6.0), ("one joins", 5.0), ("one leaves", 3.0), ("one dies", 1.25))
    ]
    commits = Commits(
        members=2,
        most_per_second=3000,
        client_cores=0.5,
        asked_per_second=4,
        paced_per_second=4,
        p50_ms=1.5,
        p99_ms=20.5,
    )
    report(changes, [commits], 8, 1)
    assert "| 2, one dies, from the end of its session | 1.25 | 4 | 3 | 2.50 |" in written["groups"]
    assert "| 2 | 3,000 | 0.50 | 4 | 4 | 1.5 | 20.5 |" in written["groups"]
