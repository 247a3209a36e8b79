from __future__ import annotations

from schemas.keys import record_key
from tests.integration.worker.harness import Topics, event
from tests.waiting import PATIENCE_S, wait_for

HOOKS = {"RSAFE_TEST_HOOKS": "messages-may-break-the-guard"}
WARNING = "RSAFE_TEST_HOOKS is set: messages may break the guard. Never where it matters."


def put(topics: Topics, event_id: str, text: str) -> None:
    values = [event(event_id, "tenant", f"conversation-{event_id}", text)]
    topics.produce(values, [record_key("tenant", f"conversation-{event_id}")])


def test_without_the_variable_a_marker_is_text(topics: Topics) -> None:
    worker = topics.start()
    put(topics, "marked", f"[[rsafe-fault kill]] {topics.name}")
    topics.wait_decided(1)
    assert topics.decisions()[0].status == "judged"
    assert worker.said(WARNING) is None
    assert worker.stop() == 0


def test_garbage_is_unjudged_and_a_slow_judgement_holds_nobody(topics: Topics) -> None:
    worker = topics.start(**HOOKS)
    put(topics, "slow", f"[[rsafe-fault slow:5s]] {topics.name}")
    put(topics, "garbage", f"[[rsafe-fault garbage]] {topics.name}")
    put(topics, "plain", f"hello {topics.name}")
    topics.wait_decided(3)
    decided = {decision.event_id: decision for decision in topics.decisions()}
    assert {name: decision.status for name, decision in decided.items()} == {
        "slow": "judged",
        "garbage": "unjudged",
        "plain": "judged",
    }
    assert decided["garbage"].reason == "unparseable"
    assert decided["slow"].timings.guard_ms >= 5000
    assert decided["plain"].timings.total_ms < decided["slow"].timings.total_ms
    assert worker.said(WARNING)
    assert worker.stop() == 0


def test_a_checkpoint_that_changed_stops_the_worker_when_the_guard_starts_again(topics: Topics) -> None:
    worker = topics.start(**HOOKS)
    put(topics, "plain", f"hello {topics.name}")
    topics.wait_decided(1)
    wait_for(lambda: topics.committed() == 1, "the commit")
    config = topics.folder / "model" / "config.json"
    config.write_text(config.read_text().replace("65536", "65535"))
    put(topics, "deadly", f"[[rsafe-fault kill]] {topics.name}")
    assert worker.process.wait(PATIENCE_S) == 3
    assert "changed since it was opened" in worker.log.read_text().splitlines()[-1]
    assert topics.committed() == 1
    assert topics.count("decisions") == 1
