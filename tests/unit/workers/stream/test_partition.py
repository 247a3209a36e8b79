from __future__ import annotations

from workers.ports import Oldest, Record
from workers.stream.partition import AssignedPartition, Ticket


def read(partition: AssignedPartition, offset: int, now_s: float) -> Ticket:
    ticket = Ticket(partition, Record("t", 0, offset, b"k", b"v", None, 0), 10, now_s)
    assert partition.offsets.read(ticket)
    return ticket


def test_the_oldest_is_the_first_that_is_not_done_and_says_what_it_waits_for() -> None:
    partition = AssignedPartition(4)
    assert partition.oldest(0.0) == Oldest(4, 0, 0.0, None)
    first, second = read(partition, 7, 1.0), read(partition, 8, 2.0)
    assert partition.oldest(3.0) == Oldest(4, 7, 2.0, "cache")
    first.report("guard")
    second.report("hold")
    assert partition.oldest(3.0) == Oldest(4, 7, 2.0, "guard")


def test_what_is_done_and_not_committed_waits_for_the_commit() -> None:
    partition = AssignedPartition(4)
    first, second = read(partition, 7, 1.0), read(partition, 9, 2.0)
    second.report("guard")
    partition.offsets.done(first)
    assert partition.oldest(5.0) == Oldest(4, 7, 4.0, "commit")
    assert partition.offsets.ask() == 8
    assert partition.oldest(5.0) == Oldest(4, 7, 4.0, "commit")
    partition.offsets.taken()
    assert partition.oldest(5.0) == Oldest(4, 9, 3.0, "guard")
    partition.offsets.done(second)
    partition.offsets.ask()
    partition.offsets.taken()
    assert partition.oldest(5.0) == Oldest(4, 10, 0.0, None)


def test_its_load_is_what_is_not_committed() -> None:
    partition = AssignedPartition(4)
    first, _ = read(partition, 7, 1.0), read(partition, 9, 2.0)
    partition.tokens = 3
    partition.offsets.done(first)
    assert (partition.load.records, partition.load.size, partition.load.tokens) == (2, 20, 3)
    assert (partition.finished.records, partition.finished.size) == (1, 10)
