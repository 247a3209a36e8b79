"""Passwords and certificates that change: tried, then used, and never in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.waiting import until
from workers.errors import SettingsError, StartError
from workers.rotation import Rotation, run_streams
from workers.settings import KafkaSettings, RedisSettings, SecretsSettings, Settings


class World:
    """Files, a broker and a Redis that take what they are told to take."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("former", "certificate-1")
        self.events: list[Any] = []
        self.broker_refuses = self.redis_refuses = ""
        self.redis_is_away = False
        kafka = KafkaSettings(
            sasl_username="me", sasl_password=SecretStr("former"), ssl_ca_location=str(folder / "ca")
        )
        self.settings = Settings(
            kafka=kafka,
            redis=RedisSettings(password=SecretStr("former")),
            secrets=SecretsSettings(watch_s=0.001),
        )
        self.files = {
            ("kafka", "sasl_password"): ("K_FILE", str(folder / "password")),
            ("redis", "password"): ("R_FILE", str(folder / "redis")),
        }
        self.rotation = self.make()
        self.rotation.attach(self, lambda: self.events.append("anew"))

    def make(self, **changes: Any) -> Rotation:
        parts: dict[str, Any] = {
            "try_kafka": self.try_kafka,
            "renew_redis": self.renew_redis,
            "observer": self,
        }
        return Rotation(self.settings, self.files, **(parts | changes))

    def write(self, password: str = "", ca: str = "", redis: str = "former") -> None:
        (self.folder / "redis").write_text(redis)
        if password:
            (self.folder / "password").write_text(password)
        if ca:
            (self.folder / "ca").write_text(ca)

    def try_kafka(self, kafka: KafkaSettings) -> None:
        if self.broker_refuses:
            raise StartError(self.broker_refuses)

    async def renew_redis(self, redis: RedisSettings) -> bool:
        if self.redis_refuses:
            raise StartError(self.redis_refuses)
        if not self.redis_is_away:
            self.events.append(("redis", redis.password.get_secret_value()))
        return not self.redis_is_away

    async def log_in(self, username: str, password: str) -> None:
        self.events.append((username, password))

    def link_renewed(self, link: str) -> None:
        self.events.append(f"{link} renewed")

    def link_not_renewed(self, link: str, why: str) -> None:
        self.events.append((link, why))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_nothing_happens_while_nothing_changes(world: World) -> None:
    await world.rotation.look()
    await world.rotation.look()
    assert world.events == []


async def test_a_password_of_kafka_goes_to_the_clients_that_run(world: World) -> None:
    world.write("later")
    await world.rotation.look()
    await world.rotation.look()
    assert world.events == [("me", "later"), "kafka renewed"]
    assert world.rotation.kafka.sasl_password.get_secret_value() == "later"
    assert world.rotation.kafka.start_timeout_s == world.settings.kafka.start_timeout_s


async def test_a_certificate_makes_the_stream_begin_anew(world: World) -> None:
    world.write(ca="certificate-2")
    await world.rotation.look()
    await world.rotation.look()
    assert world.events == ["anew", "kafka renewed"]


async def test_the_old_clients_get_the_password_before_they_drain(world: World) -> None:
    world.write("later", "certificate-2")
    await world.rotation.look()
    assert world.events == [("me", "later"), "anew", "kafka renewed"]


async def test_what_the_broker_refuses_is_not_used_until_it_takes_it(world: World) -> None:
    world.broker_refuses = "not yet"
    world.write("later", "certificate-2")
    await world.rotation.look()
    assert world.events == [("kafka", "not yet")]
    assert world.rotation.kafka.sasl_password.get_secret_value() == "former"
    world.broker_refuses = ""
    await world.rotation.look()
    assert world.events[1:] == [("me", "later"), "anew", "kafka renewed"]


async def test_a_change_that_is_taken_back_is_none(world: World) -> None:
    world.broker_refuses = "not yet"
    world.write("later")
    await world.rotation.look()
    world.write("former")
    await world.rotation.look()
    assert world.events == [("kafka", "not yet")]


