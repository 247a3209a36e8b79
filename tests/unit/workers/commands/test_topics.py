"""`rsafe topics`: contracts under the names in force."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from schemas.topics import load_topics
from workers.adapters.admin import TopicReport
from workers.commands.topics import _line, topic_name, topics, wanted_topics
from workers.kafka_rights import TASKS, Task, acl_command, rights
from workers.settings import ConductSettings, KafkaSettings, Settings


def test_the_topics_bear_the_names_of_the_settings() -> None:
    names = ("events", "decisions", "dead_letters", "reviews", "checkpoints", "policies", "escalations")
    settings = Settings(
        kafka=KafkaSettings.model_validate({f"{name}_topic": f"my-{name}" for name in names}),
        conduct=ConductSettings(entries_topic="my-conduct", state_topic="my-state"),
    )
    made = [topic.name for topic in wanted_topics(settings)]
    assert made == [*(f"my-{name}" for name in names), "my-conduct", "my-state"]


def test_the_defaults_of_the_settings_are_the_names_of_the_contracts() -> None:
    used = [topic.name for topic in load_topics() if not topic.planned]
    assert [topic.name for topic in wanted_topics(Settings())] == used


def test_planned_topics_are_made_on_request() -> None:
    planned = [topic.name for topic in load_topics() if topic.planned]
    names = [topic.name for topic in wanted_topics(Settings(), planned=True)]
    assert set(names) - {topic.name for topic in wanted_topics(Settings())} == set(planned)


def test_what_conduct_remembers_is_compacted_and_its_entries_are_not() -> None:
    config = {topic.name: topic.config["cleanup.policy"] for topic in wanted_topics(Settings())}
    conduct = Settings().conduct
    assert (config[conduct.state_topic], config[conduct.entries_topic]) == ("compact", "delete")


def test_partitions_and_copies_come_from_the_settings_unless_given() -> None:
    settings = Settings(kafka=KafkaSettings(partitions=3, replication_factor=2))
    assert {(topic.partitions, topic.replication_factor) for topic in wanted_topics(settings)} == {(3, 2)}
    assert {(topic.partitions, topic.replication_factor) for topic in wanted_topics(settings, 9, 1)} == {
        (9, 1)
    }


def test_events_are_stamped_by_the_broker_and_dead_letters_have_room() -> None:
    events, _, dead_letters, *_ = wanted_topics(Settings())
    assert events.config["message.timestamp.type"] == "LogAppendTime"
    assert int(dead_letters.config["max.message.bytes"]) > Settings().limits.event_bytes * 2 * 0.9


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (TopicReport("t", "created"), "t: created"),
        (TopicReport("t", "absent"), "t: would be created"),
        (TopicReport("t", "unchanged"), "t: exists as wanted"),
        (
            TopicReport("t", "differs", ("partitions is 1, wanted 6", "retention.ms is 1, wanted 2")),
            "t: exists and was not changed, though partitions is 1, wanted 6; retention.ms is 1, wanted 2",
        ),
    ],
)
def test_each_outcome_is_one_line(report: TopicReport, line: str) -> None:
    assert _line(report) == line


def test_what_a_worker_needs_is_printed_as_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BOOTSTRAP_SERVERS": "broker:9093",
        "DELIVERY": "exactly-once",
        "GROUP_ID": "the group",
    }.items():
        monkeypatch.setenv(f"RSAFE_KAFKA__{name}", value)
    result = CliRunner().invoke(topics, ["acls", "--principal", "User:me"], catch_exceptions=False)
    begin = "kafka-acls.sh --bootstrap-server broker:9093 --add --allow-principal User:me --operation"
    assert result.stdout.splitlines() == [
        f"{begin} Read --operation DescribeConfigs --topic chat.events",
        f"{begin} Write --operation DescribeConfigs --topic moderation.decisions",
        f"{begin} Write --operation DescribeConfigs --topic moderation.dead-letters",
        f"{begin} Read --group 'the group'",
        f"{begin} Write --transactional-id 'the group-' --resource-pattern-type prefixed",
    ]


@pytest.mark.parametrize("task", TASKS)
def test_every_command_has_its_rights_over_the_names_in_force(task: Task) -> None:
    kafka = KafkaSettings(
        events_topic="e",
        decisions_topic="d",
        dead_letters_topic="x",
        reviews_topic="r",
        checkpoints_topic="c",
        policies_topic="p",
        escalations_topic="s",
        group_id="g",
    )
    conduct = ConductSettings(entries_topic="i", state_topic="k", group_id="h")
    found = rights(kafka, task, "topic", conduct)
    assert found
    names = {right.name for right in found if right.kind == "topic"}
    assert names <= {"e", "d", "x", "r", "c", "p", "s", "i", "k"}
    assert {right.name for right in found if right.kind == "group"} <= {"g", "h"}
    for right in found:
        assert acl_command(right, "User:u", "b:1").count("--operation") == len(right.operations)


def test_every_topic_that_is_made_may_be_made() -> None:
    """Also those that Faust would make by itself, which the app keeps it from."""
    settings = Settings(conduct=ConductSettings(entries_topic="in", state_topic="kept"))
    may = {right.name for right in rights(settings.kafka, "topics", conduct=settings.conduct)}
    assert may == {topic.name for topic in wanted_topics(settings)}


def test_conduct_may_do_what_topics_yaml_says_that_it_does() -> None:
    settings = Settings()
    for topic in load_topics():
        done = {
            *(["Read"] if "conduct app" in topic.readers else []),
            *(["Write"] if "conduct app" in topic.writers else []),
        }
        may = {
            operation
            for right in rights(settings.kafka, "conduct", "topic", settings.conduct)
            for operation in right.operations
            if right.kind == "topic" and right.name == topic_name(topic, settings)
        }
        assert done <= may, topic.name


def test_conduct_reads_the_policies_topic_only_where_policies_come_from_it() -> None:
    settings = Settings()
    for task in ("conduct", "conduct-show"):
        by_files, by_topic = (
            {right.name for right in rights(settings.kafka, task, source)} for source in ("files", "topic")
        )
        assert by_topic - by_files == {settings.kafka.policies_topic}


def test_the_names_of_conduct_are_printed_as_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENTRIES_TOPIC": "in", "STATE_TOPIC": "kept", "GROUP_ID": "counting"}.items():
        monkeypatch.setenv(f"RSAFE_CONDUCT__{name}", value)
    words = ["acls", "--principal", "User:me", "--for", "conduct"]
    lines = CliRunner().invoke(topics, words, catch_exceptions=False).stdout.splitlines()
    granted = [line.partition("User:me ")[2] for line in lines]
    assert granted == [
        "--operation Read --topic moderation.decisions",
        "--operation Read --topic moderation.reviews",
        "--operation Read --operation Write --topic in",
        "--operation Read --operation Write --topic kept",
        "--operation Write --topic moderation.escalations",
        "--operation Write --topic moderation.dead-letters",
        "--operation Read --group counting",
    ]
