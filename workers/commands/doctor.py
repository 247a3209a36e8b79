"""`rsafe doctor`: what a worker with these settings would stumble over, and what to mend."""

from __future__ import annotations

import asyncio
import json
import os
import platform
from typing import Final

import click

from workers.adapters.kafka_facts import kafka_facts, librdkafka_version
from workers.adapters.redis_facts import redis_facts
from workers.commands.topics import wanted_topics
from workers.doctor.findings import AREAS, Area, Finding, has_problems, report, summary
from workers.doctor.run import Doctor, Ports
from workers.doctor.versions import installed_release
from workers.kafka_rights import rights
from workers.settings import fault_hooks, load_settings
from workers.terminal import harmless

# Beside the codes of `workers.errors`: something has to be mended.
EXIT_PROBLEMS: Final = 1


@click.command()
@click.option("--only", multiple=True, type=click.Choice(AREAS), help="This part alone; may be repeated.")
@click.option("--engine", "start_engine", is_flag=True, help="Start the engine, too, and stop it again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(only: tuple[Area, ...], start_engine: bool, as_json: bool) -> None:
    """Check everything that a worker needs, change nothing, and say what to mend.

    A line for each check: ok, warning, problem, or not checked and why. A part that is away does not keep the
    others from being checked. Exits with 1 when there is a problem; warnings alone end with 0.
    """

    def tell(finding: Finding) -> None:
        if not as_json:
            click.echo(harmless(finding.line()))

    examination = Doctor(real_ports(), areas=only or AREAS, start_engine=start_engine)
    found = asyncio.run(examination.findings(tell))
    if as_json:
        click.echo(json.dumps(report(found), indent=2))
    else:
        click.echo(summary(found))
    if has_problems(found):
        raise click.exceptions.Exit(EXIT_PROBLEMS)


def real_ports() -> Ports:
    """The world as it is."""
    return Ports(
        settings=load_settings,
        faults=fault_hooks,
        environment=os.environ,
        release=installed_release,
        python=platform.python_version(),
        librdkafka=librdkafka_version,
        topics=wanted_topics,
        rights=rights,
        kafka=kafka_facts,
        redis=lambda settings, leases: redis_facts(settings, leases=leases),
    )
