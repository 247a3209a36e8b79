"""`rsafe doctor` beside a real broker and a real Redis, with one thing broken at a time."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from guard.checkpoint import find_checkpoint
from tests.redis_sites import Node
from workers.adapters.embedded_addresses import Addresses
from workers.commands.doctor import doctor
from workers.commands.topics import topics

NAMES = ("events", "decisions", "dead_letters", "reviews", "checkpoints")
TIMEOUT_S = 30.0


@pytest.fixture
def names(
    local_stack: Addresses,
    redis_server: Node,
    fresh_name: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, str]]:
    """A worker's environment in which all is well, but for warnings that a trial has; its topics."""
    found = {name: fresh_name(name) for name in NAMES}
    wanted = {"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}
    before = {name: redis_server.command("CONFIG", "GET", name)[name.encode()] for name in wanted}
    environment = {
        "RSAFE_KAFKA__BOOTSTRAP_SERVERS": local_stack.bootstrap_servers,
        "RSAFE_KAFKA__GROUP_ID": fresh_name("group"),
        "RSAFE_REDIS__URL": redis_server.address,
        "RSAFE_REDIS__TIMEOUT_MS": "10000",
        "RSAFE_GUARD__ENGINE": "scripted",
        "RSAFE_SECRETS__CONTENT_KEY": "0123456789abcdef0123456789abcdef",
        **{f"RSAFE_KAFKA__{name.upper()}_TOPIC": topic for name, topic in found.items()},
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert CliRunner().invoke(topics, ["create"], catch_exceptions=False).exit_code == 0
    try:
        for name, value in wanted.items():
            redis_server.command("CONFIG", "SET", name, value)
        yield found
    finally:  # all tests share the server
        for name, value in before.items():
            redis_server.command("CONFIG", "SET", name, value)


def examine(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    result = CliRunner().invoke(doctor, ["--json", *arguments], catch_exceptions=False)
    told = json.loads(result.output)
    assert result.exit_code == (0 if told["healthy"] else 1)
    return result.exit_code, told["findings"]


def problems(*arguments: str) -> list[tuple[str, str]]:
    return [(one["area"], one["what"]) for one in examine(*arguments)[1] if one["status"] == "problem"]


def test_a_worker_for_which_all_is_well_has_no_problem(names: dict[str, str]) -> None:
    code, found = examine()
    assert code == 0
    assert {one["area"] for one in found if one["status"] == "ok"} >= {
        "settings", "versions", "policies", "checkpoint", "kafka", "topics", "rights", "redis", "clock",
    }  # fmt: skip
    told = " ".join(one["what"] for one in found if one["status"] == "ok")
    for name in names.values():
        assert f"{name}: 6 partitions, 1 copies, as wanted" in told
    assert "64 MiB, allkeys-lru" in told


def test_a_topic_with_the_senders_timestamps_is_a_problem(
    names: dict[str, str], local_stack: Addresses
) -> None:
    entry = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ResourceType.TOPIC, names["events"], incremental_configs=[entry])
    with AdminClient({"bootstrap.servers": local_stack.bootstrap_servers}) as admin:
        for future in admin.incremental_alter_configs([change]).values():
            future.result(TIMEOUT_S)
    ((area, what),) = problems("--only", "topics")
    assert area == "topics"
    assert f"topic {names['events']} has message.timestamp.type=CreateTime" in what


def test_a_missing_topic_is_a_problem_with_what_makes_it(
    names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSAFE_KAFKA__DECISIONS_TOPIC", f"{names['decisions']}-absent")
    found = [one for one in examine("--only", "topics")[1] if one["status"] == "problem"]
    assert [one["what"].partition(":")[0] for one in found] == [f"{names['decisions']}-absent"]
    assert "rsafe topics create" in found[0]["remedy"]


def test_a_topic_of_few_partitions_and_little_room_is_told(
    names: dict[str, str],
    local_stack: Addresses,
    fresh_name: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    letters = fresh_name("letters")
    with AdminClient({"bootstrap.servers": local_stack.bootstrap_servers}) as admin:
        new = NewTopic(letters, num_partitions=1, replication_factor=1)
        admin.create_topics([new])[letters].result(TIMEOUT_S)
        end = time.monotonic() + TIMEOUT_S
        while letters not in admin.list_topics(timeout=TIMEOUT_S).topics:
            assert time.monotonic() < end
    monkeypatch.setenv("RSAFE_KAFKA__DEAD_LETTERS_TOPIC", letters)
    monkeypatch.setenv("RSAFE_KAFKA__MIN_PARTITIONS", "12")
    told = " ".join(what for _, what in problems("--only", "topics"))
    assert "has 6 partitions and RSAFE_KAFKA__MIN_PARTITIONS asks for 12" in told
    assert "too little for a dead letter" in told


def test_a_user_of_redis_who_may_only_read_is_a_problem(
    names: dict[str, str], redis_server: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = "reader"
    redis_server.command("ACL", "SETUSER", user, "on", ">sesame", "~rsafe:*", "+ping", "+get", "+mget")
    monkeypatch.setenv("RSAFE_REDIS__USERNAME", user)
    monkeypatch.setenv("RSAFE_REDIS__PASSWORD", "sesame")
    ((area, what),) = problems()
    assert area == "redis"
    assert "may not run SET; it needs the ACL +set" in what


def test_a_user_with_a_workers_rights_is_fine_though_it_may_not_look_at_memory(
    names: dict[str, str], redis_server: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = "worker"
    redis_server.command("ACL", "SETUSER", user, "on", ">sesame", "~rsafe:*", "+ping", "+set", "+mget")
    monkeypatch.setenv("RSAFE_REDIS__USERNAME", user)
    monkeypatch.setenv("RSAFE_REDIS__PASSWORD", "sesame")
    found = examine("--only", "redis")[1]
    assert [one["status"] for one in found] == ["ok", "not_checked"]
    assert "INFO" in found[1]["what"]


def test_a_wrong_password_is_a_problem_and_is_not_repeated(
    names: dict[str, str], redis_server: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server.command("ACL", "SETUSER", "known", "on", ">sesame", "~rsafe:*", "+@all")
    monkeypatch.setenv("RSAFE_REDIS__USERNAME", "known")
    monkeypatch.setenv("RSAFE_REDIS__PASSWORD", "not-sesame")
    ((area, what),) = problems()
    assert area == "redis"
    assert "refuses the credentials" in what
    assert "sesame" not in json.dumps(examine()[1])


def test_a_changed_file_of_the_checkpoint_and_a_bad_policy_are_told_together(
    names: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "guard"
    shutil.copytree(find_checkpoint("tiny"), folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "bad.yaml").write_text("id: mine\nversion: '1'\ntitle: Mine\nmode: slow\ncategories: []\n")
    monkeypatch.setenv("RSAFE_GUARD__CHECKPOINT", str(folder))
    monkeypatch.setenv("RSAFE_POLICIES__PATH", str(policies))
    found = dict(problems())
    assert set(found) == {"checkpoint", "policies"}
    assert "model.safetensors" in found["checkpoint"]
    assert "bad.yaml:" in found["policies"]


def test_brokers_that_are_away_do_not_keep_redis_from_being_checked(
    names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSAFE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RSAFE_KAFKA__START_TIMEOUT_S", "0.5")
    _, found = examine()
    assert [one["area"] for one in found if one["status"] == "problem"] == ["kafka"]
    assert "redis" in [one["area"] for one in found if one["status"] == "ok"]


def test_exactly_once_is_tried(names: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSAFE_KAFKA__DELIVERY", "exactly-once")
    whats = [one["what"] for one in examine("--only", "kafka")[1] if one["status"] == "ok"]
    assert "a transaction can be opened" in whats
    monkeypatch.setenv("RSAFE_KAFKA__GROUP_INSTANCE_ID", "worker-0")
    (one,) = [one for one in examine("--only", "kafka")[1] if one["status"] == "not_checked"]
    assert "would end that of the running worker" in one["what"]
