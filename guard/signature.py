"""A checkpoint is signed or it is not: ed25519 over `manifest.json`, which has the digest of every file.

`manifest.sig` stands beside the manifest, as JSON. It is not part of the checkpoint: no digest covers it and
the manifest does not list it, so a checkpoint keeps its identity when it is signed, or signed anew by another
key. What is signed are the bytes of `manifest.json` as they are, so that other tools can check it, too:

    openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in manifest.json -sigfile SIGNATURE

where SIGNATURE holds the decoded bytes of the field `signature`. Keys are PEM files: the private one PKCS #8
without a password, the public one SubjectPublicKeyInfo.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from guard.checkpoint import (
    MANIFEST,
    SIGNATURE,
    decode_manifest,
    differences,
    read_whole,
    write_partial,
)
from guard.errors import CheckpointError, KeyFileError
from schemas.identifiers import Sha256

# Far more than a signature or a key; a file beyond it is something else.
_MOST_BYTES: Final = 65_536


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `manifest.sig`."""

    format: Literal["rsafe-signature-1"] = "rsafe-signature-1"
    algorithm: Literal["ed25519"] = "ed25519"
    key_id: Sha256
    """SHA-256 (hex) of the 32 bytes of the public key."""
    signature: str
    """64 bytes, base64."""


def keygen(private: Path, public: Path) -> str:
    """Make a pair of keys in two new files, the private one for its owner's eyes only; its key id.

    Raises `KeyFileError` when a file is there already or cannot be written; then neither is made.
    """
    key = Ed25519PrivateKey.generate()
    contents = (
        (
            private,
            0o600,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        ),
        (
            public,
            0o644,
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
        ),
    )
    made: list[Path] = []
    try:
        for path, mode, content in contents:
            # Never over a key that is there: what it signed could not be signed again.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            made.append(path)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        raise KeyFileError(f"{error.filename or private}: cannot be written: {error.strerror}") from error
    return _key_id(key.public_key())


def sign(folder: Path, key: Path) -> Signature:
    """Write `manifest.sig` over the manifest as it is; an older signature is replaced.

    `key` is the file of a private key. All files are read first: a folder that is not what its manifest says
    is not signed, and the bytes that are signed are those that the files were compared with. Raises
    `CheckpointError` then, and without a manifest; `KeyFileError` for the key.
    """
    private = _private_key(key)
    content = read_whole(folder / MANIFEST)
    for difference in differences(folder, decode_manifest(folder, content)):
        raise CheckpointError(difference)
    made = Signature(
        key_id=_key_id(private.public_key()),
        signature=base64.b64encode(private.sign(content)).decode(),
    )
    _write(folder, msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    return made


def signature_of(folder: Path) -> Signature | None:
    """What `manifest.sig` says, unchecked; None when there is none. Raises `CheckpointError`."""
    path = folder / SIGNATURE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(read_whole(path, _MOST_BYTES), type=Signature)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a signature of this version") from error


def verify_signature(
    folder: Path, public_keys: Sequence[Path], *, manifest_digest: str | None = None
) -> Signature:
    """The signature of the folder's manifest, made by one of 1 or more keys, each the file of a public one.

    The files are not compared with the manifest: that is `guard.checkpoint.open_checkpoint`; with the
    `manifest_digest` that it found, its manifest is what must be signed. Raises `CheckpointError` when the
    manifest is unsigned, signed by another key, not what was signed, or not the one of the digest, and
    `KeyFileError` for a key.
    """
    trusted = {_key_id(found): found for found in map(_public_key, public_keys)}
    expected = f"expected a signature by {' or '.join(sorted(trusted))}"
    found = signature_of(folder)
    if found is None:
        raise CheckpointError(f"{folder}: not signed (no {SIGNATURE}); {expected}")
    if found.key_id not in trusted:
        raise CheckpointError(f"{folder / SIGNATURE}: signed by another key, {found.key_id}; {expected}")
    content = read_whole(folder / MANIFEST)
    if manifest_digest not in (None, hashlib.sha256(content).hexdigest()):
        raise CheckpointError(
            f"{folder / MANIFEST}: changed since it was opened; expected SHA-256 {manifest_digest}"
        )
    try:
        signature = base64.b64decode(found.signature, validate=True)
        trusted[found.key_id].verify(signature, content)
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise CheckpointError(
            f"{folder / SIGNATURE}: not a signature of this {MANIFEST}, which was changed or signed as "
            f"something else; {expected}"
        ) from error
    return found


def key_ids(public_keys: Sequence[Path]) -> list[str]:
    """The id of each key, same order. Raises `KeyFileError`."""
    return [_key_id(_public_key(path)) for path in public_keys]


def signing_key_id(private: Path) -> str:
    """The id of a private key's pair, which its signatures name. Raises `KeyFileError`."""
    return _key_id(_private_key(private).public_key())


def _key_id(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(_read_key(path), password=None)
    except TypeError as error:
        raise KeyFileError(f"{path}: protected by a password; expected a private key without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path}: expected a private ed25519 key (PEM)") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: another kind of key; expected a private ed25519 key (PEM)")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    content = _read_key(path)
    if b"PRIVATE KEY-----" in content:
        raise KeyFileError(f"{path}: a private key, which should not be here; expected the public one (PEM)")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path}: expected a public ed25519 key (PEM)") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path}: another kind of key; expected a public ed25519 key (PEM)")
    return key


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise KeyFileError(f"cannot read the key {path}: {error.strerror}") from error


def _write(folder: Path, content: bytes) -> None:
    try:
        write_partial(folder / SIGNATURE, content).replace(folder / SIGNATURE)
    except OSError as error:
        raise CheckpointError(f"cannot write {folder / SIGNATURE}: {error.strerror}") from error
