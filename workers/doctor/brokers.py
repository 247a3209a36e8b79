"""Brokers, topics, rights and group: the facts beside `topics.yaml`, the settings and the list of rights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Final

from workers.adapters.admin import WantedTopic
from workers.adapters.kafka_checks import check_sizes, check_timestamps
from workers.doctor.facts import GroupFacts, KafkaFacts, TopicFacts
from workers.doctor.findings import Finding, not_checked, ok, problem, warning
from workers.errors import StartError
from workers.kafka_rights import Right, acl_command
from workers.settings import KafkaSettings

_CREATE: Final = "make it with `rsafe topics create`"
_ALTER: Final = "change it with `kafka-configs.sh --alter`, or delete the topic and run `rsafe topics create`"
_PRINCIPAL: Final = "User:NAME"


def kafka_findings(
    facts: KafkaFacts,
    kafka: KafkaSettings,
    wanted: Sequence[WantedTopic],
    *,
    policies_followed: bool = False,
) -> Iterator[Finding]:
    """Brokers, topics and group. `wanted`: every topic that this version uses, as `topics.yaml` has it.

    `policies_followed`: a worker reads its policies from their topic, and does not start without it.
    """
    needed = {kafka.events_topic, kafka.decisions_topic, kafka.dead_letters_topic}
    if policies_followed:
        needed.add(kafka.policies_topic)
    plural = "broker" if facts.brokers == 1 else "brokers"
    yield ok(
        "kafka",
        f"{facts.brokers} {plural} at {kafka.bootstrap_servers} ({kafka.security_protocol}), cluster "
        f"{facts.cluster_id or 'without an id'}",
    )
    yield from _group(facts, kafka)
    if kafka.delivery == "exactly-once":
        yield from _transactions(facts)
    for topic in wanted:
        yield from _topic(topic, facts.topics[topic.name], facts, kafka, needed)
    yield from _sizes(facts, kafka)


def right_findings(facts: KafkaFacts, kafka: KafkaSettings, rights: Sequence[Right]) -> Iterator[Finding]:
    """What this user lacks of `rights`, each with the command that grants it."""
    for right in rights:
        if right.kind == "transactional-id":
            continue  # tried, and told of with the transactions
        found = facts.group if right.kind == "group" else facts.topics.get(right.name)
        name = f"{right.kind} {right.name}"
        grant = f"let an administrator run `{acl_command(right, _PRINCIPAL, kafka.bootstrap_servers)}`"
        if found is None or found.trouble == "absent":
            yield not_checked("rights", f"{name}: the broker does not know it, so nothing can be said")
        elif found.trouble == "forbidden":
            yield problem("rights", f"{name}: this user may not see it", grant)
        elif found.operations is None:
            yield not_checked("rights", f"{name}: the broker does not say what this user may do")
        else:
            yield from _lacking(right, name, found.operations, grant)


def _lacking(right: Right, name: str, operations: frozenset[str], grant: str) -> Iterator[Finding]:
    lacks = [one for one in right.operations if one not in operations]
    if not lacks:
        yield ok("rights", f"{name}: this user may {', '.join(right.operations)}")
    elif lacks == ["DescribeConfigs"]:  # the one that may be missing
        yield warning("rights", f"{name}: without DescribeConfigs its settings are taken on trust", grant)
    else:
        yield problem("rights", f"{name}: this user lacks {', '.join(lacks)}", grant)


def _group(facts: KafkaFacts, kafka: KafkaSettings) -> Iterator[Finding]:
    group = facts.group
    if group.trouble:
        if group.trouble != "forbidden":  # that is told of with the rights
            yield not_checked("kafka", f"group {kafka.group_id}: {group.trouble}")
        return
    workers = "no worker" if not group.members else f"{group.members} workers"
    yield ok("kafka", f"group {kafka.group_id} has {'1 worker' if group.members == 1 else workers}")
    yield from _crowd(facts, group, kafka)
    if group.members and group.protocol and group.protocol != kafka.group_protocol:
        yield problem(
            "kafka",
            f"group {kafka.group_id} speaks the protocol `{group.protocol}`, and "
            f"RSAFE_KAFKA__GROUP_PROTOCOL is `{kafka.group_protocol}`",
            "give all workers of a group one protocol",
        )


def _crowd(facts: KafkaFacts, group: GroupFacts, kafka: KafkaSettings) -> Iterator[Finding]:
    events = facts.topics.get(kafka.events_topic)
    if events is not None and 0 < events.partitions < group.members:
        yield warning(
            "kafka",
            f"{group.members} workers share {events.partitions} partitions of {kafka.events_topic}: "
            f"{group.members - events.partitions} are idle",
            "add partitions, or take workers away",
        )


def _transactions(facts: KafkaFacts) -> Iterator[Finding]:
    if facts.transactions is None:
        yield not_checked(
            "kafka",
            "transactions: a try under RSAFE_KAFKA__GROUP_INSTANCE_ID would end that of the running worker",
        )
    elif facts.transactions:
        yield problem("kafka", facts.transactions, "grant it, or set RSAFE_KAFKA__DELIVERY=at-least-once")
    else:
        yield ok("kafka", "a transaction can be opened")


def _topic(
    topic: WantedTopic, found: TopicFacts, facts: KafkaFacts, kafka: KafkaSettings, needed: Set[str]
) -> Iterator[Finding]:
    if found.trouble == "forbidden":
        return  # told of with the rights
    if found.trouble == "absent":
        what = f"{topic.name}: there is no such topic, or this user may not see it"
        if topic.name in needed:
            yield problem("topics", what, _CREATE)
        else:
            yield warning("topics", f"{what}; a worker does not need it", _CREATE)
        return
    if found.trouble:
        yield problem("topics", f"{topic.name}: cannot be looked at: {found.trouble}", "look at the brokers")
        return
    wrong = [*_copies(topic, found, facts), *_partitions(topic, found, kafka)]
    if found.config is None:
        wrong.append(
            not_checked(
                "topics",
                f"{topic.name}: this user may not ask for its settings",
                "grant DescribeConfigs, or run `rsafe doctor` as an administrator",
            )
        )
    else:
        wrong += _config(topic, found, kafka, needed)
    if wrong:
        yield from wrong
    else:
        yield ok("topics", f"{topic.name}: {found.partitions} partitions, {found.copies} copies, as wanted")


def _copies(topic: WantedTopic, found: TopicFacts, facts: KafkaFacts) -> Iterator[Finding]:
    if found.without_leader:
        yield problem(
            "topics",
            f"{topic.name}: {found.without_leader} partitions have no leader: nobody reads or writes them",
            "bring the brokers back that hold their copies",
        )
    if found.behind:
        yield warning(
            "topics",
            f"{topic.name}: of {found.behind} partitions a copy is not in sync",
            "look at the brokers that hold them",
        )
    least = int((found.config or {}).get("min.insync.replicas", "1"))
    if least > found.copies:
        yield problem(
            "topics",
            f"{topic.name}: min.insync.replicas={least} and {found.copies} copies: nothing can be written",
            "add copies, or lower min.insync.replicas",
        )
    elif found.copies == 1 and facts.brokers > 1:
        yield warning(
            "topics",
            f"{topic.name}: one copy, so that it is away when its broker is",
            "make topics with RSAFE_KAFKA__REPLICATION_FACTOR=3, and give this one more copies",
        )
    elif least == found.copies > 1:
        yield warning(
            "topics",
            f"{topic.name}: min.insync.replicas is the number of copies: one broker down stops all writing",
            f"set min.insync.replicas={least - 1}",
        )


def _partitions(topic: WantedTopic, found: TopicFacts, kafka: KafkaSettings) -> Iterator[Finding]:
    if topic.name == kafka.events_topic and found.partitions < kafka.min_partitions:
        yield problem(
            "topics",
            f"{topic.name} has {found.partitions} partitions and RSAFE_KAFKA__MIN_PARTITIONS asks for "
            f"{kafka.min_partitions}",
            "add partitions, or lower the setting",
        )


def _config(
    topic: WantedTopic, found: TopicFacts, kafka: KafkaSettings, needed: Set[str]
) -> Iterator[Finding]:
    assert found.config is not None
    for name, value in topic.config.items():
        has = found.config.get(name, "")
        if has == value or name == "max.message.bytes":  # of which the sum counts, below
            continue
        what = f"{topic.name}: {name} is {has or 'not told'}, and `topics.yaml` has {value}"
        if name == "message.timestamp.type" and topic.name == kafka.events_topic:
            yield from _timestamps(kafka, has)
        elif name == "cleanup.policy":
            lost = ""
            if "compact" in has and "compact" not in value:
                lost = ": compaction removes all but the newest record of a conversation"
            elif topic.name in needed and "delete" in has and "delete" not in value:
                lost = ": retention removes what is in force"
            yield (problem if lost else warning)("topics", what + lost, _ALTER)
        elif name == "retention.ms":
            if 0 <= int(has or -1) < int(value):
                yield warning("topics", f"{what}: records go earlier", _ALTER)
        else:
            yield warning("topics", what, _ALTER)
    if topic.name == kafka.events_topic and int(found.config.get("retention.bytes", "-1")) >= 0:
        yield warning(
            "topics",
            f"{topic.name}: retention.bytes is set: a backlog is deleted unread when it grows beyond",
            "set retention.bytes=-1, or be sure that it holds the longest outage",
        )


def _timestamps(kafka: KafkaSettings, has: str) -> Iterator[Finding]:
    try:
        check_timestamps(kafka, has or None)
    except StartError as error:
        yield problem("topics", str(error), _ALTER)
    else:
        yield warning(
            "topics",
            f"{kafka.events_topic}: timestamps are the senders', and deadlines count from their clocks",
            "set message.timestamp.type=LogAppendTime",
        )


def _sizes(facts: KafkaFacts, kafka: KafkaSettings) -> Iterator[Finding]:
    limits = []
    for name in (kafka.events_topic, kafka.dead_letters_topic):
        found = facts.topics.get(name)
        limits.append(
            None if found is None or found.config is None else found.config.get("max.message.bytes")
        )
    try:
        check_sizes(kafka, *limits)
    except StartError as error:
        yield problem("topics", str(error), _ALTER)
