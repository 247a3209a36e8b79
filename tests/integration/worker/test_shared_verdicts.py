"""Workers that share verdicts: over a cluster, behind sentinels, and asking in turns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from schemas.keys import record_key
from tests.integration.worker.harness import Topics, event
from tests.redis_sites import SERVICE
from tests.waiting import wait_for
from workers.commands.cache import cache as command

SHARED_TEXTS = 30


def environment_of(request: pytest.FixtureRequest, topology: str) -> dict[str, str]:
    site = request.getfixturevalue("redis_cluster" if topology == "cluster" else "redis_sentinels")
    changes = {"RSAFE_REDIS__URL": site.url, "RSAFE_REDIS__TOPOLOGY": topology}
    return changes | ({"RSAFE_REDIS__SENTINEL_SERVICE": SERVICE} if topology == "sentinel" else {})


def produce(topics: Topics, batch: str, count: int = SHARED_TEXTS, texts: int = SHARED_TEXTS) -> list[bytes]:
    values = [
        event(f"{batch}-{number}", "acme", f"c-{number}", f"text {number % texts} of {topics.name}")
        for number in range(count)
    ]
    topics.produce(values, [record_key("acme", f"c-{number}") for number in range(count)])
    return values


@pytest.mark.parametrize("topology", ["cluster", "sentinel"])
def test_what_one_worker_judged_another_remembers(
    topics: Topics,
    request: pytest.FixtureRequest,
    topology: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = environment_of(request, topology)
    first = topics.start(**changes)
    (value, *_) = produce(topics, "first")
    topics.wait_decided(SHARED_TEXTS)
    assert first.stop() == 0
    second = topics.start(**changes)
    produce(topics, "second")
    topics.wait_decided(2 * SHARED_TEXTS)
    assert 'rsafe_cache_failures_total{operation="recall"} 0.0' in second.get("/metrics")
    assert second.stop() == 0
    hits = {decision.event_id: decision.cache.hit for decision in topics.decisions()}
    batches = ("first", "second")
    assert hits == {f"{one}-{n}": one == "second" for one in batches for n in range(SHARED_TEXTS)}

    for name, setting in (topics.environment | changes).items():
        monkeypatch.setenv(name, setting)
    (tmp_path / "event.json").write_bytes(value)
    shown = CliRunner().invoke(command, ["get", str(tmp_path / "event.json"), "--json"])
    assert shown.exit_code == 0, shown.output
    row = json.loads(shown.stdout)
    assert row["remembered"]
    origins = {decision.decision_id for decision in topics.decisions() if not decision.cache.hit}
    assert row["origin_decision"] in origins


def test_of_two_workers_one_asks_while_the_other_waits(
    topics: Topics, request: pytest.FixtureRequest
) -> None:
    changes = environment_of(request, "cluster") | {
        "RSAFE_CACHE__LEASE_MS": "20000",
        "RSAFE_GUARD__SCRIPTED_DELAY_MS": "4000",
    }
    workers = [topics.start(**changes) for _ in range(2)]
    wait_for(lambda: sorted(len(one.partitions() or []) for one in workers) == [1, 2], "both to have some")
    # The same five texts in conversations of all partitions: both workers read each within the delay.
    produce(topics, "batch", count=60, texts=5)
    topics.wait_decided(60)
    metrics = [worker.get("/metrics") for worker in workers]
    judged = [decision for decision in topics.decisions() if not decision.cache.hit]
    assert len(judged) == 5
    outcomes = [[_leases(text, outcome) for outcome in ("taken", "answered")] for text in metrics]
    assert sum(taken for taken, _ in outcomes) == 5
    assert sum(answered for _, answered in outcomes) == 5
    for worker in workers:
        assert worker.stop() == 0


def _leases(metrics: str, outcome: str) -> int:
    begin = f'rsafe_cache_leases_total{{outcome="{outcome}"}}'
    (line,) = [one for one in metrics.splitlines() if one.startswith(begin)]
    return int(float(line.split()[-1]))
