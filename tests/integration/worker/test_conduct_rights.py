"""`rsafe conduct` and its commands with the rights that `rsafe topics acls` prints, and no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.conduct import Level
from tests.certificates import Authority
from tests.integration.conduct.harness import Site
from tests.integration.worker.secured import Broker, put, secured_broker
from tests.unit.workers.conduct.world import decision, policy, rule
from tests.waiting import wait_for
from workers.conduct.entries import Subject
from workers.kafka_rights import Right, Task, rights
from workers.settings import load_settings

PASSWORD = "kafka-s3cret-of-the-test"
RULE = rule(levels=(Level(score=2, recommend="warn"),))
USERS: tuple[Task, ...] = ("conduct", "conduct-show", "conduct-forget", "review")


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[Broker]:
    with secured_broker(folder, Authority(folder, "clients")) as made:
        made.set_passwords(dict.fromkeys(USERS, PASSWORD))
        yield made


@pytest.fixture
def site(broker: Broker, fresh_name: Callable[[str], str], tmp_path: Path) -> Iterator[Site]:
    made = Site(broker.plain, tmp_path, fresh_name("rights"), policy(RULE))
    made.create()
    put(tmp_path / "password", PASSWORD.encode())
    try:
        yield made
    finally:
        made.close()


def least(site: Site, task: Task) -> list[Right]:
    settings = load_settings(site.environment)
    return rights(settings.kafka, task, settings.policies.source, settings.conduct)


def link(broker: Broker, site: Site, user: str) -> dict[str, str]:
    return {
        "RSAFE_KAFKA__BOOTSTRAP_SERVERS": broker.password,
        "RSAFE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "RSAFE_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
        "RSAFE_KAFKA__SASL_USERNAME": user,
        "RSAFE_KAFKA__SASL_PASSWORD_FILE": str(site.folder / "password"),
        "RSAFE_KAFKA__SSL_CA_LOCATION": str(broker.authority.file),
    }


def run(broker: Broker, site: Site, user: Task, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
    return subprocess.run(
        [sys.executable, "-m", "workers", *words],
        env=clean | site.environment | link(broker, site, user),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_least_rights_are_enough_for_conduct_and_its_commands(broker: Broker, site: Site) -> None:
    """The app makes no topic: it starts with no right to create one, and all that it writes arrives."""
    for user in USERS:
        broker.allow(user, least(site, user))
    process = site.start("store", RSAFE_CONDUCT__SWEEP_S="1", **link(broker, site, "conduct"))
    process.await_ready()
    site.decide([decision(1, 0), decision(2, 1)])
    site.produce("decisions", [(b"x", b"no decision")])
    wait_for(lambda: len(site.escalations()) == 1, "the escalation")
    wait_for(lambda: len(site.records("dead")) == 1, "the dead letter")

    shown = run(
        broker, site, "conduct-show", "conduct", "show", "--tenant", "acme", "--author", "a", "--json"
    )
    assert shown.returncode == 0, shown.stderr
    assert len(json.loads(shown.stdout)["decisions"]) == 2
    reviewed = run(broker, site, "review", "review", f"{2:064x}", "--label", "safe", "--reviewer", "r")
    assert reviewed.returncode == 0, reviewed.stderr
    wait_for(lambda: [one.change for one in site.escalations()][1:] == ["withdrawn"], "the withdrawal")
    asked = run(broker, site, "conduct-forget", "conduct", "forget", "--tenant", "acme", "--author", "a")
    assert asked.returncode == 0, asked.stderr
    site.await_end()
    # It may also ask how far its group has read, without which nothing is ever deleted.
    site.decide([decision(3, 5, author="b"), decision(4, 30 * 86_400, author="c")])
    expired = Subject("author", "acme", "b").key

    def newest() -> list[bytes | None]:
        return [one.value for one in site.records("state") if one.key == expired][-1:]

    wait_for(lambda: newest() == [None], "the deletion of what has expired")
    assert process.stop() == 0


def test_what_a_command_may_not_is_said(broker: Broker, site: Site) -> None:
    """Who may show may not have an author forgotten."""
    broker.allow("conduct-show", least(site, "conduct-show"))
    refused = run(
        broker, site, "conduct-show", "conduct", "forget", "--tenant", "acme", "--author", "somebody"
    )
    assert refused.returncode == 3
    assert "somebody" not in refused.stderr
    assert f"{site.name}.entries" in refused.stderr
