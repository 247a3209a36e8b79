"""Brokers and servers on which nothing is wrong, for tests to change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from workers.adapters.admin import WantedTopic
from workers.commands.topics import wanted_topics
from workers.doctor.facts import GroupFacts, KafkaFacts, RedisFacts, RedisServerFacts, TopicFacts
from workers.settings import KafkaSettings, Settings

KAFKA = KafkaSettings()
EVENTS, DECISIONS, LETTERS = KAFKA.events_topic, KAFKA.decisions_topic, KAFKA.dead_letters_topic
EVERYTHING = frozenset({"Read", "Write", "Create", "Describe", "DescribeConfigs"})


def wanted() -> list[WantedTopic]:
    """The topics that this version uses."""
    return wanted_topics(Settings())


def good_kafka() -> KafkaFacts:
    """Three brokers, all topics as `topics.yaml` has them."""
    topics = {
        topic.name: TopicFacts(
            partitions=6,
            copies=3,
            operations=EVERYTHING,
            config={"max.message.bytes": "1048588", "min.insync.replicas": "2", **topic.config},
        )
        for topic in wanted()
    }
    group = GroupFacts(members=2, protocol="classic", operations=EVERYTHING)
    return KafkaFacts(3, "abc", topics, group, ahead_ms=-50.0)


def with_topic(name: str, **changes: Any) -> KafkaFacts:
    """Good brokers, but for one topic."""
    facts = good_kafka()
    return replace(facts, topics={**facts.topics, name: replace(facts.topics[name], **changes)})


def with_config(name: str, **config: str) -> KafkaFacts:
    """Good brokers, but for some settings of one topic; `_` stands for `.`."""
    found = good_kafka().topics[name].config
    assert found is not None
    return with_topic(
        name, config={**found, **{key.replace("_", "."): value for key, value in config.items()}}
    )


def good_redis(**changes: Any) -> RedisFacts:
    """One server, but for these."""
    server = RedisServerFacts("r:6379", "7.2", 2**20, 2**30, "allkeys-lru", 1.0)
    return RedisFacts((replace(server, **changes),))
