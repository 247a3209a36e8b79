"""The states that are here: Faust's table, its stores by partition, and the topic that is its changelog."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Final

from workers.conduct.faust_door import changelog
from workers.conduct.refill import FAUSTS, refill
from workers.settings import Settings

# So many states, or so many bytes of them, are looked at or written at a time, so that whatever else there is
# comes between them: half a millisecond for small states, some ten for large ones.
AT_A_TIME: Final = 200
BYTES: Final = 1_048_576
Sent = tuple[Any, bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]
Send = Callable[[Sequence[Sent], int | None], Awaitable[list[Any]]]
Change = tuple[bytes, bytes | None]


class States:
    """By key, as bytes. `send` publishes to one partition and waits for the acknowledgements."""

    def __init__(self, app: Any, settings: Settings, send: Send) -> None:
        self._settings, self._send = settings, send
        self._changelog = changelog(app, settings.conduct.state_topic)
        self._table = app.Table("state", changelog_topic=self._changelog, key_type=bytes, value_type=bytes)
        # The newest changelog record of each partition that the store has.
        self._stored: dict[Any, int] = {}

    def get(self, key: bytes) -> bytes | None:
        """What is remembered under a key."""
        found: bytes | None = self._table.get(key)
        return found

    async def keep(self, partition: int, changes: Sequence[Change]) -> None:
        """Change the changelog and then the store. None deletes.

        Not by the table, which changes the store first: after a crash between the two the record, done
        again, would find its change made, and the changelog would never have it. Nor by the table's way to
        send, which notes in the store that it has the change before it has it.
        """
        records: list[Sent] = [(self._changelog, key, value, ()) for key, value in changes]
        written = await self._send(records, partition)
        for (key, value), one in zip(changes, written, strict=True):
            if value is None:
                del self._table.data[key]
            else:
                self._table.data[key] = value
            self._stored[one.topic_partition] = one.offset

    async def chunks(
        self, partition: int, here: Callable[[], bool]
    ) -> AsyncIterator[list[tuple[bytes, bytes]]]:
        """All states of a partition, some at a time, in order of their keys. Ends where `here` is no longer
        true; no store is held open between two chunks, so that it may go to another process meanwhile."""
        after = b""
        while here():
            store = self._table.data._db_for_partition(partition)
            found = _some(store.items(from_key=after), after)
            del store
            if not found:
                return
            yield found
            after = found[-1][0]
            await asyncio.sleep(0)

    async def fill(self, partitions: Collection[int]) -> None:
        """Make the stores of these partitions what their topic says; see `refill`."""
        kafka, topic, ends = self._settings.kafka, self._settings.conduct.state_topic, threading.Event()
        try:
            for partition in partitions:
                store = self._table.data._db_for_partition(partition)
                await asyncio.to_thread(refill, store, kafka, topic, partition, ends)
        finally:
            ends.set()  # a thread is not cancelled with what waits for it, and the process would wait for it

    def begin(self) -> None:
        """The partitions are others than before."""
        self._stored = {}

    def note(self) -> None:
        """Tell the store up to where it has the changelog; what comes after is read again at a start."""
        stored, self._stored = self._stored, {}
        for tp, offset in stored.items():
            self._table.data.set_persisted_offset(tp, offset)


def _some(items: Iterable[tuple[bytes, bytes]], after: bytes) -> list[tuple[bytes, bytes]]:
    found, size = [], 0
    for key, value in items:
        if key == after or key.startswith(FAUSTS):
            continue
        found.append((key, value))
        size += len(value)
        if len(found) == AT_A_TIME or size >= BYTES:
            break
    return found
