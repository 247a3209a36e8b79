from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

from guard.checkpoint import Checkpoint, open_checkpoint
from guard.errors import CheckpointError, UnsupportedError
from guard.prompt import PromptRenderer
from guard.serving.assembly import EngineName, build_engine, build_judge
from guard.serving.fleet_view import FleetView
from guard.serving.identity import JudgeLimits
from guard.serving.remote_options import RemoteOptions
from guard.serving.vllm_start import VllmOptions
from tests.model_folders import MODEL_LENGTH, write_bare_folder

OPTIONS = VllmOptions(max_model_len=MODEL_LENGTH)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder: Path = write_bare_folder(tmp_path_factory.mktemp("checkpoint"))
    return open_checkpoint(str(folder), weights=False)


def test_remote_without_servers_is_refused(checkpoint: Checkpoint) -> None:
    renderer = PromptRenderer(checkpoint.path, checkpoint.template, b"secret")
    with pytest.raises(UnsupportedError, match="RSAFE_GUARD__ENDPOINTS"):
        build_engine("remote", checkpoint, renderer, OPTIONS)


def test_a_judge_over_servers_shows_them_and_cannot_be_broken_by_messages(checkpoint: Checkpoint) -> None:
    limits, remote = JudgeLimits(max_model_len=MODEL_LENGTH), RemoteOptions(endpoints=("http://127.0.0.1:1",))
    built = partial(
        build_judge, "remote", checkpoint, secret=b"secret", limits=limits, options=OPTIONS, remote=remote
    )
    judge = built()
    assert judge.identity.engine == "vllm-remote"
    assert judge.identity.decoding("fast").startswith("vllm-remote greedy")
    assert judge.fleet() == FleetView()
    with pytest.raises(UnsupportedError, match="messages cannot break"):
        built(faults=True)


def test_a_judge_without_servers_shows_none(checkpoint: Checkpoint) -> None:
    limits = JudgeLimits(max_model_len=MODEL_LENGTH)
    judge = build_judge("scripted", checkpoint, secret=b"secret", limits=limits, options=OPTIONS)
    assert judge.fleet() is None
    judge.tell_of_fleet(lambda name, state, why: None)


@pytest.mark.parametrize(("name", "shown"), [("scripted", "scripted"), ("vllm", "vllm")])
def test_an_engine_has_its_name_and_is_not_started(
    checkpoint: Checkpoint, name: EngineName, shown: str
) -> None:
    limits = JudgeLimits(max_model_len=MODEL_LENGTH)
    judge = build_judge(name, checkpoint, secret=b"secret", limits=limits, options=OPTIONS)
    assert judge.identity.engine == shown
    assert not judge.alive


def test_random_weights_are_named_in_every_decision(checkpoint: Checkpoint) -> None:
    renderer = PromptRenderer(checkpoint.path, checkpoint.template, b"secret")
    options = VllmOptions(max_model_len=MODEL_LENGTH, load_format="dummy")
    assert build_engine("vllm", checkpoint, renderer, options).name == "vllm-dummy"


def test_a_length_over_the_models_is_refused(checkpoint: Checkpoint) -> None:
    limits = JudgeLimits(max_model_len=MODEL_LENGTH + 1)
    with pytest.raises(CheckpointError, match=f"reads {MODEL_LENGTH} tokens"):
        build_judge("scripted", checkpoint, secret=b"secret", limits=limits, options=OPTIONS)


def test_putting_a_guard_together_imports_no_vllm() -> None:
    import subprocess

    script = (
        "import sys, guard.serving.assembly, guard.checkpoint\n"
        "print([name for name in ('vllm', 'torch', 'transformers') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
