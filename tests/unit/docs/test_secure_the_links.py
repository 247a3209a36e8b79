"""What the page on the links says is what the code does."""

from __future__ import annotations

from tests.unit.docs.pages import ROOT
from workers.adapters.redis_security import KEY_PATTERN, WORKER_COMMANDS
from workers.kafka_rights import TASKS, acl_command, rights
from workers.settings import KafkaSettings

PAGE = (ROOT / "docs" / "how-to" / "secure-the-links.md").read_text(encoding="utf-8")


def test_the_commands_of_kafka_are_those_of_the_list() -> None:
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:9092", delivery="exactly-once")
    shown = [line for line in PAGE.splitlines() if line.startswith("kafka-acls.sh")]
    assert shown == [acl_command(right, "User:rsafe", kafka.bootstrap_servers) for right in rights(kafka)]


def test_every_command_with_rights_is_on_the_page() -> None:
    assert [task for task in TASKS if f"| `{task}` |" not in PAGE] == []


def test_the_user_of_redis_is_the_one_that_the_tests_use() -> None:
    commands = " ".join(f"+{name}" for name in WORKER_COMMANDS)
    assert f"ACL SETUSER rsafe on >PASSWORD ~{KEY_PATTERN} {commands}\n" in PAGE
