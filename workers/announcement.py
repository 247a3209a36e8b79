"""Announces a checkpoint: its release as a record of the topic of checkpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from guard.checkpoint import CALIBRATION, MANIFEST, Checkpoint, open_checkpoint
from guard.signature import signature_of
from schemas.release import Release, release_id
from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import RecordWriter
from workers.errors import UsageError
from workers.judging import checkpoint_keys, require_signature
from workers.settings import Settings

RELEASE_TYPE: Final = "rsafe.checkpoint.release.v1"
_SOURCE: Final = "/rsafe-stream/checkpoints"


def announce(checkpoint: str, settings: Settings, *, now: datetime, location: str | None = None) -> Release:
    """Publish the release of a checkpoint, a folder or a shipped name; returns when it is acknowledged.

    Its files are verified first, and its signature where the settings name keys. Raises what `release_of`
    does, `CheckpointError` (files or signature), `StartError` (no broker, no topic) and `StreamStopped`.
    """
    release = release_of(open_checkpoint(checkpoint), settings, now=now, location=location)
    publish(release, settings)
    return release


def release_of(
    checkpoint: Checkpoint, settings: Settings, *, now: datetime, location: str | None = None
) -> Release:
    """What is to be announced of a checkpoint; `now` has an offset.

    Raises `UsageError` for one without a manifest, of which nothing is known; for one that its gate let fail;
    and for a field that the wire does not take. `CheckpointError` for the signature.
    """
    manifest = checkpoint.manifest
    if manifest is None:
        raise UsageError(f"{checkpoint.path}: no {MANIFEST}; expected a packaged checkpoint")
    passed = manifest.gate.get("passed")
    if passed not in (True, None):
        raise UsageError(f"{checkpoint.path}: its gate says passed: {passed!r}; expected one that passed it")
    keys = checkpoint_keys(settings.guard)
    signature = require_signature(checkpoint, keys) if keys else signature_of(checkpoint.path)
    fields = {
        "release_id": release_id(manifest.name, checkpoint.checkpoint_digest),
        "name": manifest.name,
        "checkpoint_digest": checkpoint.checkpoint_digest,
        "weights_digest": checkpoint.weights_digest,
        "manifest_digest": checkpoint.manifest_digest,
        "released_at": now,
        "base": manifest.base,
        "data_hash": manifest.data_hash,
        "template_version": manifest.template_version,
        "gate_passed": passed,
        "calibration_digest": manifest.files.get(CALIBRATION),
        "signed_by": None if signature is None else signature.key_id,
        "location": location,
    }
    try:
        return msgspec.convert(fields, Release)
    except msgspec.ValidationError as error:
        raise UsageError(f"{checkpoint.path}: cannot be announced: {error}") from error


def publish(release: Release, settings: Settings) -> None:
    """Write the release to its topic, keyed by name. Raises `StartError` and `StreamStopped`."""
    kafka = settings.kafka
    writer = RecordWriter(
        client_options(kafka),
        kafka.checkpoints_topic,
        timeout_s=kafka.start_timeout_s,
        delivery_timeout_ms=kafka.delivery_timeout_ms,
    )
    writer.send(release.name.encode(), msgspec.json.encode(release), headers_of(release))
    writer.finish()


def headers_of(release: Release) -> list[tuple[str, bytes | None]]:
    """CloudEvents 1.0 in binary mode; a release has no cause."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", RELEASE_TYPE.encode()),
        ("content-type", b"application/json"),
        ("ce_source", _SOURCE.encode()),
        ("ce_id", release.release_id.encode()),
    ]
