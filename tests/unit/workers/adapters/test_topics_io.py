"""Readings that are to end, from a client that is replaced: they end, or say that the broker is silent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError

from tests.unit.workers.adapters.test_origins import Message
from workers.adapters import topics_io
from workers.adapters.topics_io import Record, read_records, read_span
from workers.errors import StreamStopped

PLACE = ("t", 0)
END = Message(PLACE, 9, KafkaError._PARTITION_EOF)


class Client:
    """Answers in turns; when they are used up, it is silent. A turn takes a second."""

    def __init__(self, *turns: list[Message]) -> None:
        self.turns, self.now_s, self.closed = list(turns), 0.0, False

    def assign(self, places: list[Any]) -> None: ...

    def consume(self, count: int, wait_s: float) -> list[Message]:
        self.now_s += 1.0
        return self.turns.pop(0) if self.turns else []

    def close(self) -> None:
        self.closed = True

    def clock(self) -> float:
        return self.now_s


@pytest.fixture(params=["records", "span"])
def read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(topics_io, "partitions_of", lambda *_: [0])

    def reading(client: Client, *, silence_s: float | None = 3) -> Iterator[list[Record]]:
        monkeypatch.setattr(topics_io, "reader", lambda options: client)
        if request.param == "span":
            return read_span({}, "t", 0, 0, 9, silence_s=silence_s, clock=client.clock)
        return read_records(
            {},
            "t",
            start="beginning",
            follow=False,
            timeout_s=1,
            silence_s=silence_s,
            clock=client.clock,
        )

    return reading


def drain(batches: Iterator[list[Record]], found: list[Record]) -> None:
    for batch in batches:
        found += batch


def test_a_silent_broker_ends_the_reading_and_what_came_before_is_given(read: Any) -> None:
    client = Client([Message(PLACE, 0)])
    found: list[Record] = []
    with pytest.raises(StreamStopped, match="reading t: the broker has fallen silent"):
        drain(read(client), found)
    assert [record.offset for record in found] == [0]
    assert client.closed
    assert client.now_s == 5  # one for the record, and the first turn over three seconds of silence


def test_pauses_below_the_limit_and_a_slow_reader_are_no_silence(read: Any) -> None:
    turns = [[[Message(PLACE, n)], [], []] for n in range(3)]
    client = Client(*itertools.chain(*turns), [END])
    found: list[Record] = []
    for batch in read(client):
        found += batch
        client.now_s += 100
    assert [record.offset for record in found] == [0, 1, 2]


def test_without_a_limit_it_waits(read: Any) -> None:
    assert list(read(Client(*[[]] * 500, [END]), silence_s=None)) == []


def test_who_follows_waits_whatever_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    monkeypatch.setattr(topics_io, "partitions_of", lambda *_: [0])
    monkeypatch.setattr(topics_io, "reader", lambda options: client)
    batches = read_records(
        {}, "t", start="beginning", follow=True, timeout_s=1, silence_s=3, clock=client.clock
    )
    assert list(itertools.islice(batches, 50)) == [[]] * 50
