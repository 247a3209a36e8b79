"""What is told of brokers, topics and rights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.workers.doctor.facts import (
    DECISIONS,
    EVENTS,
    EVERYTHING,
    KAFKA,
    LETTERS,
    good_kafka,
    wanted,
    with_config,
    with_topic,
)
from workers.doctor.brokers import kafka_findings, right_findings
from workers.doctor.facts import GroupFacts, KafkaFacts
from workers.doctor.findings import Finding
from workers.kafka_rights import rights
from workers.settings import KafkaSettings


def found(facts: KafkaFacts, kafka: KafkaSettings = KAFKA) -> list[Finding]:
    return [one for one in kafka_findings(facts, kafka, wanted()) if one.status != "ok"]


def lacking(facts: KafkaFacts, kafka: KafkaSettings = KAFKA) -> list[Finding]:
    return [one for one in right_findings(facts, kafka, rights(kafka)) if one.status != "ok"]


def test_good_brokers_are_all_well() -> None:
    assert found(good_kafka()) == []
    assert lacking(good_kafka()) == []


@pytest.mark.parametrize(
    ("facts", "status", "words"),
    [
        (with_topic(EVENTS, trouble="absent"), "problem", "no such topic"),
        (with_topic("moderation.reviews", trouble="absent"), "warning", "a worker does not need it"),
        (with_topic(EVENTS, trouble="LEADER_NOT_AVAILABLE"), "problem", "LEADER_NOT_AVAILABLE"),
        (with_topic(DECISIONS, without_leader=1), "problem", "no leader"),
        (with_topic(DECISIONS, behind=2), "warning", "not in sync"),
        (with_topic(DECISIONS, copies=1, config=None), "warning", "one copy"),
        (with_topic(DECISIONS, copies=1), "problem", "nothing can be written"),
        (with_topic(DECISIONS, copies=2), "warning", "stops all writing"),
        (with_config(EVENTS, message_timestamp_type="CreateTime"), "problem", "LogAppendTime"),
        (with_config(DECISIONS, message_timestamp_type="CreateTime"), "warning", "message.timestamp.type"),
        (with_config(EVENTS, cleanup_policy="compact"), "problem", "compaction removes"),
        (with_config("moderation.checkpoints", cleanup_policy="delete"), "warning", "cleanup.policy"),
        (with_config(EVENTS, retention_ms="1000"), "warning", "records go earlier"),
        (with_config(EVENTS, retention_bytes="1000"), "warning", "deleted unread"),
        (with_config(LETTERS, max_message_bytes="1048588"), "problem", "too little for a dead letter"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_topic_is_told(facts: KafkaFacts, status: str, words: str) -> None:
    assert any(one.status == status and words in one.what and one.remedy for one in found(facts))


def test_policies_that_are_followed_must_not_expire() -> None:
    facts = with_config("moderation.policies", cleanup_policy="delete")
    assert not any(one.status == "problem" for one in found(facts))
    followed = kafka_findings(facts, KAFKA, wanted(), policies_followed=True)
    (one,) = [one for one in followed if one.status == "problem"]
    assert "retention removes what is in force" in one.what


def test_a_worker_that_follows_the_topic_of_policies_needs_it() -> None:
    facts = with_topic("moderation.policies", trouble="absent")
    (one,) = [one for one in found(facts) if "moderation.policies" in one.what]
    assert one.status == "warning"
    followed = kafka_findings(facts, KAFKA, wanted(), policies_followed=True)
    (one,) = [one for one in followed if one.status != "ok"]
    assert one.status == "problem"


def test_longer_retention_and_more_room_are_fine() -> None:
    assert found(with_config(EVENTS, retention_ms="-1")) == []
    assert found(with_config(LETTERS, max_message_bytes="99999999")) == []


def test_senders_clocks_can_be_accepted_and_are_still_told() -> None:
    facts = with_config(EVENTS, message_timestamp_type="CreateTime")
    (one,) = found(facts, KafkaSettings(events_timestamps="any"))
    assert one.status == "warning"


def test_too_few_partitions_and_too_many_workers_are_told() -> None:
    assert found(good_kafka(), KafkaSettings(min_partitions=12))[0].status == "problem"
    crowd = replace(good_kafka(), group=GroupFacts(members=9, protocol="classic", operations=EVERYTHING))
    assert "3 are idle" in found(crowd)[0].what


def test_a_group_of_another_protocol_is_told_while_it_has_members() -> None:
    group = GroupFacts(members=1, protocol="consumer", operations=EVERYTHING)
    assert found(replace(good_kafka(), group=group))[0].status == "problem"
    assert found(replace(good_kafka(), group=replace(group, members=0))) == []


@pytest.mark.parametrize(("transactions", "status"), [(None, "not_checked"), ("refused", "problem")])
def test_transactions_are_told_of_with_exactly_once(transactions: str | None, status: str) -> None:
    facts = replace(good_kafka(), transactions=transactions)
    assert found(facts) == []
    assert [one.status for one in found(facts, KafkaSettings(delivery="exactly-once"))] == [status]


def test_a_missing_right_comes_with_the_command_that_grants_it() -> None:
    (one,) = lacking(with_topic(DECISIONS, operations=frozenset({"Describe", "DescribeConfigs"})))
    assert one.status == "problem"
    assert "lacks Write" in one.what
    assert "kafka-acls.sh" in one.remedy
    assert DECISIONS in one.remedy


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"operations": frozenset({"Read"})}, "warning"),
        ({"operations": None}, "not_checked"),
        ({"trouble": "absent"}, "not_checked"),
        ({"trouble": "forbidden"}, "problem"),
    ],
    ids=str,
)
def test_what_cannot_be_known_of_rights_is_said(changes: dict[str, Any], status: str) -> None:
    assert [one.status for one in lacking(with_topic(EVENTS, **changes))] == [status]


def test_a_group_that_may_not_be_used_is_a_problem_of_rights_alone() -> None:
    facts = replace(good_kafka(), group=GroupFacts(trouble="forbidden"))
    assert found(facts) == []
    assert [one.status for one in lacking(facts)] == ["problem"]


def test_settings_that_may_not_be_asked_for_are_not_checked() -> None:
    assert [one.status for one in found(with_topic(EVENTS, config=None))] == ["not_checked"]
