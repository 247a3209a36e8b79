from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from guard.checkpoint import Checkpoint, open_checkpoint
from guard.errors import EngineDead
from guard.prompt import PromptRenderer, Turn
from guard.serving.fault_hook import FaultyJudge
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.scripted_engine import ScriptedEngine
from schemas.identifiers import Mode
from schemas.policy import Category, Policy
from schemas.verdict import Unjudged, Verdict
from tests.model_folders import MODEL_LENGTH, write_bare_folder
from tests.waiting import until

POLICY = Policy(
    id="test", version="1", categories=(Category(code="C1", title="gambling", definition="casino"),)
)
HANG_S = 0.05


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder: Path = write_bare_folder(tmp_path_factory.mktemp("checkpoint"))
    return open_checkpoint(str(folder), template="rsafe-compact-1", weights=False)


@pytest.fixture(scope="module")
def renderer(checkpoint: Checkpoint) -> PromptRenderer:
    return PromptRenderer(checkpoint.path, checkpoint.template, b"secret")


@pytest_asyncio.fixture
async def engine(renderer: PromptRenderer) -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine(renderer, hang_timeout_s=HANG_S)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
def judge(checkpoint: Checkpoint, renderer: PromptRenderer, engine: ScriptedEngine) -> FaultyJudge:
    limits = JudgeLimits(max_model_len=MODEL_LENGTH, think_budget_tokens=64, call_timeout_s=30.0)
    return FaultyJudge(checkpoint, renderer, engine, limits)


def question(text: str, mode: Mode = "think") -> Question:
    return Question(policy=POLICY, turns=(Turn(role="user", text=text),), mode=mode)


@pytest.mark.parametrize("mode", ["think", "fast"])
async def test_without_a_marker_it_is_a_judge(judge: FaultyJudge, mode: Mode) -> None:
    assert isinstance(await judge.judge(question("hello [[rsafe-fault]] kill", mode)), Verdict)


async def test_a_marker_in_an_earlier_turn_does_nothing(judge: FaultyJudge) -> None:
    turns = (Turn(role="user", text="[[rsafe-fault kill]]"), Turn(role="user", text="hello"))
    assert isinstance(await judge.judge(Question(policy=POLICY, turns=turns, mode="think")), Verdict)


@pytest.mark.parametrize("fault", ["kill", "hang"])
@pytest.mark.parametrize("mode", ["think", "fast"])
async def test_the_engine_breaks_each_time_and_others_in_flight_with_it(
    judge: FaultyJudge, engine: ScriptedEngine, fault: str, mode: Mode
) -> None:
    for _ in range(2):
        bad = asyncio.create_task(judge.judge(question(f"so [[rsafe-fault {fault}]] it is", mode)))
        if fault == "hang":
            await until(lambda: engine._run is not None and engine._run.hangs)
        good = asyncio.create_task(judge.judge(question("hello", mode)))
        for outcome in await asyncio.gather(bad, good, return_exceptions=True):
            assert isinstance(outcome, EngineDead)
        assert not judge.alive
        await judge.gone()
        await judge.start()
    assert isinstance(await judge.judge(question("hello", mode)), Verdict)


@pytest.mark.parametrize("mode", ["think", "fast"])
async def test_garbage_is_unparseable(judge: FaultyJudge, mode: Mode) -> None:
    outcome = await judge.judge(question("[[rsafe-fault garbage]]", mode))
    assert isinstance(outcome, Unjudged)
    assert outcome.reason == "unparseable"
    assert judge.alive


async def test_a_slow_judgement_is_slow_alone(judge: FaultyJudge) -> None:
    begun = time.monotonic()
    slow = asyncio.create_task(judge.judge(question("[[rsafe-fault slow:0.2s]]")))
    assert isinstance(await judge.judge(question("hello")), Verdict)
    assert not slow.done()
    assert isinstance(await slow, Verdict)
    assert time.monotonic() - begun >= 0.2


async def test_a_slow_judgement_keeps_its_deadline(judge: FaultyJudge) -> None:
    outcome = await judge.judge(question("[[rsafe-fault slow:3000s]]"), deadline_s=time.monotonic() + 0.02)
    assert isinstance(outcome, Unjudged)
    assert outcome.reason == "late"


def test_it_is_a_judge_of_the_same_identity(judge: FaultyJudge) -> None:
    assert isinstance(judge, Judge)
    assert judge.identity.engine == "scripted"
