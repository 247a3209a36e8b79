"""One vLLM for the whole session: its start takes a minute, so tests share it."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from guard.checkpoint import SHIPPED, Checkpoint, open_checkpoint
from guard.prompt import PromptRenderer
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions
from tests.conftest import require
from tests.model_folders import write_model_folder


@pytest.fixture(scope="session")
def served_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The checkpoint that `vllm_engine` runs: the shipped one, else random weights of the same kind."""
    if (SHIPPED / "tiny").is_dir():
        return open_checkpoint("tiny")
    folder: Path = write_model_folder(tmp_path_factory.mktemp("random") / "model", "qwen2")
    return open_checkpoint(str(folder), template="rsafe-compact-1")


@pytest.fixture(scope="session")
def served_renderer(served_checkpoint: Checkpoint) -> PromptRenderer:
    return PromptRenderer(served_checkpoint.path, served_checkpoint.template, b"secret of the tests")


@pytest_asyncio.fixture(scope="session")
async def vllm_engine(served_checkpoint: Checkpoint) -> AsyncIterator[VllmEngine]:
    """A started engine, which measures its calls as under trace. Tests leave it alive."""
    require(importlib.util.find_spec("vllm"), "vLLM is not installed (extra `cpu` or `gpu`)")
    options = VllmOptions(max_model_len=served_checkpoint.max_model_len, call_times=True)
    engine = VllmEngine(served_checkpoint.path, options)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
def vllm_judge(
    vllm_engine: VllmEngine, served_checkpoint: Checkpoint, served_renderer: PromptRenderer
) -> Judge:
    """A judge over the shared engine."""
    limits = JudgeLimits(
        max_model_len=served_checkpoint.max_model_len, think_budget_tokens=128, call_timeout_s=120.0
    )
    return Judge(served_checkpoint, served_renderer, vllm_engine, limits)


@pytest.fixture(scope="session")
def tiny_judge(vllm_judge: Judge) -> Judge:
    """A judge over the shipped checkpoint, for tests of what it says."""
    require((SHIPPED / "tiny").is_dir(), "the shipped checkpoint is absent")
    return vllm_judge
