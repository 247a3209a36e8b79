"""What was fetched becomes tickets, each of the assignment under which it was read."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Final

from workers.errors import StreamStopped
from workers.ports import Record
from workers.stream.partition import AssignedPartition, Ticket

HEADER_BYTES: Final = 150
"""What a header takes in memory beside its name and value, about: a tuple and two objects."""


def take_in(
    records: Sequence[Record],
    partitions: MutableMapping[int, AssignedPartition],
    now_s: float,
    discarded: Callable[[int, int, str], None],
) -> list[Ticket]:
    """Tickets of the records that are to be decided, in their order.

    Records of partitions that are gone are left to the next owner, and those that are in flight already are
    passed over. A partition that goes back to where everything before is done is begun anew, and what it had
    in flight is told as discarded. Raises `StreamStopped` when it goes back to something else than it was.
    """
    tickets: list[Ticket] = []
    for record in records:
        partition = partitions.get(record.partition)
        if partition is None:
            continue
        ticket = Ticket(partition, record, _size(record), now_s)
        if not partition.offsets.read(ticket):
            if partition.offsets.unfinished_before(record.offset):
                # Beginning anew here would skip what stands before, since the source does not give it again.
                _require_known(partition, record)
                continue
            discarded(partition.number, partition.offsets.in_flight, "rewound")
            partition.discard()
            ticket.partition = partitions[record.partition] = AssignedPartition(record.partition)
            ticket.partition.offsets.read(ticket)
        tickets.append(ticket)
    return tickets


def _size(record: Record) -> int:
    size = len(record.value or b"") + len(record.key or b"")
    if record.headers:  # a record of few bytes may have a hundred thousand
        size += sum(len(name) + len(value or b"") + HEADER_BYTES for name, value in record.headers)
    return size


def _require_known(partition: AssignedPartition, record: Record) -> None:
    known = partition.offsets.find(record.offset)
    if known is None or known.timestamp_ms != record.timestamp_ms:
        raise StreamStopped(
            f"partition {partition.number} of the events topic went back to offset {record.offset} and has "
            "another record there; was the topic deleted and made anew?"
        )
