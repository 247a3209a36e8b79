"""Real rows through real Kafka, Redis and vLLM, a kill −9 midway, and then nothing may be wrong.

Output names places, counts and hashes only: the rows are not for build logs.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.checker import answered, check
from tests.acceptance.events_from_data import Sent
from tests.acceptance.evidence import Json, Run, json_object
from tests.acceptance.malformed import Malformed
from tests.acceptance.records import Place, Record
from tests.acceptance.scenario import (
    Topics,
    create_topics,
    guard_environment,
    malformed,
    publish,
    traffic,
    with_malformed,
    worker_environment,
    write_policies,
)
from tests.acceptance.topics import TopicFollower, read_topics, uncommitted
from tests.acceptance.traces import PHASES, traces, words_of
from tests.acceptance.worker_process import WorkerProcess
from tests.collector import Collector, http_collector
from workers.adapters.embedded_addresses import Addresses

SCHEMA_FILE: Final = Path(__file__).parents[2] / "schemas" / "wire" / "decision.v1.schema.json"
# vLLM on two busy cores is up after one to two minutes; then some ten events a second, whatever they are.
ANSWERS_TIMEOUT_S: Final = 600.0
# vLLM's engine process notices that its parent is gone within seconds.
CHILDREN_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 60.0
SHOWN_VIOLATIONS: Final = 20


@pytest.mark.parametrize("engine", ["scripted", pytest.param("vllm", marks=pytest.mark.heavy)])
@pytest.mark.timeout(1500)
def test_a_killed_worker_loses_nothing_and_tells_nothing(
    engine: str, local_stack: Addresses, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = uuid.uuid4().hex[:12]
    topics = Topics(f"events-{run_id}", f"decisions-{run_id}", f"dead-{run_id}")
    policies = write_policies(tmp_path / "policies")
    environment = worker_environment(
        local_stack,
        topics,
        tmp_path / "policies",
        run_id=run_id,
        guard=guard_environment(engine, tmp_path / "checkpoint"),
    )
    create_topics(environment)
    events, broken = traffic(_data_folder(), policies), malformed()
    expected = publish(local_stack.bootstrap_servers, topics.events, with_malformed(events, broken))
    assert len(expected) >= 50

    with (
        http_collector() as collector,
        WorkerProcess(
            environment | _tracing(collector), tmp_path / "worker.log", _texts(events, broken)
        ) as worker,
    ):
        before = _run_with_a_kill(
            worker, local_stack.bootstrap_servers, topics, total=len(events) + len(broken)
        )
        exit_code = worker.terminate(STOP_TIMEOUT_S)
        worker.wait_for_children_to_end(CHILDREN_TIMEOUT_S)
        log_lines, spans = worker.log_lines(), collector.spans

    found = read_topics(local_stack.bootstrap_servers, topics.events, topics.decisions, topics.dead_letters)
    run = Run(
        events=found[topics.events],
        decisions=found[topics.decisions],
        dead_letters=found[topics.dead_letters],
        expected=expected,
        log_lines=log_lines,
        texts=[secret for one in broken for secret in one.secrets],
        span_words=[*words_of(spans)],
    )
    counts = _counts(run) | {"spans": dict(Counter(span.name.partition(" ")[0] for span in spans))}
    with capsys.disabled():  # what a run showed belongs into the log of a build, passed or not
        sys.stdout.write(f"\n{engine}: {json.dumps(counts)}\n")
    violations = check(run, json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    violations += traces(run, spans, before, phases=engine == "vllm")
    shown = "\n".join(str(violation) for violation in violations[:SHOWN_VIOLATIONS])
    assert not violations, f"{dict(Counter(v.kind for v in violations))} of {counts}:\n{shown}"
    assert exit_code == 0, f"the worker ended with exit code {exit_code} after SIGTERM"
    group = environment["RSAFE_KAFKA__GROUP_ID"]
    assert uncommitted(local_stack.bootstrap_servers, group, topics.events) == 0
    _assert_that_it_showed_something(counts, engine)


def _texts(events: Sequence[Sent], broken: Sequence[Malformed]) -> list[str]:
    """All message text that is sent."""
    said = [event for sent in events if (event := sent.event) is not None]
    turns = [turn.text for event in said for turn in event.context]
    return [
        *(event.message.text for event in said),
        *turns,
        *(secret for one in broken for secret in one.secrets),
    ]


def _tracing(collector: Collector) -> dict[str, str]:
    """All events are sampled by their own headers."""
    return {
        # Of the SDK, for whoever reads them: spans that vLLM's core has for its start are not asked for.
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.address}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "RSAFE_TRACING__EXPORT": "http",
        "RSAFE_TRACING__ENDPOINT": collector.address,
        "RSAFE_TRACING__SAMPLE_RATIO": "0",
    }


def _run_with_a_kill(
    worker: WorkerProcess, bootstrap_servers: str, topics: Topics, *, total: int
) -> set[Place]:
    """Start, kill when a fifth is answered, start again, and wait until all is answered.

    Returns where the decisions stand that the kill found there.
    """
    done: set[Place] = set()
    decided: set[Place] = set()

    def note(new: list[Record]) -> None:
        decisions = [record for record in new if record.place.topic == topics.decisions]
        letters = [record for record in new if record.place.topic == topics.dead_letters]
        decided.update(record.place for record in decisions)
        done.update(answered(decisions, letters))

    def enough(count: int) -> Callable[[list[Record]], bool]:
        def look(new: list[Record]) -> bool:
            note(new)
            worker.assert_alive()
            return len(done) >= count

        return look

    with TopicFollower(bootstrap_servers, (topics.decisions, topics.dead_letters)) as follower:
        worker.start()
        follower.follow(enough(total // 5), timeout_s=ANSWERS_TIMEOUT_S, awaited="first answers")
        worker.kill()
        worker.wait_for_children_to_end(CHILDREN_TIMEOUT_S)
        while new := follower.poll(wait_s=1.0):
            note(new)
        assert len(done) < total, "all was answered before the kill: nothing was owed any more"
        before = {*decided}
        worker.start()
        follower.follow(enough(total), timeout_s=ANSWERS_TIMEOUT_S, awaited="answer to every event")
    return before


def _counts(run: Run) -> dict[str, dict[str, int]]:
    """What became of the events, for the report and for `_assert_that_it_showed_something`."""
    bodies: list[Json] = [body for record in run.decisions if (body := json_object(record.value)) is not None]
    first = {json.dumps(body.get("origin")): body for body in reversed(bodies)}.values()
    guards = [body["guard"] for body in first if body.get("guard")]
    return {
        "records": {
            "events": len(run.events),
            "decisions": len(run.decisions),
            "duplicates": len(run.decisions) - len(first),
            "dead_letters": len(run.dead_letters),
            "log_lines": len(run.log_lines),
        },
        "status": dict(Counter(str(body.get("status")) for body in first)),
        "reason": dict(Counter(str(body["reason"]) for body in first if body.get("reason"))),
        "label": dict(Counter(str(body["label"]) for body in first if body.get("label"))),
        "mode": dict(Counter(str(guard["mode"]) for guard in guards)),
        "engine": dict(Counter(str(guard["engine"]) for guard in guards)),
        "cache": dict(Counter("hit" if body["cache"]["hit"] else "miss" for body in first)),
        "dead_letter": dict(Counter(due.reason for due in run.expected.values())),
    }


def _assert_that_it_showed_something(counts: dict[str, dict[str, int]], engine: str) -> None:
    """A run in which nothing was judged, or nothing was cached, would show little."""
    assert set(counts["engine"]) == {engine}
    assert set(counts["mode"]) == {"fast", "think"}
    assert set(counts["label"]) == {"safe", "unsafe"}
    assert counts["cache"].get("hit", 0) > 0
    assert counts["status"]["judged"] > sum(counts["status"].values()) / 2
    shown = {"process", "recall", "wait", "ask", "fast", "think", "send"}
    assert set(counts["spans"]) == (shown | {*PHASES} if engine == "vllm" else shown)


def _data_folder() -> Path | None:
    folder = os.environ.get("RSAFE_TEST_DATA")
    if not folder:
        return None
    assert Path(folder).is_dir(), "RSAFE_TEST_DATA: expected a folder"
    return Path(folder)
