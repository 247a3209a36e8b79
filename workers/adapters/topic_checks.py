"""Topics that must be there, and have as many partitions as each other, before an app starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka.admin import AdminClient

from workers.adapters.kafka_options import Option
from workers.adapters.topics_io import partitions_of, quiet_logger
from workers.errors import StartError


def require_equal_partitions(
    options: Mapping[str, Option], equal: Sequence[str], others: Sequence[str], timeout_s: float
) -> None:
    """Raises `StartError` where a topic is absent, or those of `equal` differ in their partitions."""
    with AdminClient({**options, "logger": quiet_logger()}) as admin:
        counts = {topic: len(partitions_of(admin, topic, options, timeout_s)) for topic in (*equal, *others)}
    first = equal[0]
    for topic in equal[1:]:
        if counts[topic] != counts[first]:
            raise StartError(
                f"topic {topic} has {counts[topic]} partitions and topic {first} has {counts[first]}; "
                "expected as many: a key's record and its state lie in partitions of one number"
            )
