"""In which order a state is changed, and how many at a time are looked at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from workers.conduct import states as module
from workers.conduct.refill import FAUSTS
from workers.conduct.states import AT_A_TIME, BYTES, Sent, States
from workers.settings import Settings


class Tp(NamedTuple):
    topic: str
    partition: int


STATE = Tp("state", 2)


class Store(dict[bytes, bytes]):
    """As RocksDB, with Faust's note of how far it has read."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Tp, int]] = []

    def __delitem__(self, key: bytes) -> None:
        self.pop(key, None)

    def set_persisted_offset(self, tp: Tp, offset: int) -> None:
        self.noted.append((tp, offset))

    def _db_for_partition(self, partition: int) -> Any:
        assert partition == 2
        return SimpleNamespace(items=self.ordered)

    def ordered(self, from_key: bytes) -> Iterator[tuple[bytes, bytes]]:
        return ((key, self[key]) for key in sorted(self) if key >= from_key)


class Site:
    """States whose changelog acknowledges what it is sent, or fails."""

    def __init__(self) -> None:
        self.store, self.fails = Store(), False
        self.sent: list[tuple[int | None, bytes | None]] = []
        app = SimpleNamespace(
            topic=lambda *_, **__: "changelog", Table=lambda *_, **__: SimpleNamespace(data=self.store)
        )
        self.states = States(app, Settings(), self.send)

    async def send(self, records: Sequence[Sent], partition: int | None) -> list[Any]:
        before = dict(self.store)
        written = []
        for topic, _, value, _ in records:
            assert topic == "changelog"
            self.sent.append((partition, value))
            written.append(SimpleNamespace(topic_partition=STATE, offset=len(self.sent)))
        await asyncio.sleep(0)
        assert dict(self.store) == before  # the store is not ahead of its changelog
        if self.fails:
            raise ConnectionError
        return written


async def test_the_changelog_has_a_change_before_the_store() -> None:
    site = Site()
    await site.states.keep(2, [(b"k", b"1"), (b"l", b"2")])
    assert site.store == {b"k": b"1", b"l": b"2"}
    await site.states.keep(2, [(b"k", None)])
    assert site.store == {b"l": b"2"} and site.sent == [(2, b"1"), (2, b"2"), (2, None)]
    assert site.store.noted == []
    site.states.note()
    site.states.note()
    assert site.store.noted == [(STATE, 3)]


async def test_what_the_changelog_does_not_have_the_store_does_not_have() -> None:
    site = Site()
    site.fails = True
    with pytest.raises(ConnectionError):
        await site.states.keep(2, [(b"k", b"1")])
    site.states.note()
    assert site.store == {} and site.store.noted == []


async def test_what_was_written_before_other_partitions_came_is_not_noted() -> None:
    site = Site()
    await site.states.keep(2, [(b"k", b"1")])
    site.states.begin()
    site.states.note()
    assert site.store.noted == []


async def test_all_states_are_looked_at_some_at_a_time_and_others_come_between() -> None:
    site, count = Site(), 2 * AT_A_TIME + 5
    site.store.update({b"%05d" % number: b"1" for number in range(count)})
    site.store[FAUSTS + b"offset__"] = b"7"
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    found = [chunk async for chunk in site.states.chunks(2, lambda: True)]
    task.cancel()
    assert [len(chunk) for chunk in found] == [AT_A_TIME, AT_A_TIME, 5]
    assert [key for chunk in found for key, _ in chunk] == [b"%05d" % number for number in range(count)]
    assert turns >= 3


async def test_of_large_states_fewer_are_looked_at_at_a_time() -> None:
    site = Site()
    site.store.update({b"%05d" % number: bytes(BYTES // 2) for number in range(5)})
    assert [len(chunk) async for chunk in site.states.chunks(2, lambda: True)] == [2, 2, 1]


async def test_what_is_deleted_or_written_meanwhile_hides_nothing() -> None:
    site = Site()
    site.store.update({b"%05d" % number: b"1" for number in range(2 * AT_A_TIME)})
    found: list[bytes] = []
    async for chunk in site.states.chunks(2, lambda: True):
        found += [key for key, _ in chunk]
        del site.store[chunk[-1][0]]  # the next chunk begins behind it
    assert found == [b"%05d" % number for number in range(2 * AT_A_TIME)]


async def test_looking_ends_where_the_partition_goes() -> None:
    site = Site()
    site.store.update({b"%05d" % number: b"1" for number in range(3 * AT_A_TIME)})
    here = iter([True, True, False])
    assert len([chunk async for chunk in site.states.chunks(2, lambda: next(here))]) == 2


async def test_filling_that_is_given_up_ends_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = threading.Event(), threading.Event()

    def slow(store: Any, kafka: Any, topic: str, partition: int, ends: threading.Event) -> None:
        began.set()
        if ends.wait(20):
            ended.set()

    monkeypatch.setattr(module, "refill", slow)

    async def fill(partitions: Collection[int]) -> None:
        await Site().states.fill(partitions)

    task = asyncio.create_task(fill([2]))
    await asyncio.to_thread(began.wait, 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await asyncio.to_thread(ended.wait, 20)
