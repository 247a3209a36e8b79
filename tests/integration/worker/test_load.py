"""`rsafe load` against a real worker on a real broker: the figures are consistent with the topics."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.integration.worker.harness import Topics
from tests.waiting import wait_for
from workers.commands.load import OutcomesMissing, load
from workers.errors import StartError


def _load(topics: Topics, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[dict[str, Any], str]:
    """The figures as JSON, and what was printed."""
    for name, setting in topics.environment.items():
        if name.startswith("RSAFE_KAFKA__"):
            monkeypatch.setenv(name, setting)
    file = topics.folder / "figures.json"
    result = CliRunner().invoke(load, [*arguments, "--json", str(file)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures, result.output


def _ready(topics: Topics, **changes: str) -> None:
    worker = topics.start(**changes)
    wait_for(lambda: worker.get("/health/ready").startswith("ready"), "a worker that is ready")


def _rising(spread: dict[str, Any]) -> bool:
    values = [
        spread[name] for name in ("p50", "p90", "p95", "p99", "p99_9", "max") if spread[name] is not None
    ]
    return len(values) > 3 and all(low <= high for low, high in pairwise(values))


def test_at_a_rate_every_event_is_accounted_for_and_hits_are_as_asked(
    topics: Topics, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    _ready(topics)
    picture = tmp_path / "load.png"
    figures, printed = _load(
        topics, monkeypatch, "--rate", "500", "--count", "3000", "--warm-up", "1", "--hits", "0.9",
        "--pool", "200", "--conversations", "100", "--tenant", "acme", "--tenant", "globex",
        "--drain-timeout", "60", "--picture", str(picture),
    )  # fmt: skip
    assert [figures[phase]["sent"] for phase in ("pool", "warm_up", "measured")] == [200, 500, 3000]
    assert [figures[phase]["missing"] for phase in ("pool", "warm_up", "measured")] == [0, 0, 0]
    assert figures["measured"]["hits"] + figures["measured"]["misses"] == 3000
    assert figures["hit_share"] == pytest.approx(0.9, abs=0.02)
    assert 0 < figures["sending"]["per_s"] < 525  # a busy machine may be late, and never ahead
    assert figures["throughput"]["consumed_per_s"] > 0
    assert (
        figures["throughput"]["broker_per_s"] is None
    )  # this test's decisions topic has the worker's stamps
    assert figures["broker_ms"] is None
    assert _rising(figures["latency_ms"]["all"])
    counts = [figures["latency_ms"][kind]["count"] for kind in ("hits", "misses", "all")]
    assert counts == [figures["measured"]["hits"], figures["measured"]["misses"], 3000]
    assert "3,000 sent, 3,000 judged, 0 missing" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")

    decisions = topics.decisions()
    assert len(decisions) == 3700
    prefix = f"load-{figures['run']}-"
    measured = [one for one in decisions if int(one.event_id.removeprefix(prefix)) >= 700]
    assert sum(one.cache.hit for one in measured) == figures["measured"]["hits"]
    ((busiest, times),) = Counter(one.conversation_id for one in measured).most_common(1)
    # The first of a hundred has a share of 1 / (1 + 1/2 + … + 1/100) = 0.193.
    assert busiest == "load-0"
    assert times == pytest.approx(3000 * 0.193, rel=0.2)
    assert {one.tenant for one in decisions} == {"acme", "globex"}


def test_as_fast_as_possible_the_figure_is_throughput(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics.name += "-stamped"
    topics.create(**{"message.timestamp.type": "LogAppendTime"})
    _ready(topics)
    figures, _ = _load(
        topics, monkeypatch, "--rate", "max", "--count", "5000", "--hits", "1",
        "--pool", "50", "--drain-timeout", "60",
    )  # fmt: skip
    assert figures["main_figure"] == "throughput"
    assert figures["measured"]["hits"] == figures["measured"]["sent"] == 5000
    assert figures["warm_up"]["sent"] == figures["pool"]["missing"] == 0
    # How fast says nothing on a busy machine: where the reader had to wait, many outcomes come at once.
    assert figures["sending"]["per_s"] > 0
    assert figures["throughput"]["consumed_per_s"] > 0
    # Both topics have the broker's times.
    assert figures["throughput"]["broker_per_s"] > 0
    assert _rising(figures["broker_ms"]["all"])
    assert figures["broker_ms"]["all"]["p50"] <= figures["latency_ms"]["all"]["p50"] + 5
    assert figures["sending"]["late_ms"] is None


def test_dead_letters_are_counted_by_reason_and_are_no_missing_events(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ready(topics)
    figures, printed = _load(
        topics, monkeypatch, "--rate", "500", "--count", "200", "--warm-up", "0", "--policy", "not-there",
        "--drain-timeout", "60",
    )  # fmt: skip
    assert figures["measured"]["dead_letters"] == {"unknown_policy": 200}
    assert figures["measured"]["missing"] == 0
    assert figures["latency_ms"]["all"]["count"] == 0
    assert "200 dead letters (unknown_policy 200)" in printed


def test_a_slow_guard_shows_in_the_misses_and_not_in_the_hits(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an event's latency counts from when it was due."""
    _ready(topics, RSAFE_GUARD__SCRIPTED_DELAY_MS="300")
    figures, _ = _load(
        topics, monkeypatch, "--rate", "100", "--count", "500", "--warm-up", "1", "--hits", "0.8",
        "--pool", "100", "--conversations", "100000", "--zipf", "0", "--drain-timeout", "60",
    )  # fmt: skip
    assert figures["latency_ms"]["hits"]["p50"] < 300 <= figures["latency_ms"]["misses"]["p50"]


def test_without_a_worker_everything_is_missing(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutcomesMissing, match=r"^50 events had no outcome within 1 s of the last$") as caught:
        _load(topics, monkeypatch, "--rate", "100", "--count", "50", "--warm-up", "0", "--drain-timeout", "1")
    assert caught.value.exit_code == 1
    figures = json.loads((topics.folder / "figures.json").read_text())
    assert (figures["measured"]["sent"], figures["measured"]["missing"]) == (50, 50)
    with pytest.raises(OutcomesMissing, match="nothing was measured"):
        _load(topics, monkeypatch, "--hits", "0.5", "--pool", "10", "--drain-timeout", "1")


@pytest.mark.parametrize("setting", ["EVENTS_TOPIC", "DECISIONS_TOPIC", "DEAD_LETTERS_TOPIC"])
def test_a_topic_that_is_not_there_is_named(
    setting: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = topics.environment | {f"RSAFE_KAFKA__{setting}": "not-there"}
    monkeypatch.setattr(Topics, "environment", changed)
    with pytest.raises(StartError, match="there is no topic not-there; `rsafe topics create` makes it"):
        _load(topics, monkeypatch, "--rate", "10", "--count", "5")


def test_a_broker_that_is_not_there_is_told_soon(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSAFE_KAFKA__START_TIMEOUT_S", "0.5")
    topics.bootstrap = "127.0.0.1:1"
    with pytest.raises(StartError, match=r"no broker at 127\.0\.0\.1:1 answered within 0\.5 s"):
        _load(topics, monkeypatch, "--rate", "10", "--count", "5")
