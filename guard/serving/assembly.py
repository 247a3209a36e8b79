"""Puts a guard together from plain values; nothing is started."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, assert_never

from guard.checkpoint import Checkpoint
from guard.errors import CheckpointError, UnsupportedError
from guard.profiles.rendering import Renderer, make_renderer
from guard.serving.fault_hook import FaultyJudge
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.remote_engine import RemoteEngine
from guard.serving.remote_options import RemoteOptions
from guard.serving.scripted_engine import ScriptedEngine
from guard.serving.vllm_engine import VllmEngine
from guard.serving.vllm_start import VllmOptions

EngineName = Literal["vllm", "remote", "scripted"]


def build_engine(
    name: EngineName,
    checkpoint: Checkpoint,
    renderer: Renderer,
    options: VllmOptions,
    *,
    scripted_delay_s: float = 0.0,
    remote: RemoteOptions | None = None,
) -> VllmEngine | ScriptedEngine | RemoteEngine:
    """The engine of a name; `remote` needs its options, or `UnsupportedError`."""
    match name:
        case "vllm":
            return VllmEngine(checkpoint.path, options)
        case "scripted":
            return ScriptedEngine(
                renderer,
                delay_s=scripted_delay_s,
                max_model_len=options.max_model_len,
                hang_timeout_s=options.hang_timeout_s,
            )
        case "remote":
            if remote is None:
                raise UnsupportedError("the engine `remote` needs servers; expected RSAFE_GUARD__ENDPOINTS")
            return RemoteEngine(
                checkpoint.path,
                checkpoint.weights_digest,
                remote,
                max_model_len=options.max_model_len,
                load_format=options.load_format,
                quantization=options.quantization,
                hang_timeout_s=options.hang_timeout_s,
                start_timeout_s=options.start_timeout_s,
            )
        case _:
            assert_never(name)


def build_judge(
    name: EngineName,
    checkpoint: Checkpoint,
    *,
    secret: bytes,
    limits: JudgeLimits,
    options: VllmOptions,
    scripted_delay_s: float = 0.0,
    remote: RemoteOptions | None = None,
    faults: bool = False,
) -> Judge:
    """The judge over a checkpoint. `secret` keys the nonces of prompts; `faults`: messages may break it;
    refused with `remote`.

    Limits and options speak of one length in tokens; it is at most the checkpoint's, or `CheckpointError`.
    """
    length = limits.max_model_len
    if length > checkpoint.max_model_len:
        raise CheckpointError(
            f"{checkpoint.path}: the model reads {checkpoint.max_model_len} tokens; {length} were asked for"
        )
    renderer = make_renderer(checkpoint.path, checkpoint.template, secret, checkpoint.profile)
    limits = limits.under(checkpoint.profile)
    engine = build_engine(
        name,
        checkpoint,
        renderer,
        replace(options, max_model_len=length),
        scripted_delay_s=scripted_delay_s,
        remote=remote,
    )
    if not faults:
        return Judge(checkpoint, renderer, engine, limits)
    if isinstance(engine, RemoteEngine):
        raise UnsupportedError(
            "messages cannot break the servers of the engine `remote`; unset the test hooks"
        )
    return FaultyJudge(checkpoint, renderer, engine, limits)
