"""How far a group has read, from the answers of the brokers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from workers.adapters import group_progress as module
from workers.adapters.group_progress import Progress, group_progress
from workers.errors import StartError
from workers.settings import KafkaSettings


def told(answer: Any) -> Future[Any]:
    made: Future[Any] = Future()
    if isinstance(answer, Exception):
        made.set_exception(answer)
    else:
        made.set_result(answer)
    return made


class Client:
    """Two partitions of one topic; the second has no commit, and its oldest records are gone."""

    trouble: Exception | None = None

    def describe_topics(self, topics: Any, request_timeout: float) -> Mapping[str, Future[Any]]:
        parts = SimpleNamespace(partitions=[SimpleNamespace(id=number) for number in (0, 1)])
        return {"decisions": told(self.trouble or parts)}

    def list_consumer_group_offsets(self, asked: Any, request_timeout: float) -> Mapping[str, Future[Any]]:
        offsets = {0: 7, 1: -1001}
        found = [
            TopicPartition(one.topic, one.partition, offsets[one.partition])
            for one in asked[0].topic_partitions
        ]
        return {asked[0].group_id: told(SimpleNamespace(topic_partitions=found))}

    def list_offsets(
        self, asked: Mapping[TopicPartition, Any], request_timeout: float
    ) -> Mapping[TopicPartition, Future[Any]]:
        kinds = {type(spec).__name__ for spec in asked.values()}
        offsets = {0: 2, 1: 30} if "earliest" in str(kinds).lower() else {0: 9, 1: 30}
        return {at: told(SimpleNamespace(offset=offsets[at.partition])) for at in asked}


def ask(monkeypatch: pytest.MonkeyPatch, client: Client | None, topics: Sequence[str]) -> Any:
    @contextmanager
    def reached(*_: Any) -> Iterator[Client]:
        if client is None:
            raise StartError("no broker")
        yield client

    monkeypatch.setattr(module, "reached", reached)
    return group_progress(KafkaSettings(), "group", topics)


def test_of_each_partition_the_next_record_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, Client(), ["decisions"]) == {
        ("decisions", 0): Progress(7, 9),
        ("decisions", 1): Progress(30, 30),
    }


def test_where_the_brokers_do_not_say_it_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, None, ["decisions"]) is None
    client = Client()
    client.trouble = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    assert ask(monkeypatch, client, ["decisions"]) is None
