"""What the brokers say, as facts; the answers are those of a client that is told what to say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupType, KafkaError, KafkaException
from confluent_kafka.admin import AclOperation

from workers.adapters import kafka_facts as module
from workers.adapters.kafka_facts import kafka_facts, librdkafka_version
from workers.doctor.facts import GroupFacts, KafkaFacts
from workers.errors import StartError
from workers.settings import KafkaSettings

ALL = [AclOperation.READ, AclOperation.DESCRIBE_CONFIGS]
CONFIG = {"message.timestamp.type": "LogAppendTime", "retention.ms": "1000"}


def done(answer: Any) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
    return future


def failure(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


def partition(*, leader: int = 1, replicas: int = 3, isr: int = 3) -> Any:
    return SimpleNamespace(leader=SimpleNamespace(id=leader), replicas=[None] * replicas, isr=[None] * isr)


class Client:
    """Answers as its fields say; a failure is raised by the future."""

    def __init__(self) -> None:
        self.topic: Any = SimpleNamespace(
            partitions=[partition(), partition(leader=-1), partition(isr=1)], authorized_operations=ALL
        )
        self.config: Any = {name: SimpleNamespace(value=value) for name, value in CONFIG.items()}
        self.group: Any = SimpleNamespace(
            members=[None, None], type=ConsumerGroupType.CONSUMER, authorized_operations=ALL
        )
        self.newest_ms: Any = -1

    def describe_cluster(self, **_: Any) -> Any:
        return done(SimpleNamespace(nodes=[None, None], cluster_id="abc"))

    def describe_topics(self, names: Any, **_: Any) -> Any:
        return {"t": done(self.topic)}

    def describe_configs(self, resources: Any, **_: Any) -> Any:
        return {resource: done(self.config) for resource in resources}

    def describe_consumer_groups(self, groups: Any, **_: Any) -> Any:
        return {group: done(self.group) for group in groups}

    def list_offsets(self, asked: Any, **_: Any) -> Any:
        answer = self.newest_ms
        told = answer if isinstance(answer, Exception) else SimpleNamespace(timestamp=answer)
        return {one: done(told) for one in asked}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    found = Client()

    @contextmanager
    def reached(*_: Any) -> Iterator[Client]:
        yield found

    monkeypatch.setattr(module, "reached", reached)
    return found


def facts(**settings: Any) -> KafkaFacts:
    return kafka_facts(KafkaSettings(group_id="g", **settings), ["t"])


def test_a_topic_is_described_with_rights_as_kafka_spells_them(client: Client) -> None:
    found = facts()
    assert (found.brokers, found.cluster_id) == (2, "abc")
    topic = found.topics["t"]
    assert (topic.partitions, topic.copies, topic.without_leader, topic.behind) == (3, 3, 1, 1)
    assert topic.operations == frozenset({"Read", "DescribeConfigs"})
    assert topic.config == CONFIG


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "absent"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "forbidden"),
        (KafkaError.LEADER_NOT_AVAILABLE, "LEADER_NOT_AVAILABLE"),
    ],
)
def test_a_topic_that_cannot_be_described_says_why(client: Client, code: int, trouble: str) -> None:
    client.topic = failure(code)
    assert facts().topics["t"].trouble == trouble


def test_settings_that_may_not_be_asked_for_are_unknown(client: Client) -> None:
    client.config = failure(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    found = facts()
    assert found.topics["t"].config is None
    assert found.ahead_ms is None


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (failure(KafkaError.GROUP_ID_NOT_FOUND), GroupFacts()),
        (failure(KafkaError.GROUP_AUTHORIZATION_FAILED), GroupFacts(trouble="forbidden")),
    ],
    ids=["absent", "forbidden"],
)
def test_a_group_that_is_not_there_is_no_trouble(client: Client, group: Any, expected: GroupFacts) -> None:
    client.group = group
    assert facts().group == expected


def test_the_groups_protocol_is_told(client: Client) -> None:
    assert (facts().group.members, facts().group.protocol) == (2, "consumer")


def test_the_newest_stamp_says_how_far_a_broker_is_ahead(client: Client) -> None:
    assert facts().ahead_ms is None
    client.newest_ms = int(time.time() * 1000) + 60_000
    assert facts().ahead_ms == pytest.approx(60_000, abs=5_000)
    client.newest_ms = failure(KafkaError.UNSUPPORTED_VERSION)
    assert facts().ahead_ms is None


def test_stamps_of_senders_say_nothing_of_the_brokers_clock(client: Client) -> None:
    client.config["message.timestamp.type"].value = "CreateTime"
    client.newest_ms = int(time.time() * 1000) + 60_000
    assert facts().ahead_ms is None


def test_a_transaction_is_tried_unless_it_would_end_that_of_a_static_member(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> None:
        raise StartError("not to be had")

    monkeypatch.setattr(module, "check_transactions", refuses)
    assert facts().transactions is None
    assert facts(delivery="exactly-once").transactions == "not to be had"
    assert facts(delivery="exactly-once", group_instance_id="worker-0").transactions is None
    monkeypatch.setattr(module, "check_transactions", lambda *_: None)
    assert facts(delivery="exactly-once").transactions == ""


def test_the_client_library_says_its_version() -> None:
    assert librdkafka_version().count(".") >= 1
