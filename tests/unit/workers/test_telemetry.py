from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from guard.errors import EngineNotReady
from guard.serving.fleet_view import EndpointView, FleetView
from schemas.dead_letter import DeadLetter
from schemas.verdict import Step, Unjudged
from tests.unit.workers.moderation.builders import GUARD, make_asked, make_book, make_policy, make_verdict
from workers.health import Health
from workers.metrics import Metrics
from workers.moderation.make_decision import make_decision, weigh
from workers.moderation.outcome import Answer, Judged, NotJudged, Source, Took
from workers.ports import Oldest
from workers.stream.window import Load
from workers.telemetry import SLOW_S, Telemetry


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def parts() -> tuple[Telemetry, Metrics, Health, Time]:
    time = Time()
    metrics, health = Metrics(), Health(time)
    return Telemetry(metrics, health, time), metrics, health, time


def text(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def decide(answer: Answer) -> Any:
    asked = make_asked()
    return make_decision(asked, weigh(answer, asked.chosen, "user"), Source(), Took(total_ms=20.0))


def test_decisions_are_counted_by_what_they_are(parts: Any) -> None:
    telemetry, metrics, *_ = parts
    late = decide(NotJudged(Unjudged(reason="late")))
    for decision in (decide(Judged(make_verdict(), GUARD, "")), late, late):
        telemetry.decided(decision)
    shown = text(metrics)
    assert 'rsafe_decisions_total{action="allow",cache="miss",status="judged"} 1.0' in shown
    assert 'rsafe_decisions_total{action="review",cache="miss",status="unjudged"} 2.0' in shown
    assert 'rsafe_unjudged_total{reason="late"} 2.0' in shown
    assert 'rsafe_decision_seconds_bucket{le="0.025"} 3.0' in shown
    assert 'rsafe_decision_seconds_bucket{le="0.01"} 0.0' in shown


def test_tokens_that_the_prefix_cache_held_are_counted_beside_all_that_were_read(parts: Any) -> None:
    telemetry, metrics, *_ = parts
    steps = tuple(
        Step(mode="think", prompt_tokens=100, completion_tokens=9, finish_reason="stop", cached_tokens=held)
        for held in (64, 96)
    )
    telemetry.asked(Unjudged(reason="unparseable", steps=steps), 0.1, "think")
    shown = text(metrics)
    assert "rsafe_guard_prompt_tokens_total 200.0" in shown
    assert "rsafe_guard_cached_prompt_tokens_total 160.0" in shown


def test_calls_at_the_guard_and_questions_before_it_are_shown_as_they_are(parts: Any) -> None:
    telemetry, metrics, *_ = parts
    calls, waiting = [1], [2]
    telemetry.watch_guard(lambda: calls[0], lambda: waiting[0])
    calls[0], waiting[0] = 7, 40
    shown = text(metrics)
    assert "rsafe_guard_calls 7.0" in shown
    assert "rsafe_guard_waiting_questions 40.0" in shown


def test_remembered_decisions_are_counted_by_the_batch(parts: Any) -> None:
    telemetry, metrics, *_ = parts
    telemetry.remembered(["allow", "block", "allow"], [4.0, 4.0, 980.0], 2.0)
    shown = text(metrics)
    assert 'rsafe_decisions_total{action="allow",cache="hit",status="judged"} 2.0' in shown
    assert 'rsafe_decisions_total{action="block",cache="hit",status="judged"} 1.0' in shown
    assert 'rsafe_event_seconds_bucket{le="0.01"} 2.0' in shown
    assert "rsafe_event_seconds_sum 0.994" in shown
    assert "rsafe_decision_seconds_count 3.0" in shown


def test_trouble_that_repeats_is_told_now_and_then_and_counted_always(parts: Any) -> None:
    telemetry, metrics, _, time = parts
    with capture_logs() as lines:
        for now in (0.0, 1.0, 2.0, 11.0):
            time.now = now
            telemetry.cache_failed("recall", "TimeoutError")
    assert len(lines) == 2
    assert 'rsafe_cache_failures_total{operation="recall"} 4.0' in text(metrics)


def test_an_unexpected_error_is_told_without_its_words(parts: Any) -> None:
    telemetry, *_ = parts
    with capture_logs() as lines:
        try:
            int("what somebody wrote")
        except ValueError as error:
            telemetry.failed(error)
    assert "somebody" not in repr(lines)
    assert lines[0]["error"] == "ValueError"
    assert lines[0]["places"]


class Stream:
    load = Load(7, 700, 70)

    def __init__(self, *oldest: Oldest) -> None:
        self._oldest = oldest

    def oldest(self) -> tuple[Oldest, ...]:
        return self._oldest


def test_what_the_oldest_offset_waits_for_is_shown_when_asked(parts: Any) -> None:
    telemetry, metrics, *_ = parts
    stream = Stream(Oldest(0, 41, 12.5, "guard"), Oldest(3, 7, 0.0, None))
    telemetry.watch(stream)
    shown = text(metrics)
    assert 'rsafe_oldest_uncommitted_seconds{partition="0",waiting_for="guard"} 12.5' in shown
    assert 'rsafe_oldest_uncommitted_seconds{partition="3",waiting_for="nothing"} 0.0' in shown
    assert "rsafe_window_records 7.0" in shown
    assert "rsafe_window_bytes 700.0" in shown
    assert "rsafe_window_tokens 70.0" in shown


def test_an_offset_that_waits_long_is_told_now_and_then(parts: Any) -> None:
    telemetry, _, health, time = parts
    telemetry.watch(Stream(Oldest(0, 41, SLOW_S, "hold"), Oldest(1, 5, SLOW_S - 1, "guard")))
    assert health.slow() == ["partition 0: offset 41 has waited 30 s: hold"]
    with capture_logs() as lines:
        for now in (0.0, 1.0, 11.0):
            time.now = now
            telemetry.beat(2)
    assert [(line["partition"], line["offset"], line["waiting_for"]) for line in lines] == [
        (0, 41, "hold"),
        (0, 41, "hold"),
    ]


def test_the_servers_of_the_guard_are_shown_in_metrics_page_and_log(parts: Any) -> None:
    telemetry, metrics, health, _ = parts
    assert 'rsafe_guard_servers{state="serving"} 0.0' in text(metrics)
    assert 'rsafe_guard_server_ejections_total{why="silent"} 0.0' in text(metrics)
    view = FleetView(
        (
            EndpointView("http://a", "serving", "", 2, 700),
            EndpointView("http://b", "ejected", "no connection", 0, 0),
        ),
        retries=3,
        ejections={"unreachable": 1},
    )
    telemetry.watch_fleet(lambda: view)
    shown = text(metrics)
    assert 'rsafe_guard_servers{state="serving"} 1.0' in shown
    assert 'rsafe_guard_servers{state="ejected"} 1.0' in shown
    assert "rsafe_guard_servers_outstanding_tokens 700.0" in shown
    assert "rsafe_guard_server_retries_total 3.0" in shown
    assert 'rsafe_guard_server_ejections_total{why="unreachable"} 1.0' in shown
    assert health.servers() == ["server http://b: ejected: no connection"]
    telemetry.watch_fleet(lambda: None)
    assert health.servers() == []
    with capture_logs() as lines:
        telemetry.endpoint_changed("http://b", "ejected", "no connection")
        telemetry.endpoint_changed("http://b", "serving", "")
    assert [(line["server"], line["log_level"]) for line in lines] == [
        ("http://b", "warning"),
        ("http://b", "info"),
    ]


def test_a_guard_that_is_down_is_not_ready(parts: Any) -> None:
    telemetry, metrics, health, _ = parts
    with capture_logs():
        telemetry.guard_changed(False)
        assert health.guard_ready
        telemetry.guard_changed(True)
    assert not health.guard_ready
    assert "rsafe_guard_up 0.0" in text(metrics)


def test_how_long_the_guard_is_down_and_its_starts_are_counted(
    parts: tuple[Telemetry, Metrics, Health, Time],
) -> None:
    telemetry, metrics, _, time = parts
    time.now = 60.0
    assert "rsafe_guard_down_seconds 60.0" in text(metrics)
    telemetry.guard_changed(False)
    time.now = 100.0
    assert "rsafe_guard_down_seconds 0.0" in text(metrics)
    telemetry.guard_changed(True)
    time.now = 107.0
    assert "rsafe_guard_down_seconds 7.0" in text(metrics)
    with capture_logs() as lines:
        telemetry.guard_not_back(EngineNotReady("it did not load"), 2.0)
        telemetry.guard_changed(False)
    assert 'rsafe_guard_restarts_total{outcome="answers"} 2.0' in text(metrics)
    assert 'rsafe_guard_restarts_total{outcome="failed"} 1.0' in text(metrics)
    assert [(line.get("why"), line.get("pause_s"), line.get("after_s")) for line in lines] == [
        ("it did not load", 2.0, None),
        (None, None, 7.0),
    ]


def test_changes_of_the_links_are_counted_and_told(parts: Any) -> None:
    telemetry, metrics, _, time = parts
    with capture_logs() as lines:
        telemetry.link_not_renewed("kafka", "the broker does not know it yet")
        time.now = 1.0
        telemetry.link_not_renewed("kafka", "the broker does not know it yet")
        telemetry.link_not_renewed("redis", "Redis does not answer")
        telemetry.link_renewed("kafka")
    assert [(line["link"], line.get("why")) for line in lines] == [
        ("kafka", "the broker does not know it yet"),
        ("redis", "Redis does not answer"),
        ("kafka", None),
    ]
    shown = text(metrics)
    assert 'rsafe_link_renewals_total{link="kafka",outcome="refused"} 2.0' in shown
    assert 'rsafe_link_renewals_total{link="kafka",outcome="used"} 1.0' in shown


def test_verdicts_are_counted_by_the_way_they_went(parts: Any) -> None:
    telemetry, metrics, *_ = parts
    for way in ("fast", "fast", "think"):
        telemetry.asked(make_verdict(mode="adaptive", answered_in=way), 0.1, "adaptive")
    telemetry.asked(make_verdict(mode="fast"), 0.1, "fast")
    telemetry.asked(Unjudged(reason="unparseable"), 0.1, "fast")
    shown = text(metrics)
    assert 'rsafe_guard_verdicts_total{answered_in="fast",mode="adaptive"} 2.0' in shown
    assert 'rsafe_guard_verdicts_total{answered_in="think",mode="adaptive"} 1.0' in shown
    assert 'rsafe_guard_verdicts_total{answered_in="fast",mode="fast"} 1.0' in shown
    assert 'rsafe_guard_answers_total{answer="unjudged"} 1.0' in shown


def test_changes_of_policies_are_counted_and_their_age_is_shown(
    parts: tuple[Telemetry, Metrics, Health, Time],
) -> None:
    telemetry, metrics, _, time = parts
    time.now = 50.0
    assert "rsafe_policies_age_seconds 50.0" in text(metrics)
    book = make_book(default=make_policy())
    with capture_logs() as logs:
        telemetry.policies_changed(book)
        telemetry.policy_record("published")
        letter = DeadLetter(
            topic="policies", partition=1, offset=7, reason="invalid_policy", sentence="a sentence", field="$"
        )
        telemetry.policy_record("refused")
        telemetry.policy_refused(letter)
        for _ in range(3):
            telemetry.policies_not_followed("no broker")
    time.now = 53.0
    shown = text(metrics)
    assert "rsafe_policies_age_seconds 3.0" in shown
    assert 'rsafe_policy_records_total{outcome="published"} 1.0' in shown
    assert 'rsafe_policy_records_total{outcome="refused"} 1.0' in shown
    assert 'rsafe_dead_letters_total{reason="invalid_policy"} 1.0' in shown
    told = [line for line in logs if line["log_level"] != "debug"]
    assert [line["log_level"] for line in told] == ["info", "error", "warning"]
    assert (told[0]["policies"], told[0]["fingerprint"]) == (1, book.policies.fingerprint)
    assert (told[1]["offset"], told[1]["why"]) == (7, "a sentence")
