"""Which offset of a partition may be committed: everything before it is done.

Pure. One tracker lives as long as one assignment of its partition.

>>> offsets = PartitionOffsets()
>>> for offset in (5, 6, 8): _ = offsets.read(offset)
>>> offsets.done(6); offsets.position
>>> offsets.done(5); offsets.position
7
"""

from __future__ import annotations

from collections import deque


class PartitionOffsets:
    """Offsets read and done. Offsets may have gaps (compaction, transaction marks)."""

    __slots__ = ("_ahead", "_committed", "_last", "_open", "_position")

    def __init__(self) -> None:
        self._open: deque[int] = deque()  # read, and not in the finished prefix; ascending
        self._ahead: set[int] = set()  # done, behind an offset that is not
        self._last = -1
        self._position: int | None = None
        self._committed: int | None = None

    def read(self, offset: int) -> bool:
        """Note that a record was read. False, and nothing noted, unless it is above all read before."""
        if offset <= self._last:
            return False
        self._last = offset
        self._open.append(offset)
        return True

    def done(self, offset: int) -> None:
        """Note that the outcome of a record is delivered. Raises ValueError when it is not in flight."""
        opened = self._open
        if not opened or offset < opened[0] or offset > self._last or offset in self._ahead:
            raise ValueError(f"offset {offset} is not in flight")
        if offset != opened[0]:
            self._ahead.add(offset)
            return
        opened.popleft()
        ahead = self._ahead
        while opened and opened[0] in ahead:
            offset = opened.popleft()
            ahead.remove(offset)
        self._position = offset + 1

    @property
    def position(self) -> int | None:
        """Next offset to read after the finished prefix; None while nothing is finished."""
        return self._position

    @property
    def base(self) -> int | None:
        """The position, or the first offset read while nothing is finished; None before the first read."""
        return self._open[0] if self._position is None and self._open else self._position

    @property
    def to_commit(self) -> int | None:
        """The position, when it was not committed yet."""
        return None if self._position == self._committed else self._position

    def committed(self, position: int) -> None:
        """Note that the broker took a commit."""
        self._committed = position

    @property
    def in_flight(self) -> int:
        """Records read and not done."""
        return len(self._open) - len(self._ahead)
