"""Which offset of a partition may be committed, and how much stands above what is committed.

Pure. One tracker lives as long as one assignment of its partition.

>>> offsets: PartitionOffsets[Opened] = PartitionOffsets()
>>> five, six, eight = (Opened(offset, 100, 0.0) for offset in (5, 6, 8))
>>> [offsets.read(record) for record in (five, six, eight)]
[True, True, True]
>>> offsets.done(six); offsets.position
>>> offsets.done(five); offsets.position
7
>>> offsets.ask(), offsets.records
(7, 3)
>>> offsets.taken(); offsets.records
1
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Generic, Literal, TypeVar


class Opened:
    """A record that was read. `size` in bytes, `read_s` on a monotonic clock."""

    __slots__ = ("offset", "read_s", "size", "state")

    def __init__(self, offset: int, size: int, read_s: float) -> None:
        self.offset = offset
        self.size = size
        self.read_s = read_s
        self.state: Literal["new", "open", "done"] = "new"


Item = TypeVar("Item", bound=Opened)


class _Mark:
    """A place in a partition: the next offset to read there, and what was read before it."""

    __slots__ = ("offset", "records", "size")

    def __init__(self, offset: int | None, records: int, size: int) -> None:
        self.offset, self.records, self.size = offset, records, size


class PartitionOffsets(Generic[Item]):
    """Records read, done and committed. Offsets may have gaps (compaction, transaction marks)."""

    __slots__ = (
        "_asked",
        "_asked_since",
        "_committed",
        "_finished",
        "_first",
        "_last",
        "_open",
        "_read",
        "_since",
        "_unfinished",
    )

    def __init__(self) -> None:
        self._open: deque[Item] = deque()  # read, and not in the finished prefix; ascending
        self._first: int | None = None
        self._last = -1
        self._unfinished = 0
        self._read = _Mark(None, 0, 0)
        self._finished = _Mark(None, 0, 0)  # end of the finished prefix
        self._asked = self._committed = _Mark(None, 0, 0)
        # When the oldest record was read that is finished and not committed: of those asked for, of others.
        self._asked_since: float | None = None
        self._since: float | None = None

    def read(self, item: Item) -> bool:
        """Note that a record was read. False, and nothing noted, unless it is above all read before."""
        offset = item.offset
        if offset <= self._last:
            return False
        if self._first is None:
            self._first = offset
        self._last = offset
        item.state = "open"
        self._open.append(item)
        self._unfinished += 1
        read = self._read
        read.records += 1
        read.size += item.size
        return True

    def done(self, item: Item) -> None:
        """Note that the outcome of a record is delivered. Raises ValueError when it is not in flight."""
        if item.state != "open":
            raise ValueError(f"offset {item.offset} is not in flight")
        item.state = "done"
        self._unfinished -= 1
        opened = self._open
        if item is not opened[0]:
            return
        finished = self._finished
        if self._since is None:
            self._since = item.read_s
        while opened and opened[0].state == "done":
            item = opened.popleft()
            finished.records += 1
            finished.size += item.size
        finished.offset = item.offset + 1

    def unfinished_before(self, offset: int) -> bool:
        """Whether a record below this offset is not done."""
        return bool(self._open) and self._open[0].offset < offset

    def find(self, offset: int) -> Item | None:
        """The record read at this offset; None when none was, or it belongs to the finished prefix."""
        place = bisect_left(self._open, offset, key=lambda item: item.offset)
        if place == len(self._open) or self._open[place].offset != offset:
            return None
        return self._open[place]

    @property
    def position(self) -> int | None:
        """Next offset to read after the finished prefix; None while nothing is finished."""
        return self._finished.offset

    def ask(self, *, anyway: bool = False) -> int | None:
        """The position to commit now; None when it is committed already, or nothing is finished.

        `anyway`: the same offset again, or that of the first record read; None only before the first read.
        """
        finished = self._finished
        if finished.offset != self._committed.offset:
            self._asked = _Mark(finished.offset, finished.records, finished.size)
            if self._asked_since is None:
                self._asked_since = self._since
            self._since = None
            return finished.offset
        if not anyway:
            return None
        self._asked = self._committed
        return self.base

    def taken(self) -> None:
        """Note that the broker took what was asked for last."""
        self._committed = self._asked
        self._asked_since = None

    @property
    def base(self) -> int | None:
        """Where reading would begin again after a crash, as far as this tracker knows."""
        return self._first if self._committed.offset is None else self._committed.offset

    @property
    def finished(self) -> int:
        """Records that a commit would free."""
        return self._finished.records - self._committed.records

    @property
    def finished_size(self) -> int:
        """Bytes of the records that a commit would free."""
        return self._finished.size - self._committed.size

    @property
    def oldest(self) -> Item | None:
        """The first record that is not done."""
        return self._open[0] if self._open else None

    @property
    def uncommitted_since(self) -> float | None:
        """When the oldest record was read that is done and not committed; None: there is none."""
        return self._since if self._asked_since is None else self._asked_since

    @property
    def in_flight(self) -> int:
        """Records read and not done."""
        return self._unfinished

    @property
    def records(self) -> int:
        """Records read and not committed: what would be read again after a crash."""
        return self._read.records - self._committed.records

    @property
    def size(self) -> int:
        """Bytes of the records read and not committed."""
        return self._read.size - self._committed.size
