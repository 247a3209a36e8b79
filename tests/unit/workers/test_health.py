from __future__ import annotations

import socket

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from workers.errors import StartError
from workers.health import SILENCE_S, Health, HealthServer
from workers.settings import HealthSettings


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_silent_loop_is_not_live_and_one_that_has_not_begun_is() -> None:
    time = Time()
    health = Health(time)
    time.now = 10 * SILENCE_S
    assert health.live
    health.beat()
    time.now += SILENCE_S
    assert not health.live


def test_ready_needs_guard_and_group_and_no_end() -> None:
    health = Health(Time())
    assert health.not_ready == ["the guard is not ready", "the consumer group is not joined"]
    health.guard_ready = health.joined = True
    assert health.not_ready == []
    health.stopping = True
    assert health.not_ready == ["the worker is stopping"]


async def test_probes_answer_with_status_codes() -> None:
    health = Health(Time())
    server = await HealthServer.start(HealthSettings(port=0), health, CollectorRegistry())
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:
        for path, status in (("/health/live", 200), ("/health/ready", 503), ("/metrics", 200), ("/", 404)):
            async with client.get(path) as answer:
                assert answer.status == status
    await server.close()


async def test_what_keeps_a_partition_waiting_is_shown_with_the_readiness() -> None:
    health = Health(Time())
    health.guard_ready = health.joined = True
    health.slow = lambda: ["partition 3 waits"]
    server = await HealthServer.start(HealthSettings(port=0), health, CollectorRegistry())
    url = f"http://127.0.0.1:{server.port}/health/ready"
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        assert (answer.status, await answer.text()) == (200, "ready\npartition 3 waits\n")
    await server.close()


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"RSAFE_HEALTH__PORT: 127.0.0.1:{port}"):
            await HealthServer.start(HealthSettings(port=port), Health(Time()), CollectorRegistry())
