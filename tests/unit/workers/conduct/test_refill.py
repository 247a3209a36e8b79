"""The store of a partition says what its topic says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from workers.adapters.topics_io import Record
from workers.conduct import refill as module
from workers.conduct.refill import refill
from workers.errors import StreamStopped
from workers.settings import KafkaSettings


class Store(dict[bytes, bytes]):
    """As RocksDB: what is not there may be deleted."""

    def __delitem__(self, key: bytes) -> None:
        self.pop(key, None)


def filled(
    monkeypatch: pytest.MonkeyPatch, store: Store, *batches: list[tuple[bytes, bytes | None]]
) -> dict[bytes, bytes]:
    """The store after the topic gave these."""

    def read(_: Any, topic: str, partition: int, first: int, last: int, **__: Any) -> Iterator[list[Record]]:
        assert (topic, partition, first) == ("state", 2, 0) and last > 2**60
        for batch in batches:
            yield [Record(topic, partition, 0, 1, key, value, []) for key, value in batch]

    monkeypatch.setattr(module, "read_span", read)
    refill(store, KafkaSettings(), "state", 2, threading.Event())
    return dict(store)


def test_the_newest_of_each_key_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    found = filled(
        monkeypatch,
        Store(),
        [(b"a", b"1"), (b"b", b"1")],
        [(b"a", b"2"), (b"b", None), (b"c", None), (b"d", b"1")],
    )
    assert found == {b"a": b"2", b"d": b"1"}


def test_what_the_topic_does_not_have_goes_but_for_fausts_note(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store({b"__faust\0offset__": b"7", b"gone": b"1", b"a": b"newer than the topic"})
    assert filled(monkeypatch, store, [(b"a", b"1")]) == {b"__faust\0offset__": b"7", b"a": b"1"}


def test_a_broker_that_falls_silent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any, **__: Any) -> Iterator[list[Record]]:
        raise StreamStopped("silent")

    monkeypatch.setattr(module, "read_span", silent)
    with pytest.raises(StreamStopped):
        refill(Store(), KafkaSettings(), "state", 2, threading.Event())


def test_a_process_that_stops_does_not_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ends, store = threading.Event(), Store()

    def read(*_: Any, **__: Any) -> Iterator[list[Record]]:
        yield [Record("state", 2, 0, 1, b"a", b"1", [])]
        ends.set()
        yield [Record("state", 2, 1, 1, b"b", b"1", [])]
        raise AssertionError

    monkeypatch.setattr(module, "read_span", read)
    with pytest.raises(StreamStopped):
        refill(store, KafkaSettings(), "state", 2, ends)
    assert store == {b"a": b"1"}
