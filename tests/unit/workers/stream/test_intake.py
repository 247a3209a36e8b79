from __future__ import annotations

import pytest

from workers.errors import StreamStopped
from workers.ports import Headers, Record
from workers.stream.intake import HEADER_BYTES, take_in
from workers.stream.partition import AssignedPartition, Ticket


def record(offset: int, partition: int = 0, timestamp_ms: int = 0) -> Record:
    return Record("t", partition, offset, b"key", b"value", None, timestamp_ms)


class World:
    def __init__(self) -> None:
        self.partitions = {0: AssignedPartition(0), 1: AssignedPartition(1)}
        self.discarded: list[tuple[int, int, str]] = []

    def take(self, *records: Record) -> list[Ticket]:
        return take_in(records, self.partitions, 1.0, lambda *told: self.discarded.append(told))


def test_records_become_tickets_in_order_and_weigh_what_they_hold() -> None:
    world = World()
    tickets = world.take(record(3), record(5), record(0, partition=1))
    assert [(ticket.partition.number, ticket.offset, ticket.size) for ticket in tickets] == [
        (0, 3, 8),
        (0, 5, 8),
        (1, 0, 8),
    ]
    assert (world.partitions[0].load.records, world.partitions[0].load.size) == (2, 16)


def test_headers_weigh_what_they_take_in_memory() -> None:
    headers: Headers = [("name", b"value"), ("empty", None)]
    (ticket,) = World().take(Record("t", 0, 3, b"key", b"value", headers, 0))
    assert ticket.size == 8 + 4 + 5 + 5 + 2 * HEADER_BYTES


def test_records_of_a_partition_that_is_gone_are_left_to_its_next_owner() -> None:
    assert World().take(record(3, partition=2)) == []


def test_what_is_in_flight_is_not_taken_twice() -> None:
    world = World()
    world.take(record(3), record(4), record(5))
    assert [ticket.offset for ticket in world.take(record(4), record(5), record(6))] == [6]
    assert world.discarded == []


def test_a_partition_that_goes_back_to_its_first_unfinished_record_is_begun_anew() -> None:
    world = World()
    before = world.partitions[0]
    first, *_ = world.take(record(3), record(4), record(5))
    before.offsets.done(first)
    assert [ticket.offset for ticket in world.take(record(4), record(5))] == [4, 5]
    assert world.discarded == [(0, 2, "rewound")]
    assert before.discarded
    assert world.partitions[0] is not before


@pytest.mark.parametrize("other", [record(5, timestamp_ms=1), record(4)])
def test_another_record_where_one_is_in_flight_stops_the_stream(other: Record) -> None:
    world = World()
    world.take(record(3), record(5))
    with pytest.raises(StreamStopped, match="partition 0 of the events topic went back to offset"):
        world.take(other)