async def test_a_file_that_is_being_written_is_waited_for_and_the_other_link_goes_on(world: World) -> None:
    (world.folder / "password").write_text("")
    (world.folder / "redis").write_text("later")
    await world.rotation.look()
    (link, why), *others = world.events
    assert link == "kafka"
    assert why.startswith("K_FILE: ")
    assert others == [("redis", "later"), "redis renewed"]


async def test_redis_is_renewed_when_it_answers_and_takes_it(world: World) -> None:
    world.write(redis="later")
    world.redis_is_away = True
    await world.rotation.look()
    world.redis_is_away, world.redis_refuses = False, "no"
    await world.rotation.look()
    world.redis_refuses = ""
    await world.rotation.look()
    await world.rotation.look()
    assert world.events == [
        ("redis", "Redis does not answer"),
        ("redis", "no"),
        ("redis", "later"),
        "redis renewed",
    ]


async def test_without_redis_its_files_are_left_alone(world: World) -> None:
    world.write(redis="later")
    await world.make(renew_redis=None).look()
    assert world.events == []


async def test_a_password_that_changed_before_the_first_look_is_found(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write("later")
    rotation = world.make()
    rotation.attach(world, lambda: None)
    await rotation.look()
    assert ("me", "later") in world.events


class Stream:
    """Runs until it is told to end."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def run(self, stopping: asyncio.Event) -> None:
        self.log.append("begins")
        await stopping.wait()
        self.log.append("ends")


def streams(world: World, log: list[str]) -> Callable[[KafkaSettings], tuple[Stream, World]]:
    return lambda kafka: (Stream(log), world)


async def test_one_stream_follows_the_other_until_the_end(world: World) -> None:
    log: list[str] = []
    stopping = asyncio.Event()
    running = asyncio.create_task(run_streams(streams(world, log), world.rotation, stopping))
    await until(lambda: log == ["begins"])
    world.write(ca="certificate-2")
    await until(lambda: log == ["begins", "ends", "begins"])
    stopping.set()
    await running
    assert log == ["begins", "ends", "begins", "ends"]


async def test_files_that_cannot_be_used_any_more_are_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.rotation._AGAIN_S", 0.001)
    log: list[str] = []
    tries = 0

    def make(kafka: KafkaSettings) -> tuple[Stream, World]:
        nonlocal tries
        tries += 1
        if tries in (2, 3):
            raise SettingsError("half written")
        return Stream(log), world

    stopping = asyncio.Event()
    running = asyncio.create_task(run_streams(make, world.rotation, stopping))
    await until(lambda: log == ["begins"])
    world.write(ca="certificate-2")
    await until(lambda: log == ["begins", "ends", "begins"])
    assert world.events.count(("kafka", "half written")) == 2
    stopping.set()
    await running


async def test_the_first_stream_must_be_made(world: World) -> None:
    def make(kafka: KafkaSettings) -> tuple[Stream, World]:
        raise SettingsError("no such file")

    with pytest.raises(SettingsError, match="no such file"):
        await run_streams(make, world.rotation, asyncio.Event())


async def test_what_a_stream_raises_ends_it_all(world: World) -> None:
    class Breaking(Stream):
        async def run(self, stopping: asyncio.Event) -> None:
            raise StartError("broken")

    with pytest.raises(StartError, match="broken"):
        await run_streams(lambda _: (Breaking([]), world), world.rotation, asyncio.Event())


async def test_an_unexpected_error_of_the_watch_is_not_swallowed(world: World) -> None:
    def broken(kafka: KafkaSettings) -> None:
        raise ZeroDivisionError

    rotation = world.make(try_kafka=broken)
    world.write("later")
    log: list[str] = []
    with pytest.raises(ZeroDivisionError):
        await run_streams(streams(world, log), rotation, asyncio.Event())
    assert log == ["begins", "ends"]


async def test_nothing_is_watched_when_it_is_switched_off(world: World) -> None:
    world.settings = world.settings.model_copy(update={"secrets": SecretsSettings(watch_s=0)})
    rotation, log, stopping = world.make(), list[str](), asyncio.Event()
    world.write("later")
    await rotation.watch()  # ends by itself
    running = asyncio.create_task(run_streams(streams(world, log), rotation, stopping))
    await until(lambda: log == ["begins"])
    stopping.set()
    await running
    assert world.events == []
