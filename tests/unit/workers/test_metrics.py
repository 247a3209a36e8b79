"""Each metric is moved by what it counts, and by nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from schemas.decision import CategoryDecision, Decision, PolicyUsed
from schemas.verdict import Unjudged
from tests.unit.workers.moderation.builders import GUARD, make_asked, make_book, make_policy, make_verdict
from workers.health import Health
from workers.metrics import MOST_CATEGORIES, MOST_POLICIES, Metrics
from workers.moderation.make_decision import make_decision, weigh
from workers.moderation.outcome import Judged, Source, Took, Violated
from workers.ports import Lag
from workers.telemetry import Telemetry


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Parts:
    def __init__(self) -> None:
        clock = Time()
        self.metrics = Metrics()
        self.telemetry = Telemetry(self.metrics, Health(clock), clock)

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Every sample of the worker's own metrics, by name and labels."""
        shown = generate_latest(self.metrics.registry).decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(shown)
            for sample in family.samples
            if sample.name.startswith("rsafe_") and not sample.name.endswith("_created")
        }

    def moved(self, act: Any) -> dict[str, float]:
        """What differs after an act: name and labels as one writes them, without buckets and sums."""
        before = self.samples()
        act()
        after = self.samples()
        return {
            _written(name, labels): value - before.get((name, labels), 0.0)
            for (name, labels), value in after.items()
            if value != before.get((name, labels), 0.0) and not name.endswith(("_bucket", "_sum"))
        }


def _written(name: str, labels: Sequence[tuple[str, str]]) -> str:
    inner = ",".join(f"{label}={value}" for label, value in labels)
    return f"{name}{{{inner}}}" if inner else name


@pytest.fixture
def parts() -> Parts:
    return Parts()


def judged(*categories: CategoryDecision, action: Any = "block") -> Decision:
    asked = make_asked()
    made = make_decision(
        asked, weigh(Judged(make_verdict(), GUARD, ""), asked.chosen, "user"), Source(), Took()
    )
    return msgspec.structs.replace(made, action=action, categories=categories)


def category(code: str, violated: bool = True) -> CategoryDecision:
    return CategoryDecision(code=code, threshold=0.5, violated=violated)


def test_a_decision_moves_its_own_counters_and_the_categories_that_it_acts_on(parts: Parts) -> None:
    decision = judged(category("C1"), category("C2", violated=False), category("C3"))
    assert parts.moved(lambda: parts.telemetry.decided(decision)) == {
        "rsafe_decisions_total{action=block,cache=miss,status=judged}": 1,
        "rsafe_violations_total{action=block,category=C1}": 1,
        "rsafe_violations_total{action=block,category=C3}": 1,
        "rsafe_event_seconds_count": 1,
        "rsafe_decision_seconds_count": 1,
    }


def test_a_decision_on_the_overall_score_is_of_no_named_category(parts: Parts) -> None:
    moved = parts.moved(lambda: parts.telemetry.decided(judged(action="review")))
    assert moved["rsafe_violations_total{action=review,category=unnamed}"] == 1
    moved = parts.moved(lambda: parts.telemetry.decided(judged(action="allow")))
    assert not [name for name in moved if "violations" in name]


def test_remembered_decisions_count_what_they_act_on(parts: Parts) -> None:
    violated = [Violated("block", ("C1", "C2")), Violated("flag", ()), Violated("block", ("C1", "C2"))]
    moved = parts.moved(
        lambda: parts.telemetry.remembered(
            ["block", "allow", "flag", "block"], [1.0, 1.0, 1.0, 1.0], 2.0, violated
        )
    )
    assert {name: value for name, value in moved.items() if "violations" in name} == {
        "rsafe_violations_total{action=block,category=C1}": 2,
        "rsafe_violations_total{action=block,category=C2}": 2,
        "rsafe_violations_total{action=flag,category=unnamed}": 1,
    }


