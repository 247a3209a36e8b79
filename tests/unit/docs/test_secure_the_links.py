"""What the page on the links says is what the code does."""

from __future__ import annotations

from tests.unit.docs.pages import ROOT
from workers.kafka_rights import TASKS, acl_command, rights
from workers.redis_rights import acl_command as redis_command
from workers.redis_rights import commands
from workers.settings import KafkaSettings

PAGE = (ROOT / "docs" / "how-to" / "secure-the-links.md").read_text(encoding="utf-8")


def test_the_commands_of_kafka_are_those_of_the_list() -> None:
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:9092", delivery="exactly-once")
    shown = [line for line in PAGE.splitlines() if line.startswith("kafka-acls.sh")]
    assert shown == [acl_command(right, "User:rsafe", kafka.bootstrap_servers) for right in rights(kafka)]


def test_every_command_with_rights_is_on_the_page() -> None:
    assert [task for task in TASKS if f"| `{task}` |" not in PAGE] == []


def test_the_users_of_redis_are_those_of_the_list() -> None:
    shown = [line for line in PAGE.splitlines() if line.startswith("ACL SETUSER")]
    assert shown == [
        redis_command("rsafe", commands("standalone")),
        redis_command("rsafe", commands("standalone", leases=True)),
        redis_command("rsafe", commands("cluster")),
        redis_command("rsafe", commands("cluster", leases=True)),
        redis_command("operator", commands("standalone", "cache")),
        redis_command("operator", commands("cluster", "cache")),
        redis_command("watcher", commands("sentinel", "sentinels"), keys=False),
    ]
    # Behind sentinels stands a server like any other.
    assert commands("sentinel", leases=True) == commands("standalone", leases=True)
    assert commands("sentinel", "cache") == commands("standalone", "cache")
