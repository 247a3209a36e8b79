"""The order of the checks, and that a part which is away does not keep the others from being checked."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guard.checkpoint import find_checkpoint
from guard.serving.judge import Judge
from tests.unit.workers.doctor.facts import good_kafka, good_redis, with_topic
from workers.commands.topics import wanted_topics
from workers.doctor.facts import KafkaFacts, RedisFacts
from workers.doctor.findings import AREAS, Area, Finding
from workers.doctor.run import Doctor, Ports
from workers.doctor.versions import installed_release
from workers.errors import SettingsError, StartError
from workers.kafka_rights import rights
from workers.settings import Settings


def ports(**changes: Any) -> Ports:
    """A world in which all is well; `settings` as a tree."""
    tree = {
        "guard": {"engine": "scripted"},
        "redis": {"url": "redis://localhost:6379/0"},
        **changes.pop("settings", {}),
    }

    async def redis(*_: object) -> RedisFacts:
        return good_redis()

    return replace(
        Ports(
            settings=lambda: Settings.model_validate(tree),
            faults=lambda: False,
            environment={},
            release=installed_release,
            python="3.11.7",
            librdkafka=lambda: "2.16.0",
            topics=wanted_topics,
            rights=rights,
            kafka=lambda *_: good_kafka(),
            redis=redis,
        ),
        **changes,
    )


async def found(world: Ports, *areas: Area, start: bool = False) -> list[Finding]:
    doctor = Doctor(world, areas=areas, start_engine=start) if areas else Doctor(world, start_engine=start)
    return await doctor.findings()


def of(findings: Sequence[Finding], status: str) -> list[Area]:
    return [one.area for one in findings if one.status == status]


async def test_a_world_in_which_all_is_well_has_no_problem() -> None:
    findings = await found(ports())
    assert of(findings, "problem") == []
    assert {one.area for one in findings} == set(AREAS)


async def test_findings_are_told_as_they_come_and_the_quick_ones_first() -> None:
    told: list[Finding] = []
    assert await Doctor(ports()).findings(told.append) == told
    areas = [one.area for one in told]
    assert areas.index("policies") < areas.index("kafka") < areas.index("redis")


async def test_brokers_that_are_away_do_not_keep_redis_from_being_checked() -> None:
    def away(*_: object) -> KafkaFacts:
        raise StartError("no broker answered")

    findings = await found(ports(kafka=away))
    assert of(findings, "problem") == ["kafka"]
    assert {"topics", "rights"} <= set(of(findings, "not_checked"))
    assert {"redis", "clock"} <= set(of(findings, "ok"))


async def test_a_redis_that_refuses_does_not_keep_the_rest_from_being_checked() -> None:
    async def refuses(*_: object) -> RedisFacts:
        raise StartError("this user of Redis may not run SET; it needs the ACL +set")

    findings = await found(ports(redis=refuses))
    assert of(findings, "problem") == ["redis"]
    assert "topics" in of(findings, "ok")


async def test_without_redis_nothing_is_held_against_anybody() -> None:
    findings = await found(ports(settings={"redis": {}}), "redis")
    assert [one.status for one in findings] == ["not_checked"]


async def test_settings_that_cannot_be_used_leave_the_versions() -> None:
    def wrong() -> Settings:
        raise SettingsError("RSAFE_A: one\nRSAFE_B: two")

    findings = await found(replace(ports(), settings=wrong))
    assert [one.what for one in findings if one.status == "problem"] == ["RSAFE_A: one", "RSAFE_B: two"]
    assert "versions" in of(findings, "ok")
    assert set(of(findings, "not_checked")) >= {"kafka", "redis", "policies"}


async def test_a_policy_with_a_problem_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("id: x\nversion: '1'\ntitle: t\ncategories: []\n")
    world = ports(settings={"policies": {"path": str(tmp_path), "default": ""}})
    (one,) = await found(world, "policies")
    assert one.status == "problem"
    assert "bad.yaml:" in one.what


async def test_a_file_that_is_not_what_the_manifest_says_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "guard"
    shutil.copytree(find_checkpoint("tiny"), folder)
    with (folder / "config.json").open("a") as file:
        file.write(" ")
    findings = await found(ports(settings={"guard": {"engine": "scripted", "checkpoint": str(folder)}}))
    (one,) = [one for one in findings if one.status == "problem"]
    assert one.area == "checkpoint"
    assert "config.json" in one.what
    assert "engine" in of(findings, "not_checked")


async def test_a_checkpoint_without_a_manifest_is_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "guard"
    shutil.copytree(find_checkpoint("tiny"), folder, ignore=shutil.ignore_patterns("manifest*"))
    world = ports(settings={"guard": {"engine": "scripted", "checkpoint": str(folder)}})
    assert of(await found(world, "checkpoint"), "warning") == ["checkpoint"]


async def test_a_policy_that_leaves_no_room_for_a_message_is_a_problem() -> None:
    world = ports(settings={"guard": {"engine": "scripted", "max_model_len": 200, "answer_tokens": 8}})
    findings = await found(world, "policies")
    assert any("no message fits" in one.what for one in findings if one.status == "problem")


@pytest.mark.parametrize(("start", "status"), [(False, "not_checked"), (True, "ok")])
async def test_the_engine_is_started_when_asked_for(start: bool, status: str) -> None:
    (one,) = await found(ports(), "engine", start=start)
    assert one.status == status


async def test_a_server_that_nobody_hears_is_a_problem() -> None:
    guard = {"engine": "remote", "endpoints": "http://127.0.0.1:1"}
    findings = await found(ports(settings={"guard": guard}), "engine")
    assert [one.status for one in findings] == ["problem"]
    assert "http://127.0.0.1:1" in findings[0].what


async def test_who_follows_the_topic_of_policies_needs_it_and_the_right_to_read_it() -> None:
    tree = {"policies": {"source": "topic"}}
    names: dict[str, list[str]] = {}

    def kafka(*_: object) -> KafkaFacts:
        return with_topic("moderation.policies", operations=frozenset({"Describe"}))

    def absent(*_: object) -> KafkaFacts:
        return with_topic("moderation.policies", trouble="absent")

    for name, facts in (("rights", kafka), ("topics", absent)):
        findings = await found(ports(settings=tree, kafka=facts), "topics", "rights")
        names[name] = [one.what for one in findings if one.status == "problem"]
    assert names["rights"] == ["topic moderation.policies: this user lacks Read"]
    assert [what.partition(":")[0] for what in names["topics"]] == ["moderation.policies"]


PASSWORD = "secret-of-somebody"


def breaks(*_: object) -> Any:
    raise RuntimeError(f"redis://:{PASSWORD}@r")


@pytest.mark.parametrize(
    ("port", "area", "others"),
    [
        ("settings", "settings", ["versions"]),
        ("faults", "settings", ["versions", "kafka", "redis"]),
        ("release", "versions", ["settings", "kafka", "redis"]),
        ("kafka", "kafka", ["redis", "clock"]),
        ("topics", "kafka", ["redis", "clock"]),
        ("redis", "redis", ["kafka", "topics", "clock"]),
    ],
)
async def test_a_check_that_breaks_off_is_a_problem_and_the_others_are_made(
    port: str, area: Area, others: list[Area]
) -> None:
    broken: dict[str, Any] = {port: breaks}
    findings = await found(replace(ports(), **broken))
    problems = [one for one in findings if one.status == "problem"]
    assert [one.area for one in problems] == [area]
    assert "RuntimeError (test_run.py:" in problems[0].what
    assert PASSWORD not in problems[0].what
    assert set(others) <= set(of(findings, "ok"))
    assert {one.area for one in findings} == set(AREAS)


async def test_what_was_found_before_a_check_broke_off_is_told() -> None:
    findings = await found(ports(rights=breaks), "kafka", "topics")
    assert of(findings, "problem") == ["kafka"]
    assert "topics" in of(findings, "ok")


@pytest.mark.parametrize("area", ["topics", "rights", "clock"])
async def test_a_check_that_breaks_off_is_a_problem_of_the_part_that_was_asked_for(area: Area) -> None:
    assert of(await found(ports(kafka=breaks), area), "problem") == [area]


@pytest.mark.parametrize(
    ("port", "area", "asked"),
    [
        ("settings", "settings", "kafka"),
        ("kafka", "kafka", "topics"),
        ("kafka", "kafka", "clock"),
        ("redis", "redis", "clock"),
    ],
)
async def test_what_a_part_needs_and_lacks_is_a_problem_though_nobody_asked_for_it(
    port: str, area: Area, asked: Area
) -> None:
    def away(*_: object) -> Any:
        raise SettingsError("A: expected b") if port == "settings" else StartError("away")

    broken: dict[str, Any] = {port: away}
    assert of(await found(replace(ports(), **broken), asked), "problem") == [area]


async def test_settings_that_break_off_are_told_whatever_was_asked_for() -> None:
    assert of(await found(replace(ports(), settings=breaks), "kafka"), "problem") == ["settings"]


async def test_an_engine_that_breaks_off_at_its_start_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Judge, "start", breaks)
    assert of(await found(ports(), "engine", start=True), "problem") == ["engine"]
