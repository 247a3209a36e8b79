"""A release: a checkpoint that is announced for use (topic `moderation.checkpoints`).

It says which checkpoint, and by which digests whoever loads it knows it again; the files themselves, and all
figures, are in the checkpoint's folder.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.identifiers import Identifier, Sha256, Timestamp

_Word = Annotated[str, Meta(max_length=256)]


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One announcement of a checkpoint; the newest per `name` counts."""

    release_id: Sha256
    """Hash of name and checkpoint digest; the same checkpoint, announced again, has it again."""
    name: Identifier
    """Name of the checkpoint, which its later versions keep."""
    checkpoint_digest: Sha256
    """Digest of every file of the checkpoint."""
    weights_digest: Sha256
    """Digest of what changes an answer: weights, tokenizer, configuration, template."""
    manifest_digest: Sha256
    """SHA-256 of `manifest.json`, which lists the SHA-256 of every other file."""
    released_at: Timestamp
    """When it was announced."""
    base: _Word
    """What it was trained from, or `scratch`."""
    data_hash: _Word
    """Hash of the data that it was trained on."""
    template_version: _Word
    """Version of the prompt template."""
    gate_passed: bool | None = None
    """What the evaluation's gate said; one that failed is not announced. Absent: the manifest has none."""
    calibration_digest: Sha256 | None = None
    """SHA-256 of its `calibration.json`; absent: its scores are raw."""
    signed_by: Sha256 | None = None
    """Id of the key in `manifest.sig`, for whoever loads the checkpoint to check; absent: unsigned."""
    location: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    """Where its folder can be had: an address or a path that its readers understand."""


def release_id(name: str, checkpoint_digest: str) -> str:
    """SHA-256 (hex) of name and checkpoint digest, as a JSON array without spaces."""
    return hashlib.sha256(msgspec.json.encode([name, checkpoint_digest])).hexdigest()