def test_codes_beyond_the_bound_are_counted_together(parts: Parts) -> None:
    for number in range(MOST_CATEGORIES + 20):
        parts.telemetry.decided(judged(category(f"C{number}")))
    parts.telemetry.decided(judged(category("C0")))
    found = {
        dict(labels)["category"]: value
        for (name, labels), value in parts.samples().items()
        if name == "rsafe_violations_total"
    }
    assert len(found) == MOST_CATEGORIES + 1
    assert (found["C0"], found["other"]) == (2, 20)


def test_the_age_of_a_verdict_counts_from_the_event_to_the_brokers_word(parts: Parts) -> None:
    moved = parts.moved(lambda: parts.telemetry.published([1_000, 1_000, 9_000], 6_000.0))
    assert moved == {"rsafe_verdict_age_seconds_count": 3}
    found = parts.samples()
    assert found["rsafe_verdict_age_seconds_bucket", (("le", "5"),)] == 3
    assert found["rsafe_verdict_age_seconds_bucket", (("le", "2.5"),)] == 1
    assert found["rsafe_verdict_age_seconds_sum", ()] == 10.0  # a stamp of the future is of no age


def test_the_guards_time_is_kept_by_mode_and_its_scores_by_way(parts: Parts) -> None:
    verdict = make_verdict(mode="adaptive", answered_in="think", score=0.97)
    moved = parts.moved(lambda: parts.telemetry.asked(verdict, 0.3, "adaptive"))
    assert moved == {
        "rsafe_guard_answers_total{answer=verdict}": 1,
        "rsafe_guard_verdicts_total{answered_in=think,mode=adaptive}": 1,
        "rsafe_guard_score_count{answered_in=think}": 1,
        "rsafe_guard_seconds_count{mode=adaptive}": 1,
        **{name: value for name, value in moved.items() if "tokens" in name},
    }
    found = parts.samples()
    assert found["rsafe_guard_score_bucket", (("answered_in", "think"), ("le", "0.99"))] == 1
    assert found["rsafe_guard_score_bucket", (("answered_in", "think"), ("le", "0.95"))] == 0


def test_without_a_score_or_a_verdict_no_score_is_shown(parts: Parts) -> None:
    unscored = make_verdict(score=None)
    for answer in (unscored, Unjudged(reason="unparseable")):
        moved = parts.moved(lambda answer=answer: parts.telemetry.asked(answer, 0.1, "fast"))
        assert moved["rsafe_guard_seconds_count{mode=fast}"] == 1
        assert not [name for name in moved if "score" in name]


def test_looks_into_the_cache_are_counted_by_tier(parts: Parts) -> None:
    assert parts.moved(lambda: parts.telemetry.looked("local", 3, 2)) == {
        "rsafe_cache_lookups_total{result=hit,tier=local}": 3,
        "rsafe_cache_lookups_total{result=miss,tier=local}": 2,
    }
    assert parts.moved(lambda: parts.telemetry.looked("shared", 0, 2)) == {
        "rsafe_cache_lookups_total{result=miss,tier=shared}": 2
    }


def test_servers_that_are_left_alone_are_shown_as_they_are(parts: Parts) -> None:
    servers = [(False, False), (True, True), (False, True)]
    parts.telemetry.watch_shared_cache(lambda: servers)
    found = parts.samples()
    assert found["rsafe_cache_servers", ()] == 3
    assert found["rsafe_cache_servers_left_alone", (("use", "reading"),)] == 1
    assert found["rsafe_cache_servers_left_alone", (("use", "writing"),)] == 2
    servers.clear()
    assert parts.samples()["rsafe_cache_servers_left_alone", (("use", "writing"),)] == 0


def test_signs_of_injection_are_counted_by_kind(parts: Parts) -> None:
    assert parts.moved(lambda: parts.telemetry.signed("chat_token")) == {
        "rsafe_injection_signs_total{sign=chat_token}": 1
    }


