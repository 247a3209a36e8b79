"""What the brokers say of themselves, their topics and this user, as plain values. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import confluent_kafka
from confluent_kafka import ConsumerGroupType, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import ConfigResource, OffsetSpec, ResourceType

from workers.adapters.kafka_checks import check_transactions, reached
from workers.adapters.kafka_errors import error_of
from workers.doctor.facts import GroupFacts, KafkaFacts, TopicFacts
from workers.errors import StartError
from workers.settings import KafkaSettings

# The least that a later question gets when the first answer came late, in seconds.
_LEAST_S: Final = 1.0
_STAMPED: Final = "LogAppendTime"
_KINDS: Final[Mapping[Any, Literal["classic", "consumer"]]] = {
    ConsumerGroupType.CLASSIC: "classic",
    ConsumerGroupType.CONSUMER: "consumer",
}


def librdkafka_version() -> str:
    """Of the C library that is loaded."""
    return str(confluent_kafka.libversion()[0])


def kafka_facts(kafka: KafkaSettings, topics: Sequence[str]) -> KafkaFacts:
    """What there is to know, within about `kafka.start_timeout_s`; `topics` are looked at.

    Raises `StartError` when no broker lets this client in, and `SettingsError` for links that cannot be made.
    """
    until = time.monotonic() + kafka.start_timeout_s
    with reached(kafka, until) as client:
        left = max(_LEAST_S, until - time.monotonic())
        cluster = client.describe_cluster(request_timeout=left)
        described = client.describe_topics(
            TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=left
        )
        resources = {name: ConfigResource(ResourceType.TOPIC, name) for name in topics}
        configs = client.describe_configs(list(resources.values()), request_timeout=left)
        groups = client.describe_consumer_groups(
            [kafka.group_id], include_authorized_operations=True, request_timeout=left
        )
        found = {name: _topic(described[name], configs[resources[name]]) for name in topics}
        return KafkaFacts(
            brokers=len(cluster.result().nodes),
            cluster_id=cluster.result().cluster_id or "",
            topics=found,
            group=_group(groups[kafka.group_id]),
            ahead_ms=_ahead_ms(client, found, left),
            transactions=_transactions(kafka, until),
        )


def _topic(described: Any, config: Any) -> TopicFacts:
    try:
        topic = described.result()
    except KafkaException as error:
        return TopicFacts(trouble=_trouble(error))
    parts = topic.partitions
    return TopicFacts(
        partitions=len(parts),
        copies=min((len(part.replicas) for part in parts), default=0),
        without_leader=sum(part.leader is None or part.leader.id < 0 for part in parts),
        behind=sum(len(part.isr) < len(part.replicas) for part in parts),
        operations=_operations(topic.authorized_operations),
        config=_config(config),
    )


def _config(answer: Any) -> Mapping[str, str] | None:
    try:
        return {name: str(entry.value) for name, entry in answer.result().items()}
    except KafkaException:
        return None


def _group(answer: Any) -> GroupFacts:
    try:
        group = answer.result()
    except KafkaException as error:
        if error_of(error).code() == KafkaError.GROUP_ID_NOT_FOUND:
            return GroupFacts()
        return GroupFacts(trouble=_trouble(error))
    return GroupFacts(
        members=len(group.members),
        protocol=_KINDS.get(getattr(group, "type", None), ""),
        operations=_operations(group.authorized_operations),
    )


def _trouble(error: KafkaException) -> str:
    found = error_of(error)
    if found.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
        return "forbidden"
    return "absent" if found.code() == KafkaError.UNKNOWN_TOPIC_OR_PART else str(found.name())


def _operations(found: Sequence[Any] | None) -> frozenset[str] | None:
    """As `kafka-acls` spells them: DESCRIBE_CONFIGS is DescribeConfigs."""
    return frozenset(one.name.title().replace("_", "") for one in found) if found else None


def _ahead_ms(client: Any, topics: Mapping[str, TopicFacts], timeout_s: float) -> float | None:
    """By how much the newest record that a broker has stamped is ahead of this clock, in ms."""
    asked = {
        TopicPartition(name, number): OffsetSpec.max_timestamp()
        for name, topic in topics.items()
        if topic.config is not None and topic.config.get("message.timestamp.type") == _STAMPED
        for number in range(topic.partitions)
    }
    if not asked:
        return None
    newest = -1
    for answer in client.list_offsets(asked, request_timeout=timeout_s).values():
        try:
            newest = max(newest, answer.result().timestamp)
        except KafkaException:  # a broker before 3.0, or a topic that this user may not read
            continue
    return newest - time.time() * 1000 if newest >= 0 else None


def _transactions(kafka: KafkaSettings, until: float) -> str | None:
    if kafka.delivery != "exactly-once" or kafka.group_instance_id:
        # A static member has one id for all its life, and whoever opens a transaction under it ends his.
        return None
    try:
        check_transactions(kafka, until)
    except StartError as error:
        return str(error)
    return ""
