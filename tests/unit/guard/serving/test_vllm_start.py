from __future__ import annotations

import importlib.util
import multiprocessing
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from guard.errors import EngineAbsent, EngineNotReady
from guard.serving import vllm_start
from guard.serving.vllm_start import VllmOptions, engine_arguments, require_device, require_vllm, start_vllm


def test_an_absent_system_library_is_named_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(vllm_start, "installed_version", lambda distribution: "0")
    monkeypatch.setattr(vllm_start, "can_load", lambda library: False)
    with pytest.raises(EngineAbsent, match="libnuma1"):
        require_vllm()


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineAbsent, match="vLLM is not installed"):
        require_vllm()


@dataclass
class Platform:
    """What vLLM found to run on."""

    unspecified: bool

    def is_unspecified(self) -> bool:
        return self.unspecified


def test_a_build_for_gpus_that_finds_none_says_so() -> None:
    with pytest.raises(EngineNotReady, match=r"found no GPU.*`nvidia-smi`.*`cpu`"):
        require_device(Platform(unspecified=True))
    require_device(Platform(unspecified=False))


class Child:
    """The process of a start; killing it lets the start fail, as it does with vLLM."""

    def __init__(self, pid: int, over: threading.Event) -> None:
        self.pid, self.over, self.killed = pid, over, False

    def kill(self) -> None:
        self.killed = True
        self.over.set()


async def test_a_start_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    old, new = Child(1, threading.Event()), Child(2, over)
    children = [old]

    def start(folder: Path, options: VllmOptions) -> Any:
        children.append(new)
        over.wait(60)
        raise EngineNotReady("its process was killed")

    monkeypatch.setattr(vllm_start, "_start", start)
    monkeypatch.setattr(multiprocessing, "active_children", lambda: children)
    with pytest.raises(EngineNotReady, match=r"within 0\.1 s"):
        await start_vllm(Path("nowhere"), VllmOptions(max_model_len=64, start_timeout_s=0.1))
    assert new.killed
    assert not old.killed


@pytest.mark.parametrize(("code", "killed"), [(-9, True), (-15, True), (1, False), (0, False)])
def test_a_core_that_a_signal_ended_was_killed(code: int, killed: bool) -> None:
    said = f"initialization failed. See root cause above. Failed core proc(s): {{'EngineCore': {code}}}"
    assert bool(vllm_start._BY_SIGNAL.search(said)) == killed


def test_a_core_that_ended_without_an_exit_code_yet_counts_as_killed() -> None:
    assert vllm_start._BY_SIGNAL.search("initialization failed. Failed core proc(s): {}")


def test_prompts_share_what_they_begin_with_unless_a_benchmark_switches_that_off(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for cpu in (True, False):
        usual = engine_arguments(tmp_path, VllmOptions(max_model_len=64), cpu=cpu)
        off = engine_arguments(tmp_path, VllmOptions(max_model_len=64, prefix_caching=False), cpu=cpu)
        assert (usual["enable_prefix_caching"], off["enable_prefix_caching"]) == (True, False)


def test_parallel_sizes_and_rounding_reach_vllm_by_its_own_names(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    plain = VllmOptions(max_model_len=64)
    divided = VllmOptions(max_model_len=64, tensor_parallel_size=4, data_parallel_size=2, quantization="fp8")
    names = ("tensor_parallel_size", "data_parallel_size", "quantization")
    for cpu in (True, False):
        usual, other = (engine_arguments(tmp_path, options, cpu=cpu) for options in (plain, divided))
        assert [usual[name] for name in names] == [1, 1, None]
        assert [other[name] for name in names] == [4, 2, "fp8"]
    # Within one process there is nobody to divide a matrix with.
    assert engine_arguments(tmp_path, divided, cpu=True)["distributed_executor_backend"] == "mp"


def test_a_step_on_the_cpu_takes_as_many_tokens_as_that_of_vllms_offline_engine(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    options = VllmOptions(max_model_len=64)
    assert engine_arguments(tmp_path, options, cpu=True)["max_num_batched_tokens"] == 4096
    # On a GPU vLLM fits it to the memory.
    assert "max_num_batched_tokens" not in engine_arguments(tmp_path, options, cpu=False)
