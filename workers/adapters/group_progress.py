"""How far a consumer group has read its topics."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec

from workers.adapters.kafka_checks import reached
from workers.errors import StartError
from workers.settings import KafkaSettings

# The least that a later question gets when the first answer came late, in seconds.
_LEAST_S: Final = 1.0


class Progress(NamedTuple):
    """Of one partition."""

    next: int
    """The next record of the group, or the oldest that there is where that is newer."""
    end: int
    """Offset of the next record to be written."""


Places = Mapping[tuple[str, int], Progress]
"""By topic and partition."""


def group_progress(kafka: KafkaSettings, group: str, topics: Sequence[str]) -> Places | None:
    """Every partition of the topics; None where the brokers do not say. Blocks for about
    `kafka.start_timeout_s` at most."""
    until = time.monotonic() + kafka.start_timeout_s
    try:
        with reached(kafka, until) as client:
            return _progress(client, group, topics, until)
    except (StartError, KafkaException):
        return None


def all_done(places: Places | None) -> bool:
    """Whether the group had committed every record at one instant: commits are asked for before ends."""
    return places is not None and all(one.next >= one.end for one in places.values())


def _progress(client: Any, group: str, topics: Sequence[str], until: float) -> Places:
    def left() -> float:
        return max(_LEAST_S, until - time.monotonic())

    described = client.describe_topics(TopicCollection(list(topics)), request_timeout=left())
    bare = [
        TopicPartition(topic, part.id) for topic in topics for part in described[topic].result().partitions
    ]
    asked = [ConsumerGroupTopicPartitions(group, bare)]
    answer = client.list_consumer_group_offsets(asked, request_timeout=left())[group]
    committed = {(one.topic, one.partition): one.offset for one in answer.result().topic_partitions}

    def offsets(spec: OffsetSpec) -> dict[tuple[str, int], int]:
        answers = client.list_offsets(dict.fromkeys(bare, spec), request_timeout=left())
        return {(at.topic, at.partition): one.result().offset for at, one in answers.items()}

    oldest, ends = offsets(OffsetSpec.earliest()), offsets(OffsetSpec.latest())
    # Without a commit the offset is negative.
    return {place: Progress(max(committed[place], oldest[place]), ends[place]) for place in ends}
