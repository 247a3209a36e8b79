"""The guard from the settings, for the worker and for `rsafe judge`. Checked, and not started."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from guard.calibration import Scales, open_scales
from guard.checkpoint import MANIFEST, Checkpoint, open_checkpoint
from guard.errors import CheckpointError, KeyFileError
from guard.serving.assembly import build_judge
from guard.serving.identity import JudgeLimits
from guard.serving.judge import Judge
from guard.serving.question import MODES
from guard.serving.remote_options import RemoteOptions, endpoint_urls
from guard.serving.vllm_start import VllmOptions
from schemas.decision import GuardUsed
from schemas.identifiers import Mode
from workers.adapters.tls import TlsFiles, client_context
from workers.errors import SettingsError
from workers.settings import GuardSettings, SecretsSettings, fault_hooks

if TYPE_CHECKING:
    from guard.signature import Signature

# Stands where no key is set, so that a developer's machine needs none. It keeps nothing secret.
DEVELOPMENT_KEY: Final = b"rsafe-stream development key, known to everybody"
_PROMPTS: Final = b"rsafe prompt boundary marks 1"


def content_key(secrets: SecretsSettings) -> bytes:
    """The key of content MACs, cache keys and prompts; the development key when none is set."""
    return secrets.content_key.get_secret_value().encode() or DEVELOPMENT_KEY


def stored_checkpoint(guard: GuardSettings) -> Checkpoint:
    """The checkpoint of the settings, verified; of their digest and signed, where they name digest or keys.

    Raises `CheckpointError` or `TemplateError`, and `SettingsError` for a key that cannot be used.
    """
    found = open_checkpoint(
        guard.checkpoint,
        template=guard.template,
        profile=guard.profile,
        weights=guard.load_format != "dummy",
    )
    if guard.checkpoint_digest not in ("", found.checkpoint_digest):
        raise CheckpointError(
            f"{found.path}: its digest is {found.checkpoint_digest}; RSAFE_GUARD__CHECKPOINT_DIGEST expected "
            f"{guard.checkpoint_digest}"
        )
    if keys := checkpoint_keys(guard):
        require_signature(found, keys)
    return found


def checkpoint_keys(guard: GuardSettings) -> list[Path]:
    """The files of the keys of which one must have signed a checkpoint; none: it need not be signed."""
    return [Path(name) for name in guard.checkpoint_key_files]


def trusted_key_ids(guard: GuardSettings) -> list[str]:
    """Ids of these keys, in the order of the settings. Raises `SettingsError` for one that cannot be used."""
    if not (keys := checkpoint_keys(guard)):
        return []
    from guard.signature import key_ids

    try:
        return key_ids(keys)
    except KeyFileError as error:
        raise SettingsError(f"RSAFE_GUARD__CHECKPOINT_KEYS: {error}") from error


def require_signature(checkpoint: Checkpoint, keys: Sequence[Path]) -> Signature:
    """What one of the settings' keys signed: the manifest by which the checkpoint was verified.

    Raises `CheckpointError`, also for one without a manifest, and `SettingsError` for a key that cannot be
    used.
    """
    # Imported here: without keys, nobody waits for the cryptography.
    from guard.signature import verify_signature

    try:
        found = verify_signature(checkpoint.path, keys, manifest_digest=checkpoint.manifest_digest)
    except KeyFileError as error:
        raise SettingsError(f"RSAFE_GUARD__CHECKPOINT_KEYS: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{error} (RSAFE_GUARD__CHECKPOINT_KEYS)") from error
    if checkpoint.manifest_digest is None or not checkpoint.verified:
        raise CheckpointError(
            f"{checkpoint.path}: had no {MANIFEST} when it was opened; expected a signed one "
            f"(RSAFE_GUARD__CHECKPOINT_KEYS)"
        )
    return found


def stored_scales(guard: GuardSettings, checkpoint: Checkpoint) -> Scales:
    """How the checkpoint's scores are read; raw for an engine that does not run its weights.

    Raises `CheckpointError` for a calibration that is none, or that was fitted for other weights.
    """
    if guard.calibration == "off":
        return Scales(why_raw="RSAFE_GUARD__CALIBRATION is `off`")
    if guard.engine == "scripted":
        return Scales(why_raw="the engine `scripted` runs no model")
    if guard.quantization:
        return Scales(why_raw="RSAFE_GUARD__QUANTIZATION rounds the weights that the calibration is of")
    if guard.load_format == "dummy":
        return Scales(why_raw="RSAFE_GUARD__LOAD_FORMAT is `dummy`")
    return open_scales(checkpoint, think_budget_tokens=guard.think_budget_tokens)


def guards_used(judge: Judge, scales: Scales) -> dict[Mode, GuardUsed]:
    """What decisions say of the guard, by mode."""
    return {
        mode: msgspec.structs.replace(judge.used(mode), calibration_digest=scales.digest_of(mode))
        for mode in MODES
    }


def prompt_secret(key: bytes) -> bytes:
    """What keys the boundary marks of prompts; `key` is the content key."""
    return hmac.digest(key, _PROMPTS, "sha256")


def make_judge(
    guard: GuardSettings,
    checkpoint: Checkpoint,
    scales: Scales,
    key: bytes,
    *,
    limits: JudgeLimits | None = None,
    call_times: bool = False,
) -> Judge:
    """The judge that the settings describe, not started; `key` is the content key.

    `scales` are the checkpoint's (`stored_scales`). `limits`: those of an earlier judge; of the settings only
    the time-out and the tries count then. `call_times`: whether vLLM in this program measures where the time
    of each call goes, which only traces show.

    Messages can break it where the environment asks for that (`fault_hooks`). Raises
    `guard.errors.GuardError`: an unusable tokenizer, or a length over the model's; `SettingsError` for a
    certificate of the engine `remote`.
    """
    if limits is None:
        limits = JudgeLimits(
            max_model_len=guard.max_model_len or checkpoint.max_model_len,
            think_budget_tokens=guard.think_budget_tokens,
            answer_tokens=guard.answer_tokens,
            max_text_windows=guard.max_text_windows,
            text_window_overlap_tokens=guard.text_window_overlap_tokens,
            think_score=scales.think_score,
            category_scores=guard.category_scores == "on",
        )
    # Of an earlier judge too: this one's weights are rounded as the settings say.
    limits = replace(limits, quantization=guard.quantization)
    return build_judge(
        guard.engine,
        checkpoint,
        secret=prompt_secret(key),
        limits=replace(limits, call_timeout_s=guard.call_timeout_ms / 1000, max_attempts=guard.max_attempts),
        options=replace(vllm_options(guard, limits.max_model_len), call_times=call_times),
        scripted_delay_s=guard.scripted_delay_ms / 1000,
        remote=remote_options(guard) if guard.engine == "remote" else None,
        faults=fault_hooks(),
    )


def vllm_options(guard: GuardSettings, max_model_len: int) -> VllmOptions:
    """How vLLM runs the checkpoint, in the worker and as a server."""
    return VllmOptions(
        max_model_len=max_model_len,
        max_concurrency=guard.max_concurrency,
        dtype=guard.dtype,
        load_format=guard.load_format,
        cpu_kv_cache_gib=guard.cpu_kv_cache_gib,
        gpu_memory_utilization=guard.gpu_memory_utilization,
        tensor_parallel_size=guard.tensor_parallel_size,
        data_parallel_size=guard.data_parallel_size,
        quantization=guard.quantization,
        hang_timeout_s=guard.hang_timeout_ms / 1000,
        start_timeout_s=guard.start_timeout_s,
    )


def remote_options(guard: GuardSettings) -> RemoteOptions:
    """How the servers of the settings are spoken to. Raises `SettingsError` for a certificate or a key."""
    urls = endpoint_urls(guard.endpoints)
    files = TlsFiles(
        "RSAFE_GUARD__ENDPOINT_",
        guard.endpoint_ssl_ca_location,
        guard.endpoint_ssl_certificate_location,
        guard.endpoint_ssl_key_location,
        guard.endpoint_ssl_key_password,
    )
    secure = any(url.startswith("https:") for url in urls)
    if files.any and not secure:
        raise SettingsError(
            "RSAFE_GUARD__ENDPOINTS: expected https:// with certificates in RSAFE_GUARD__ENDPOINT_SSL_…"
        )
    return RemoteOptions(
        endpoints=urls,
        addresses=guard.endpoint_addresses,
        model=guard.endpoint_model,
        api_key=guard.endpoint_api_key.get_secret_value(),
        tls=client_context(files) if secure else None,
        max_connections=guard.endpoint_max_connections,
        health_interval_s=guard.endpoint_health_interval_ms / 1000,
        failures=guard.endpoint_failures,
        back_off_s=guard.endpoint_back_off_ms / 1000,
    )
