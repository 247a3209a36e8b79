from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings

import pytest

from guard.serving.vllm_environment import can_load, usable_cores, variables, vllm_environment


def test_nobody_is_told_and_stdout_stays_free() -> None:
    for cpu in (True, False):
        chosen = variables({}, 4, cpu=cpu)
        assert chosen["VLLM_NO_USAGE_STATS"] == chosen["VLLM_DO_NOT_TRACK"] == "1"
        assert chosen["VLLM_LOGGING_STREAM"] == "ext://sys.stderr"


def test_vllm_is_told_of_no_collector() -> None:
    """Its core would send spans of its own to the one that is meant for ours."""
    told = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}
    for cpu in (True, False):
        assert variables(told, 4, cpu=cpu)["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == ""


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (2, "1"), (8, "7")])
def test_one_core_is_left_to_others(cores: int, threads: str) -> None:
    assert variables({}, cores, cpu=True)["OMP_NUM_THREADS"] == threads


def test_the_operators_choice_of_threads_is_kept() -> None:
    assert variables({"OMP_NUM_THREADS": "5"}, 2, cpu=True)["OMP_NUM_THREADS"] == "5"
    assert "OMP_NUM_THREADS" not in variables({}, 8, cpu=False)


def test_the_operators_choice_of_logging_is_kept() -> None:
    assert variables({"VLLM_LOGGING_LEVEL": "DEBUG"}, 2, cpu=True)["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert variables({}, 2, cpu=True)["VLLM_LOGGING_LEVEL"] == "ERROR"


def test_no_process_is_a_copy_of_this_one() -> None:
    for cpu in (True, False):
        assert variables({}, 4, cpu=cpu)["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"


def test_no_compiler_is_needed_on_the_cpu() -> None:
    assert variables({}, 2, cpu=True)["TORCH_COMPILE_DISABLE"] == "1"
    assert "TORCH_COMPILE_DISABLE" not in variables({}, 2, cpu=False)


def test_the_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "INFO")
    before = dict(os.environ)
    with vllm_environment({"VLLM_LOGGING_LEVEL": "ERROR"}):
        assert os.environ["VLLM_LOGGING_LEVEL"] == "ERROR"
        os.environ["LD_PRELOAD_OF_SOMEBODY"] = "1"
        warnings.warn("theirs to mend", DeprecationWarning, stacklevel=1)
    assert dict(os.environ) == before


def test_children_do_not_get_the_interrupt_of_the_terminal() -> None:
    script = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    with vllm_environment({}):
        inside = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert inside.stdout.strip() == "True"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_at_least_one_core_is_usable() -> None:
    assert usable_cores() >= 1


def test_a_library_of_the_system_is_found_or_not() -> None:
    assert can_load("libc.so.6")
    assert not can_load("libnosuchlibrary.so.9")
