"""The stack's Prometheus is a real one: it asks a worker's endpoint and evaluates rules."""

from __future__ import annotations

import asyncio
import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_server import LOOPBACK
from workers.adapters.embedded_status import stack_status, take_down
from workers.errors import StartError
from workers.health import Health, HealthServer
from workers.metrics import Metrics
from workers.settings import HealthSettings

RULES = """
groups:
  - name: guard
    rules:
      - alert: GuardDown
        expr: rsafe_guard_up == 0
"""


@pytest.fixture(autouse=True)
def prometheus_is_here() -> None:
    require(shutil.which("prometheus") is not None, "no `prometheus` on the PATH")


@pytest.fixture
async def worker() -> AsyncIterator[str]:
    """The health endpoint of a worker whose guard is down."""
    metrics = Metrics()
    metrics.guard_up.set(0)
    server = await HealthServer.start(
        HealthSettings(host=LOOPBACK, port=0), Health(lambda: 0.0), metrics.registry
    )
    yield f"{LOOPBACK}:{server.port}"
    await server.close()


async def ask(address: str, path: str, **parameters: str) -> Any:
    def get() -> Any:
        url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    return await asyncio.to_thread(get)


@pytest.mark.timeout(120)
async def test_a_worker_is_asked_and_its_trouble_raises_an_alert(worker: str, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES, encoding="utf-8")
    stack = LocalStack(
        tmp_path / "stack",
        ephemeral=True,
        kafka=False,
        redis=False,
        prometheus=True,
        scrape=[worker],
        rules=rules,
    )
    addresses = await asyncio.to_thread(stack.start)
    try:
        firing: list[Any] = []
        while not firing:  # the test's timeout is the bound
            alerts = (await ask(addresses.prometheus_url, "alerts"))["alerts"]
            firing = [alert for alert in alerts if alert["state"] == "firing"]
            await asyncio.sleep(0.2)
        assert firing[0]["labels"]["alertname"] == "GuardDown"
        up = await ask(addresses.prometheus_url, "query", query="up")
        assert [(one["metric"]["instance"], one["value"][1]) for one in up["result"]] == [(worker, "1")]
    finally:
        await asyncio.to_thread(stack.stop)


@pytest.mark.timeout(120)
def test_a_detached_one_is_shown_and_taken_down(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    LocalStack(folder, kafka=False, redis=False, prometheus=True, detached=True).start()
    try:
        shown = {part.name: part.state for part in stack_status(folder)}
        assert shown["Prometheus"] == "up"
    finally:
        assert take_down(folder) == ["Prometheus"]
    assert "Prometheus" not in {part.name for part in stack_status(folder)}


def test_rules_that_it_does_not_understand_keep_it_from_starting(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("groups: [{name: one, rules: [{alert: A, expr: 'sum('}]}]\n", encoding="utf-8")
    stack = LocalStack(tmp_path / "stack", kafka=False, redis=False, prometheus=True, rules=rules)
    with pytest.raises(StartError, match="Prometheus ended with exit code"):
        stack.start()
