"""A subject's state out of the topic of states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.workers.conduct.world import World, decision, policy, rule
from workers.adapters.topics_io import Record
from workers.conduct import stored
from workers.conduct.entries import Subject
from workers.conduct.state import State
from workers.conduct.stored import stored_state
from workers.errors import StreamStopped
from workers.settings import Settings

AUTHOR = Subject("author", "acme", "a")


def state_of(monkeypatch: pytest.MonkeyPatch, *values: tuple[bytes, bytes | None]) -> State | None:
    """What is read where the topic has these keys and values."""

    def read(_: Any, topic: str, **__: Any) -> Iterator[list[Record]]:
        assert topic == "moderation.conduct-state"
        for offset, (key, value) in enumerate(values):
            yield [Record(topic, 0, offset, 1, key, value, [])]

    monkeypatch.setattr(stored, "read_whole", read)
    return stored_state(Settings(), AUTHOR)


def test_the_newest_record_of_the_key_is_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    world, values = World([policy(rule())]), []
    for number in (1, 2):
        world.decide(decision(number, number))
        values.append((AUTHOR.key, world.states[AUTHOR.key]))
    found = state_of(monkeypatch, *values, (b"another", b"{}"))
    assert found is not None and len(found.strikes) == 2


def test_what_was_deleted_or_never_was_is_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_of(monkeypatch) is None
    assert state_of(monkeypatch, (AUTHOR.key, b"{}"), (AUTHOR.key, None)) is None


def test_what_is_no_state_is_an_error_that_quotes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StreamStopped, match=r"moderation\.conduct-state") as caught:
        state_of(monkeypatch, (AUTHOR.key, b'{"strikes": "secret"}'))
    assert "secret" not in str(caught.value)
