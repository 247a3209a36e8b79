"""What a load test's reader makes of what the client hands it."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError

from workers.adapters import load_topics
from workers.adapters.load_topics import OutcomeReader
from workers.errors import StreamStopped


class Message:
    def __init__(self, code: int | None = None) -> None:
        self._error = None if code is None else KafkaError(code)

    def error(self) -> KafkaError | None:
        return self._error

    def topic(self) -> str:
        return "d"

    def value(self) -> bytes:
        return b"v"

    def timestamp(self) -> tuple[int, int]:
        return 2, 5


class Consumer:
    def __init__(self, options: dict[str, Any]) -> None:
        self.messages: list[Message] = []

    def assign(self, places: list[Any]) -> None: ...

    def poll(self, wait_s: float) -> Message | None:
        return self.messages.pop(0) if self.messages else None

    def consume(self, count: int, wait_s: float) -> list[Message]:
        found, self.messages = self.messages, []
        return found


def reader(monkeypatch: pytest.MonkeyPatch, *messages: Message) -> OutcomeReader:
    monkeypatch.setattr(load_topics, "Consumer", Consumer)
    monkeypatch.setattr(load_topics, "partitions_of", lambda *_: [])
    made = OutcomeReader({}, "d", "x", timeout_s=1)
    made._consumer.messages = list(messages)
    return made


@pytest.mark.parametrize("first", [True, False])
def test_a_reader_without_a_right_on_groups_reads_all_the_same(
    monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    refused, record = Message(KafkaError.GROUP_AUTHORIZATION_FAILED), Message()
    found = reader(monkeypatch, *((refused, record) if first else (record, refused))).take(0)
    assert [arrival.value for arrival in found] == [b"v"]


def test_any_other_error_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StreamStopped):
        reader(monkeypatch, Message(KafkaError.TOPIC_AUTHORIZATION_FAILED)).take(0)
