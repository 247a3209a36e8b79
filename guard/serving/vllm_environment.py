"""The environment in which vLLM is imported and started; the only place that sets its variables.

vLLM is configured by environment variables, starts a process of its own, and changes variables itself. All of
that is confined to the start: `vllm_environment` puts the environment back as it was.
"""

from __future__ import annotations

import ctypes
import os
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Final

_ALWAYS: Final = {
    # Nobody is told that we run.
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    # Its core, told of a collector, sends spans of its start, though nobody asked for them. A server that is
    # to send spans is told so by `--otlp-traces-endpoint`, which sets this anew.
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
    # Never on stdout, which belongs to our commands.
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    # A copy of a process with the threads of Kafka's client in it may hang, and holds its sockets open.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
    # A checkpoint is a folder; nothing is to be looked up elsewhere.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}
_UNLESS_SET: Final = {
    # Only what went wrong.
    "VLLM_LOGGING_LEVEL": "ERROR",
    # Its parts speak to each other on this machine alone.
    "VLLM_HOST_IP": "127.0.0.1",
}


def variables(present: Mapping[str, str], cores: int, *, cpu: bool) -> dict[str, str]:
    """What is set while vLLM is imported and started; `cores` is how many this process may use."""
    chosen = _ALWAYS | {name: present.get(name, value) for name, value in _UNLESS_SET.items()}
    if not cpu:
        return chosen
    return chosen | {
        # One process less: 30 s less of start on two cores, and no hop between processes per token.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # One core is for this process and the clients. Threads that wait for a core in turn collapse: two of
        # them on two busy cores took 15 times as long per token as one.
        "OMP_NUM_THREADS": present.get("OMP_NUM_THREADS", str(max(1, cores - 1))),
        "OMP_WAIT_POLICY": "PASSIVE",
        # Even run eagerly, vLLM has torch compile a small function when the first answer is sampled, and on a
        # machine without a C++ compiler its process died of that.
        "TORCH_COMPILE_DISABLE": "1",
    }


@contextmanager
def vllm_environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Set variables, and afterwards put back whatever anybody changed meanwhile. For one start at a time.

    Processes started inside do not get Ctrl-C: a terminal sends it to the whole group, and the engine has to
    answer until this process has drained.
    """
    before = dict(os.environ)
    os.environ.update(changes)
    # Its start would unblock the signal again.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with warnings.catch_warnings():
            # Deprecations inside vLLM and torch are theirs to mend.
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def can_load(library: str) -> bool:
    """Whether the system has a shared library, by its file name."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))
