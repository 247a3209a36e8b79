"""Any causal language model in the Hugging Face layout is served; one that has learnt nothing is unjudged."""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import time
from collections.abc import AsyncIterator
from multiprocessing.process import BaseProcess

import pytest
import pytest_asyncio

from guard.checkpoint import Checkpoint, open_checkpoint
from guard.errors import EngineDead, EngineKilled, EngineNotReady
from guard.prompt import PromptRenderer, Turn
from guard.serving.engine import EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions
from schemas.identifiers import Mode
from schemas.policy import Category, Policy
from schemas.verdict import Unjudged
from tests.conftest import require
from tests.model_folders import MODEL_LENGTH, write_model_folder
from tests.waiting import until
from workers.stream.outage import Outage

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

POLICY = Policy(
    id="test", version="1", categories=(Category(code="C1", title="gambling", definition="casino; betting;"),)
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    require(importlib.util.find_spec("vllm"), "vLLM is not installed (extra `cpu` or `gpu`)")
    folder = write_model_folder(tmp_path_factory.mktemp("second") / "gpt-neox", "gpt_neox")
    # Its instructions are short enough for this length.
    return open_checkpoint(str(folder), template="rsafe-compact-1")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(checkpoint: Checkpoint) -> AsyncIterator[VllmEngine]:
    engine = VllmEngine(checkpoint.path, VllmOptions(max_model_len=MODEL_LENGTH))
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="module")
def judge(checkpoint: Checkpoint, engine: VllmEngine) -> Judge:
    renderer = PromptRenderer(checkpoint.path, checkpoint.template, b"secret")
    limits = JudgeLimits(
        max_model_len=MODEL_LENGTH, think_budget_tokens=16, answer_tokens=8, call_timeout_s=120.0
    )
    return Judge(checkpoint, renderer, engine, limits)


@pytest.mark.parametrize("mode", ["think", "fast"])
async def test_random_weights_are_unjudged(judge: Judge, mode: Mode) -> None:
    turns = (Turn(role="user", text="meet me at the casino"),)
    outcome = await judge.judge(Question(policy=POLICY, turns=turns, mode=mode))
    assert isinstance(outcome, Unjudged)
    assert outcome.reason == "unparseable"
    assert outcome.steps
    assert judge.alive


class Observer:
    def __init__(self) -> None:
        self.changes: list[bool] = []
        self.failures: list[Exception] = []

    def guard_changed(self, down: bool) -> None:
        self.changes.append(down)

    def guard_not_back(self, error: Exception, pause_s: float) -> None:
        self.failures.append(error)


async def test_a_guard_that_is_killed_idle_and_again_while_it_starts_comes_back(
    judge: Judge, engine: VllmEngine
) -> None:
    observer, first = Observer(), engine_processes()[-1]
    outage = Outage(judge.start, EngineNotReady, observer=observer, alive=lambda: judge.alive)
    outage.watch(judge.gone)
    others = engine_processes()
    first.kill()
    await until(lambda: outage.down)
    await until(lambda: not set(engine_processes()) <= set(others))
    engine_processes()[-1].kill()
    await until(lambda: bool(observer.failures))
    await outage.hold()
    assert observer.changes == [True, False]
    assert [type(error) for error in observer.failures] == [EngineKilled]
    turns = (Turn(role="user", text="meet me at the casino"),)
    outcome = await judge.judge(Question(policy=POLICY, turns=turns, mode="fast"))
    assert isinstance(outcome, Unjudged)
    assert outcome.steps
    await outage.close()


async def test_closing_ends_calls_in_flight_and_leaves_no_process(engine: VllmEngine) -> None:
    parameters = EngineParameters(max_tokens=MODEL_LENGTH - 10, logprob_token_ids=(5, 6))
    core = engine_processes()[-1]
    call = asyncio.ensure_future(engine.generate((7,), parameters, time.monotonic() + 240))
    await until(lambda: engine.calls_in_flight == 1)
    await engine.close()
    with pytest.raises(EngineDead):
        await call
    assert not engine.alive
    core.join(timeout=60)
    assert not core.is_alive()
    await engine.close()


def engine_processes() -> list[BaseProcess]:
    """Processes of engines, the newest last; those of other tests are older."""
    found = [child for child in multiprocessing.active_children() if "EngineCore" in child.name]
    # By the number of the child, counted up in this process: process ids begin anew after the last one.
    return sorted(found, key=lambda child: child._identity)
