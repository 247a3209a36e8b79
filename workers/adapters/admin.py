"""Topics: created when absent, compared when present, never changed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from workers.adapters.kafka_options import Option
from workers.adapters.topics_io import quiet_logger, unreachable
from workers.errors import StartError

# How often it is asked whether a new topic is to be seen.
_LOOK_AGAIN_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class WantedTopic:
    """A topic as it shall be."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What was found or done. `absent`: a trial run would create it."""

    name: str
    outcome: Literal["created", "absent", "unchanged", "differs"]
    differences: tuple[str, ...] = ()
    """One sentence each: what an existing topic has, and what was wanted."""


def create_topics(
    options: Mapping[str, Option], wanted: Sequence[WantedTopic], *, timeout_s: float, dry_run: bool = False
) -> list[TopicReport]:
    """Create what is absent; one report per topic, same order. With `dry_run` the broker only checks.

    Returns when the broker shows the new topics. Raises `StartError` when no broker answers within
    `timeout_s`, or when it refuses a topic (those before it are created).
    """
    # Closed here: left to the garbage collector, it may be ended in a thread of the client library, which
    # aborts the process.
    with AdminClient({**options, "logger": quiet_logger()}) as admin:
        try:
            existing = admin.list_topics(timeout=timeout_s).topics
        except KafkaException as error:
            raise unreachable(options, timeout_s, error.args[0]) from error
        reports = []
        for topic in wanted:
            if topic.name in existing:
                partitions = existing[topic.name].partitions
                reports.append(_compare(admin, topic, partitions, timeout_s))
            else:
                reports.append(_create(admin, topic, timeout_s, dry_run))
        _await_visible(admin, [report.name for report in reports if report.outcome == "created"], timeout_s)
    return reports


def _create(admin: Any, topic: WantedTopic, timeout_s: float, dry_run: bool) -> TopicReport:
    new = NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        replication_factor=topic.replication_factor,
        config=dict(topic.config),
    )
    try:
        admin.create_topics([new], request_timeout=timeout_s, validate_only=dry_run)[topic.name].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return TopicReport(topic.name, "unchanged")
        raise StartError(f"topic {topic.name} was not created: {error.args[0].str()}") from error
    return TopicReport(topic.name, "absent" if dry_run else "created")


def _compare(admin: Any, topic: WantedTopic, partitions: Mapping[int, Any], timeout_s: float) -> TopicReport:
    resource = ConfigResource(ResourceType.TOPIC, topic.name)
    try:
        found = admin.describe_configs([resource], request_timeout=timeout_s)[resource].result()
    except KafkaException as error:
        raise StartError(f"topic {topic.name} cannot be read: {error.args[0].str()}") from error
    pairs = [
        ("partitions", str(len(partitions)), str(topic.partitions)),
        ("replication factor", str(_copies(partitions)), str(topic.replication_factor)),
        *((name, found[name].value if name in found else "", value) for name, value in topic.config.items()),
    ]
    differences = tuple(f"{name} is {has}, wanted {value}" for name, has, value in pairs if has != value)
    return TopicReport(topic.name, "differs" if differences else "unchanged", differences)


def _copies(partitions: Mapping[int, Any]) -> int:
    return max((len(partition.replicas) for partition in partitions.values()), default=0)


def _await_visible(admin: Any, names: list[str], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while names:
        shown = admin.list_topics(timeout=timeout_s).topics
        names = [name for name in names if name not in shown or not shown[name].partitions]
        if names and time.monotonic() > deadline:
            raise StartError(f"topic {names[0]} was created, but the broker does not show it yet")
        if names:
            time.sleep(_LOOK_AGAIN_S)
