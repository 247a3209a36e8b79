"""Every profile end to end on vLLM: a tiny model of the guard's architecture with random weights.

Random weights hardly ever answer in form. What is shown: the architecture loads, prompts of the profile are
read, the verdict's ids are found and have log-probabilities, so `fast` has a score, and what is not in the
grammar is unjudged. Run by `make test-engines`; each architecture takes a minute or two. Llama Guard 4's is
not among them (a vision tower comes with it): its prompt and grammar are checked in
tests/unit/guard/profiles.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from guard.checkpoint import Checkpoint, open_checkpoint
from guard.profiles.rendering import make_renderer
from guard.prompt import Turn
from guard.serving.engine import EngineParameters
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import Question
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions
from schemas.verdict import Unjudged, Verdict
from tests.conftest import require
from tests.profile_folders import write_profile_folder
from tests.unit.guard.profiles.worlds import POLICY

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(900),
    pytest.mark.skipif("RSAFE_TEST_ENGINES" not in os.environ, reason="run by `make test-engines`"),
]

LENGTH: Final = 1024
TURNS: Final = (Turn(role="user", text="hello"), Turn(role="user", text="meet me at the casino"))
# Profiles that share an architecture share a run: the first one's folder is loaded, tokenizer and all.
ARCHITECTURES: Final = {
    "Qwen2ForCausalLM": ("instruct", "rsafe-release"),
    "Qwen3ForCausalLM": ("qwen3guard-gen", "qwen3guard-gen-loose"),
    "LlamaForCausalLM": ("llama-guard-3", "llama-guard-3-policy"),
    "Gemma2ForCausalLM": ("shieldgemma",),
    "GraniteForCausalLM": ("granite-guardian-3.3",),
    "GptOssForCausalLM": ("gpt-oss-safeguard",),
}


def write_model(folder: Path, architecture: str, profile: str) -> Path:
    """The profile's folder with random weights of an architecture."""
    import torch
    import transformers

    size = write_profile_folder(folder, profile, length=LENGTH)
    end = json.loads((folder / "config.json").read_text())["eos_token_id"]
    common: dict[str, Any] = {
        "vocab_size": size,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": LENGTH,
        "head_dim": 32,
        "eos_token_id": end,
        "bos_token_id": 0,
        "pad_token_id": 0,
    }
    more: dict[str, dict[str, Any]] = {
        "Gemma2ForCausalLM": {"sliding_window": LENGTH, "query_pre_attn_scalar": 32},
        "GptOssForCausalLM": {
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "sliding_window": LENGTH,
            "rope_scaling": None,
        },
    }
    kind = getattr(transformers, architecture)
    torch.manual_seed(0)
    model = kind(kind.config_class(**common, **more.get(architecture, {})))
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=ARCHITECTURES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    require(importlib.util.find_spec("vllm"), "vLLM is not installed (extra `cpu` or `gpu`)")
    architecture: str = request.param
    folder = tmp_path_factory.mktemp("engines") / architecture
    return architecture, write_model(folder, architecture, ARCHITECTURES[architecture][0])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(loaded: tuple[str, Path]) -> AsyncIterator[VllmEngine]:
    engine = VllmEngine(loaded[1], VllmOptions(max_model_len=LENGTH))
    await engine.start()
    yield engine
    await engine.close()


async def test_a_profile_runs_end_to_end(loaded: tuple[str, Path], engine: VllmEngine) -> None:
    architecture, folder = loaded
    for name in ARCHITECTURES[architecture]:
        if name == "rsafe-release":
            write_profile_folder(folder.parent / name, name)
            (folder / "prompt_template.json").write_bytes(
                (folder.parent / name / "prompt_template.json").read_bytes()
            )
        checkpoint = open_checkpoint(str(folder), profile=name)
        await require_it_runs(checkpoint, engine)


async def require_it_runs(checkpoint: Checkpoint, engine: VllmEngine) -> None:
    profile = checkpoint.profile
    renderer = make_renderer(checkpoint.path, checkpoint.template, b"secret", profile)
    limits = JudgeLimits(
        max_model_len=LENGTH, think_budget_tokens=16, answer_tokens=8, call_timeout_s=120.0
    ).under(profile)
    tokens, policy = renderer.verdict_tokens, renderer.questions(POLICY)[0]
    completion = await engine.generate(
        renderer.render(policy, TURNS) + renderer.fast_suffix,
        EngineParameters(max_tokens=1, logprob_token_ids=tokens.ids, stop_token_ids=renderer.eos_token_ids),
        time.monotonic() + 120,
    )
    score = tokens.p_unsafe(completion.verdict_logprobs[0])
    assert score is not None
    assert 0.0 < score < 1.0
    judge = Judge(checkpoint, renderer, engine, limits)
    for mode in profile.modes:
        outcome = await judge.judge(Question(policy=POLICY, turns=TURNS, mode=mode))
        assert outcome.steps
        if isinstance(outcome, Unjudged):
            assert outcome.reason == "unparseable"
        else:
            assert isinstance(outcome, Verdict)
            assert outcome.label in ("safe", "unsafe")
