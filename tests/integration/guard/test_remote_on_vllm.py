"""The judge over real `vllm serve` processes: verdicts as in process, aborts, a kill under load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from guard.checkpoint import Checkpoint
from guard.errors import EngineNotReady, EngineTimeout
from guard.prompt import PromptRenderer, Turn
from guard.serving.call_trace import CallTrace, noting
from guard.serving.engine import EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.remote_engine import RemoteEngine
from guard.serving.remote_options import RemoteOptions
from schemas.identifiers import Mode
from schemas.policy import Policy, PolicyExample
from schemas.verdict import Unjudged, Verdict
from tests.collector import attributes_of
from tests.fixtures_vllm_server import API_KEY, VllmServer, sum_of
from tests.waiting import until
from workers.commands.judge import judge as judge_command
from workers.policies import find_policies

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

PACKS = ("community", "minors", "example-custom")
# What two runs of one engine in other batches differ by, and a little more.
SCORES_WITHIN = 0.01
SAMPLED, UNSAMPLED = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319c"
ASKS = "c8be7c8270314442"
WRITTEN = "vllm:generation_tokens_total{"


def examples() -> Iterator[tuple[Policy, PolicyExample]]:
    for entry in find_policies(""):
        if entry.policy.id in PACKS:
            yield from ((entry.policy, example) for example in entry.policy.examples)


def question(policy: Policy, text: str, mode: Mode, role: str = "user") -> Question:
    turn = Turn(role="assistant" if role == "assistant" else "user", text=text)
    return Question(policy=policy, turns=(turn,), mode=mode)


def engine_over(checkpoint: Checkpoint, *servers: VllmServer, api_key: str = API_KEY) -> RemoteEngine:
    return RemoteEngine(
        checkpoint.path,
        checkpoint.weights_digest,
        RemoteOptions(endpoints=tuple(one.url for one in servers), api_key=api_key),
        max_model_len=checkpoint.max_model_len,
    )


def judge_over(checkpoint: Checkpoint, renderer: PromptRenderer, engine: RemoteEngine) -> Judge:
    limits = JudgeLimits(
        max_model_len=checkpoint.max_model_len,
        think_budget_tokens=128,
        call_timeout_s=120.0,
        category_scores=True,
    )
    return Judge(checkpoint, renderer, engine, limits)


@pytest.mark.parametrize("mode", ["fast", "think"])
async def test_verdicts_are_those_of_vllm_in_process(
    tiny_judge: Judge,
    vllm_server: VllmServer,
    served_checkpoint: Checkpoint,
    served_renderer: PromptRenderer,
    mode: Mode,
) -> None:
    engine = engine_over(served_checkpoint, vllm_server)
    limits = tiny_judge.identity.limits
    remote = Judge(served_checkpoint, served_renderer, engine, limits)
    assert remote.identity.engine_version == "unknown"
    await remote.start()
    assert remote.identity.engine_version == tiny_judge.identity.engine_version
    assert remote.identity.decoding(mode) != tiny_judge.identity.decoding(mode)  # the cache tells them apart
    asked = [question(policy, e.text, mode, e.role) for policy, e in examples()]
    assert len(asked) > 20
    there = await asyncio.gather(*(remote.judge(one) for one in asked))
    here = await asyncio.gather(*(tiny_judge.judge(one) for one in asked))
    for one, other in zip(there, here, strict=True):
        assert isinstance(one, Verdict)
        assert isinstance(other, Verdict)
        assert (one.label, one.codes, one.rationale) == (other.label, other.codes, other.rationale)
        assert one.score == pytest.approx(other.score, abs=SCORES_WITHIN)
    assert any(step.cached_tokens for one in there for step in one.steps)
    await remote.close()


async def test_a_request_is_aborted_in_the_server_at_the_deadline_and_when_it_is_cancelled(
    vllm_server: VllmServer, served_checkpoint: Checkpoint
) -> None:
    engine = engine_over(served_checkpoint, vllm_server)
    await engine.start()
    before = sum_of(vllm_server.metrics(), WRITTEN)
    endless = EngineParameters(max_tokens=served_checkpoint.max_model_len, logprob_token_ids=(0, 1))
    with pytest.raises(EngineTimeout):
        await engine.generate((5, 6, 7), endless, time.monotonic() + 0.5)
    call = asyncio.ensure_future(engine.generate((5, 6, 8), endless, time.monotonic() + 60))
    await asyncio.sleep(0.5)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    short = EngineParameters(max_tokens=1, logprob_token_ids=(0, 1))
    # The server counts when it makes a step, and does not count aborts.
    while True:
        await engine.generate((5, 6, 9), short, time.monotonic() + 60)
        if not vllm_server.unfinished():
            break
    # Neither was written to its end.
    assert sum_of(vllm_server.metrics(), WRITTEN) - before < served_checkpoint.max_model_len
    await engine.close()


async def test_a_wrong_key_and_another_checkpoint_are_refused_by_name(
    vllm_server: VllmServer, served_checkpoint: Checkpoint
) -> None:
    engine = engine_over(served_checkpoint, vllm_server, api_key="wrong")
    with pytest.raises(EngineNotReady, match=r"refuses our key \(HTTP 401\)"):
        await engine.start()
    other = RemoteEngine(
        served_checkpoint.path,
        "0" * 64,
        vllm_server.options(),
        max_model_len=served_checkpoint.max_model_len,
    )
    with pytest.raises(EngineNotReady, match=f"serves '{served_checkpoint.weights_digest}'"):
        await other.start()
    assert API_KEY not in vllm_server.log()


async def test_a_server_killed_under_load_leaves_no_message_unjudged(
    vllm_server: VllmServer,
    mortal_server: VllmServer,
    served_checkpoint: Checkpoint,
    served_renderer: PromptRenderer,
) -> None:
    await asyncio.to_thread(mortal_server.ready)
    engine = engine_over(served_checkpoint, vllm_server, mortal_server)
    judge = judge_over(served_checkpoint, served_renderer, engine)
    await judge.start()
    assert engine.fleet().states()["serving"] == 2
    (policy,) = [entry.policy for entry in find_policies("") if entry.policy.id == "community"]
    texts = [example.text for _, example in examples()]
    asked = [
        question(policy, f"{texts[number % len(texts)]} {number}", "think" if number % 2 else "fast")
        for number in range(200)
    ]
    at = {one.name: one for one in engine.fleet().endpoints}
    calls = [asyncio.ensure_future(judge.judge(one)) for one in asked]
    done = 0
    while done < 20 or not at[mortal_server.url].calls:
        await asyncio.sleep(0)
        done = sum(call.done() for call in calls)
        at = {one.name: one for one in engine.fleet().endpoints}
        assert done < len(calls), "the load ended before the kill"
    mortal_server.kill()
    outcomes = await asyncio.gather(*calls)
    assert engine.alive
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Unjudged)} <= {
        "unparseable"
    }  # the tiny model's own
    assert sum(isinstance(outcome, Verdict) for outcome in outcomes) >= 0.95 * len(asked)
    view = engine.fleet()
    assert view.states()["serving"] == 1
    assert view.retries >= 1
    assert sum(one.tokens + one.calls for one in view.endpoints) == 0
    await judge.close()


async def test_a_servers_own_spans_are_children_of_the_span_that_asks(
    vllm_server: VllmServer, served_checkpoint: Checkpoint, served_renderer: PromptRenderer
) -> None:
    judge = judge_over(served_checkpoint, served_renderer, engine_over(served_checkpoint, vllm_server))
    await judge.start()
    (policy,) = [entry.policy for entry in find_policies("") if entry.policy.id == "community"]
    asked = question(policy, "how do I bake bread?", "think")
    before = len(vllm_server.collector.spans)
    # Neither gives a span, and would come first.
    await judge.judge(asked)
    with noting(CallTrace(f"00-{UNSAMPLED}-{ASKS}-00")):
        await judge.judge(asked)
    sampled = CallTrace(f"00-{SAMPLED}-{ASKS}-01")
    begun_ns = time.time_ns()
    with noting(sampled):
        outcome = await judge.judge(asked)
    ended_ns = time.time_ns()

    await until(lambda: len(vllm_server.collector.spans) >= before + len(outcome.steps))
    spans = vllm_server.collector.spans[before:]
    assert {(span.trace_id.hex(), span.parent_span_id.hex()) for span in spans} == {(SAMPLED, ASKS)}
    assert {(span.name, span.kind) for span in spans} == {("llm_request", Span.SPAN_KIND_SERVER)}
    told = [attributes_of(span)["gen_ai.usage.completion_tokens"] for span in spans]
    assert told == [step.completion_tokens for step in outcome.steps]
    for span in spans:
        assert begun_ns <= span.start_time_unix_nano <= span.end_time_unix_nano <= ended_ns
    assert b"".join(vllm_server.collector.bodies).find(b"bread") == -1
    await judge.close()


def test_the_command_judges_on_servers(
    vllm_server: VllmServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in (vllm_server.environment | {"RSAFE_GUARD__ENGINE": "remote"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RSAFE_GUARD__ENDPOINTS", vllm_server.url)
    result = CliRunner().invoke(judge_command, ["--json", "hello there"], catch_exceptions=False)
    assert result.exit_code == 0
    assert '"engine": "vllm-remote"' in result.output
    assert '"label": "safe"' in result.output