def test_lags_are_shown_where_they_are_known(parts: Parts) -> None:
    parts.telemetry.watch_lags(lambda: [Lag(0, 12, 3.5), Lag(1, None, None), Lag(2, 0, 0.0)], lambda: 41.5)
    found = parts.samples()
    assert found["rsafe_broker_silent_seconds", ()] == 41.5
    lags = {key: value for key, value in found.items() if key[0].startswith("rsafe_lag")}
    assert lags == {
        ("rsafe_lag_records", (("partition", "0"),)): 12,
        ("rsafe_lag_records", (("partition", "2"),)): 0,
        ("rsafe_lag_seconds", (("partition", "0"),)): 3.5,
        ("rsafe_lag_seconds", (("partition", "2"),)): 0,
    }


def test_the_last_commit_is_one_that_the_broker_took(parts: Parts) -> None:
    parts.telemetry.committed(2, 0)
    assert parts.samples()["rsafe_last_commit_timestamp_seconds", ()] == 0
    parts.telemetry.committed(2, 1)
    assert abs(parts.samples()["rsafe_last_commit_timestamp_seconds", ()] - time.time()) < 60


def used(number: int, version: str = "1") -> PolicyUsed:
    return PolicyUsed(id=f"p-{number}", version=version, policy_hash="a" * 64, judgement_hash="b" * 64)


def test_what_is_in_force_is_shown_and_replaces_what_was(parts: Parts) -> None:
    parts.telemetry.guard_in_force(GUARD)
    parts.telemetry.policies_in_force("f1", [used(1)])
    parts.telemetry.policies_in_force("f2", [used(1, "2"), used(2)])
    infos = {key: value for key, value in parts.samples().items() if key[0].endswith("_info")}
    names = [(name, dict(labels)) for name, labels in infos]
    assert set(infos.values()) == {1.0}
    assert [labels for name, labels in names if name == "rsafe_policy_set_info"] == [{"fingerprint": "f2"}]
    shown = [labels for name, labels in names if name == "rsafe_policy_info"]
    assert {(one["policy"], one["version"]) for one in shown} == {("p-1", "2"), ("p-2", "1")}
    (checkpoint,) = [labels for name, labels in names if name == "rsafe_checkpoint_info"]
    assert checkpoint["checkpoint_digest"] == GUARD.checkpoint_digest
    assert checkpoint["verified"] == "yes"
    assert parts.samples()["rsafe_policies", ()] == 2


def test_of_many_policies_the_first_are_shown_and_all_are_counted(parts: Parts) -> None:
    parts.telemetry.policies_in_force("f", [used(number) for number in range(MOST_POLICIES + 5)])
    found = parts.samples()
    assert len([name for name, _ in found if name == "rsafe_policy_info"]) == MOST_POLICIES
    assert found["rsafe_policies", ()] == MOST_POLICIES + 5


def test_what_is_declared_is_what_is_shown(parts: Parts) -> None:
    declared = {row.name.removesuffix("_total") for row in parts.metrics.rows}
    shown = {family.name.removesuffix("_total") for family in parts.metrics.registry.collect()}
    assert {name for name in shown if not name.startswith("process_")} == declared


def test_names_follow_prometheus_conventions(parts: Parts) -> None:
    for row in parts.metrics.rows:
        assert row.name.startswith("rsafe_")
        assert row.name.endswith("_total") == (row.kind == "counter"), row.name
        assert not row.name.endswith(("_ms", "_count", "_sum", "_bucket")), row.name
        assert row.documentation.endswith("."), row.name
        assert not {"tenant", "conversation", "message", "author"} & row.labels.keys(), row.name


def test_the_process_itself_is_shown(parts: Parts) -> None:
    shown = generate_latest(parts.metrics.registry).decode()
    assert "\nprocess_start_time_seconds " in shown
    assert "\nprocess_cpu_seconds_total " in shown


def test_changed_policies_are_the_ones_in_force(parts: Parts) -> None:
    first, second = make_book(default=make_policy()), make_book(make_policy(id="p-2"), default=make_policy())
    for book, count in ((first, 1), (second, 2)):
        parts.telemetry.policies_changed(book)
        found = parts.samples()
        assert found["rsafe_policies", ()] == count
        assert ("rsafe_policy_set_info", (("fingerprint", book.fingerprint),)) in found
    assert len([name for name, _ in found if name == "rsafe_policy_set_info"]) == 1
