from __future__ import annotations

from workers.ports import Lag, Record
from workers.stream.lag import Reach, lags
from workers.stream.partition import AssignedPartition, Ticket


def lag(reach: Reach, starts: dict[int, int] | None = None, ends: dict[int, int] | None = None) -> Lag:
    (found,) = lags([reach], starts or {}, ends or {}, now_ms=10_000)
    return found


def test_records_count_from_what_is_committed_to_the_end_of_the_partition() -> None:
    assert lag(Reach(3, 40, 4_000, open=True), {3: 7}, {3: 50}) == Lag(3, 10, 6.0)


def test_before_the_first_read_the_commit_that_was_found_counts() -> None:
    assert lag(Reach(3, None, None, open=False), {3: 7}, {3: 50}) == Lag(3, 43, None)


def test_nothing_behind_is_no_age_however_long_ago_the_last_record_was_read() -> None:
    assert lag(Reach(3, 50, 1_000, open=False), {}, {3: 50}) == Lag(3, 0, 0.0)


def test_unread_records_are_no_older_than_the_last_one_read() -> None:
    assert lag(Reach(3, 50, 1_000, open=False), {}, {3: 51}) == Lag(3, 1, 9.0)


def test_an_end_that_was_asked_for_before_the_last_commit_is_no_negative_lag() -> None:
    assert lag(Reach(3, 60, 1_000, open=False), {}, {3: 51}) == Lag(3, 0, 0.0)


def test_what_is_not_known_is_not_made_up() -> None:
    assert lag(Reach(3, 60, 1_000, open=False)) == Lag(3, None, None)
    assert lag(Reach(3, None, None, open=False), {}, {3: 51}) == Lag(3, None, None)
    assert lag(Reach(3, 60, 1_000, open=True)) == Lag(3, None, 9.0)


def test_a_stamp_of_the_future_is_of_no_age() -> None:
    assert lag(Reach(3, 60, 99_000, open=True), {}, {3: 61}) == Lag(3, 1, 0.0)


def test_a_partition_reaches_to_the_oldest_record_without_an_outcome() -> None:
    partition = AssignedPartition(4)
    assert partition.reach == Reach(4, None, None, open=False)
    first, second = (
        Ticket(partition, Record("t", 4, offset, b"k", b"v", None, stamp), 10, 0.0)
        for offset, stamp in ((7, 100), (8, 200))
    )
    for ticket in (first, second):
        partition.offsets.read(ticket)
    assert partition.reach == Reach(4, 7, 100, open=True)
    partition.offsets.done(first)
    assert partition.reach == Reach(4, 7, 200, open=True)
    partition.offsets.done(second)
    partition.offsets.ask()
    partition.offsets.taken()
    assert partition.reach == Reach(4, 9, 200, open=False)
