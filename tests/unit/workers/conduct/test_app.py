"""In which order a state is changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from workers.conduct.app import ConductApp
from workers.errors import StreamStopped


class Tp(NamedTuple):
    topic: str
    partition: int


TP, STATE = Tp("entries", 2), Tp("state", 2)


class Store(dict[bytes, bytes]):
    """As RocksDB, with Faust's note of how far it has read."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[Tp, int]] = []

    def __delitem__(self, key: bytes) -> None:
        self.pop(key, None)

    def set_persisted_offset(self, tp: Tp, offset: int) -> None:
        self.noted.append((tp, offset))


class Changelog:
    """Acknowledges what it is sent, or fails."""

    def __init__(self, store: Store) -> None:
        self.store, self.fails = store, False
        self.sent: list[tuple[int, bytes | None]] = []

    async def send(self, *, key: bytes, value: bytes | None, headers: Any, partition: int) -> Any:
        self.sent.append((partition, value))
        before = dict(self.store)

        async def acknowledged() -> Any:
            assert dict(self.store) == before  # the store is not ahead of its changelog
            if self.fails:
                raise ConnectionError
            return SimpleNamespace(topic_partition=STATE, offset=len(self.sent))

        return acknowledged()


def made(*, here: bool = True) -> tuple[Any, Store, Changelog]:
    """An app of which nothing runs."""
    app: Any = object.__new__(ConductApp)
    store = Store()
    app._changelog, app.failure, app._stored = Changelog(store), None, {}
    app._table = SimpleNamespace(data=store)
    app._reading = SimpleNamespace(here=lambda tp: here)
    return app, store, app._changelog


async def test_the_changelog_has_a_change_before_the_store() -> None:
    app, store, changelog = made()
    await app._keep(TP, b"k", b"1")
    assert store == {b"k": b"1"}
    await app._keep(TP, b"k", None)
    assert store == {} and changelog.sent == [(2, b"1"), (2, None)]
    assert store.noted == []
    app._note_stored()
    app._note_stored()
    assert store.noted == [(STATE, 2)]


async def test_what_the_changelog_does_not_have_the_store_does_not_have() -> None:
    app, store, changelog = made()
    changelog.fails = True
    with pytest.raises(ConnectionError):
        await app._keep(TP, b"k", b"1")
    assert store == {} and app._stored == {}


async def test_the_state_of_another_process_is_not_written() -> None:
    app, store, changelog = made(here=False)
    with pytest.raises(StreamStopped):
        await app._keep(TP, b"k", b"1")
    app, store, changelog = made()
    app.failure = ConnectionError()
    with pytest.raises(StreamStopped):
        await app._keep(TP, b"k", b"1")
    assert store == {} and changelog.sent == []
