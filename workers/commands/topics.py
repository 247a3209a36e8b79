"""`rsafe topics`: the topics that the product needs."""

from __future__ import annotations

import click

from schemas.topics import Topic, load_topics
from workers.adapters.admin import TopicReport, WantedTopic, create_topics
from workers.adapters.kafka_options import client_options
from workers.kafka_rights import TASKS, Task, acl_command, rights
from workers.settings import Settings, load_settings

_SENTENCES = {
    "created": "created",
    "absent": "would be created",
    "unchanged": "exists as wanted",
    "differs": "exists and was not changed, though",
}


@click.group()
def topics() -> None:
    """Create the topics, and say what a user of Kafka must be allowed to do."""


@topics.command()
@click.option("--partitions", type=click.IntRange(1), help="Instead of RSAFE_KAFKA__PARTITIONS.")
@click.option(
    "--replication-factor", type=click.IntRange(1), help="Instead of RSAFE_KAFKA__REPLICATION_FACTOR."
)
@click.option("--planned", is_flag=True, help="Also the topics that later versions will use.")
@click.option("--dry-run", is_flag=True, help="Let the broker check; create nothing.")
def create(partitions: int | None, replication_factor: int | None, planned: bool, dry_run: bool) -> None:
    """Create the topics that are absent.

    Topics that exist are compared and never changed. Can be repeated.
    """
    settings = load_settings()
    wanted = wanted_topics(settings, partitions, replication_factor, planned=planned)
    reports = create_topics(
        client_options(settings.kafka), wanted, timeout_s=settings.kafka.start_timeout_s, dry_run=dry_run
    )
    for report in reports:
        click.echo(_line(report))


@topics.command()
@click.option("--principal", required=True, help="Who gets them, such as User:rsafe.")
@click.option(
    "--for", "task", type=click.Choice(TASKS), default="worker", help="Which command; default: worker."
)
def acls(principal: str, task: Task) -> None:
    """Print the commands that grant what a command needs, and no more.

    Under the names and the delivery of the settings in force. Asks no broker and changes nothing.
    """
    settings = load_settings()
    kafka = settings.kafka
    for right in rights(kafka, task, settings.policies.source, settings.conduct):
        click.echo(acl_command(right, principal, kafka.bootstrap_servers))


def wanted_topics(
    settings: Settings,
    partitions: int | None = None,
    replication_factor: int | None = None,
    *,
    planned: bool = False,
) -> list[WantedTopic]:
    """The topics of `topics.yaml` under the names that the settings give them."""
    return [
        WantedTopic(
            name=topic_name(topic, settings),
            partitions=partitions or settings.kafka.partitions,
            replication_factor=replication_factor or settings.kafka.replication_factor,
            config=topic.config,
        )
        for topic in load_topics()
        if planned or not topic.planned
    ]


def topic_name(topic: Topic, settings: Settings) -> str:
    """The name in force: the setting's, else the contract's."""
    if topic.setting is None:
        return topic.name
    group, field = topic.setting.split(".")
    return str(getattr(getattr(settings, group), field))


def _line(report: TopicReport) -> str:
    line = f"{report.name}: {_SENTENCES[report.outcome]}"
    return f"{line} {'; '.join(report.differences)}" if report.differences else line
