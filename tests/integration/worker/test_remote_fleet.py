"""The worker over two real vLLM servers: one is killed under load, then the other; no event is lost."""

from __future__ import annotations

import re

import pytest

from guard.checkpoint import SHIPPED
from schemas.decision import Decision
from tests.conftest import require
from tests.fixtures_vllm_server import VllmServer
from tests.integration.worker.harness import Topics, events, order_inversions, wait_for

# Starts of servers on a busy machine among them.
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1500)]
COUNT = 300
PATIENCE_S = 600.0


def metric(text: str, name: str) -> float:
    (value,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(value)


def unjudged_for(decisions: list[Decision]) -> set[str | None]:
    # `unparseable`: an answer of the tiny model, which has nothing to do with servers.
    return {one.reason for one in decisions if one.status == "unjudged"} - {"unparseable"}


def test_no_event_is_lost_or_unjudged_when_servers_are_killed(
    topics: Topics, vllm_server: VllmServer, mortal_server: VllmServer
) -> None:
    require((SHIPPED / "tiny").is_dir(), "the shipped checkpoint is absent")
    mortal_server.ready()
    remote = {
        **vllm_server.environment,
        "RSAFE_GUARD__ENGINE": "remote",
        "RSAFE_GUARD__LOAD_FORMAT": "auto",
        "RSAFE_GUARD__ENDPOINTS": f"{vllm_server.url},{mortal_server.url}",
        "RSAFE_GUARD__MAX_CONCURRENCY": "16",
    }
    worker = topics.start(**remote)
    wait_for(lambda: worker.said("The guard answers."), "the guard", PATIENCE_S)
    assert metric(worker.get("/metrics"), 'rsafe_guard_servers{state="serving"}') == 2
    values, keys = events(COUNT, topics.name, texts=COUNT)
    topics.produce(values[:200], keys[:200])
    wait_for(lambda: topics.count("decisions") >= 20, "the first decisions", PATIENCE_S)
    mortal_server.kill()
    assert topics.count("decisions") < 200
    wait_for(lambda: topics.committed() >= 200, "all of the first events", PATIENCE_S)
    assert unjudged_for(topics.decisions()) == set()
    shown = worker.get("/metrics")
    assert metric(shown, 'rsafe_guard_servers{state="serving"}') == 1
    assert metric(shown, "rsafe_guard_up") == 1
    assert mortal_server.url in worker.get("/health/ready")
    # Both gone: the guard is down, events are held, and judged by whichever server comes back.
    vllm_server.kill()
    wait_for(lambda: worker.said("The guard is down; it is being brought back."), "the outage", PATIENCE_S)
    topics.produce(values[200:], keys[200:])
    vllm_server.ready()
    wait_for(lambda: topics.committed() >= COUNT, "what was held", PATIENCE_S)
    assert worker.stop() == 0
    decisions = topics.decisions()
    assert {one.event_id for one in decisions} == {f"event-{number}" for number in range(COUNT)}
    assert unjudged_for(decisions) == set()
    assert {one.guard.engine for one in decisions if one.guard is not None} == {"vllm-remote"}
    assert topics.count("dead") == 0
    assert order_inversions(decisions) == 0
