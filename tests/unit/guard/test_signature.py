from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as make_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from guard.checkpoint import MANIFEST, SIGNATURE, Manifest, open_checkpoint, write_manifest
from guard.errors import CheckpointError, KeyFileError
from guard.signature import key_ids, keygen, sign, signature_of, verify_signature
from tests.model_folders import write_bare_folder

TENSORS = (2).to_bytes(8, "little") + b"{}"


def manifest(folder: Path, name: str = "test-1") -> None:
    write_manifest(
        folder, name=name, base="scratch", data_hash="d", template_version="rsafe-compact-1", command="rsafe"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_bare_folder(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(TENSORS)
    manifest(folder)
    return folder


class Keys:
    """A pair of keys in files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.private, self.public = folder / f"{name}.key", folder / f"{name}.pub"
        self.id = keygen(self.private, self.public)


@pytest.fixture
def ours(tmp_path: Path) -> Keys:
    return Keys(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Keys:
    return Keys(tmp_path, "theirs")


def test_what_was_signed_is_known_by_the_key(folder: Path, ours: Keys, theirs: Keys) -> None:
    signed = sign(folder, ours.private)
    assert verify_signature(folder, [theirs.public, ours.public]) == signed == signature_of(folder)
    assert key_ids([ours.public, theirs.public]) == [ours.id, theirs.id]
    assert signed.key_id == ours.id


def test_a_checkpoint_keeps_its_digests_when_it_is_signed_and_signed_anew(
    folder: Path, ours: Keys, theirs: Keys
) -> None:
    before = open_checkpoint(str(folder))
    sign(folder, ours.private)
    assert open_checkpoint(str(folder)) == before
    sign(folder, theirs.private)
    assert open_checkpoint(str(folder)) == before
    verify_signature(folder, [theirs.public])


def test_a_signature_moves_with_the_folder(folder: Path, ours: Keys, tmp_path: Path) -> None:
    sign(folder, ours.private)
    verify_signature(shutil.copytree(folder, tmp_path / "copy"), [ours.public])


def test_a_new_manifest_takes_the_old_signature_away_and_the_same_one_keeps_it(
    folder: Path, ours: Keys
) -> None:
    signed = sign(folder, ours.private)
    manifest(folder)
    assert verify_signature(folder, [ours.public]) == signed
    manifest(folder, "test-2")
    assert signature_of(folder) is None


def test_an_unsigned_checkpoint_is_refused_with_the_key_that_was_expected(folder: Path, ours: Keys) -> None:
    with pytest.raises(CheckpointError) as error:
        verify_signature(folder, [ours.public])
    assert "not signed (no manifest.sig)" in str(error.value)
    assert ours.id in str(error.value)


def test_another_key_is_refused_and_named(folder: Path, ours: Keys, theirs: Keys) -> None:
    sign(folder, theirs.private)
    with pytest.raises(CheckpointError) as error:
        verify_signature(folder, [ours.public])
    assert f"another key, {theirs.id}" in str(error.value)
    assert ours.id in str(error.value)


def test_another_key_that_takes_our_name_is_refused(folder: Path, ours: Keys, theirs: Keys) -> None:
    sign(folder, theirs.private)
    change(folder, key_id=ours.id)
    with pytest.raises(CheckpointError, match=r"manifest\.sig: not a signature of this manifest\.json"):
        verify_signature(folder, [ours.public])


def test_a_changed_manifest_is_refused(folder: Path, ours: Keys) -> None:
    sign(folder, ours.private)
    (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="not a signature of this"):
        verify_signature(folder, [ours.public])


def test_another_manifest_than_the_one_that_was_opened_is_refused_whoever_signed_it(
    folder: Path, ours: Keys
) -> None:
    opened = open_checkpoint(str(folder)).manifest_digest
    sign(folder, ours.private)
    verify_signature(folder, [ours.public], manifest_digest=opened)
    manifest(folder, "test-2")
    sign(folder, ours.private)
    with pytest.raises(CheckpointError, match=rf"manifest\.json: changed since it was opened.*{opened}"):
        verify_signature(folder, [ours.public], manifest_digest=opened)


def test_what_is_signed_is_what_the_files_were_compared_with(
    folder: Path, ours: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that is put there while the files are read is not signed along."""

    def replaced_meanwhile(place: Path, found: Manifest) -> list[str]:
        manifest(place, "another")
        return []

    monkeypatch.setattr("guard.signature.differences", replaced_meanwhile)
    sign(folder, ours.private)
    with pytest.raises(CheckpointError, match="not a signature of this"):
        verify_signature(folder, [ours.public])


def test_nothing_is_written_through_a_link(folder: Path, ours: Keys, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("untouched")
    for name in (MANIFEST, SIGNATURE):
        (folder / f".{name}.partial").symlink_to(tmp_path / "precious")
    manifest(folder, "test-2")
    signed = sign(folder, ours.private)
    assert verify_signature(folder, [ours.public]) == signed
    assert (tmp_path / "precious").read_text() == "untouched"
    assert not any((folder / name).is_symlink() for name in (MANIFEST, SIGNATURE))


def test_a_signature_is_read_up_to_a_limit(folder: Path) -> None:
    with (folder / SIGNATURE).open("wb") as file:
        file.truncate(1 << 36)
    with pytest.raises(CheckpointError, match="not a signature of this version"):
        signature_of(folder)


def test_a_changed_file_breaks_the_manifest_and_is_not_signed(folder: Path, ours: Keys) -> None:
    (folder / "model.safetensors").write_bytes(TENSORS + b"!")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: SHA-256"):
        sign(folder, ours.private)
    assert signature_of(folder) is None


def test_a_folder_without_a_manifest_is_not_signed(folder: Path, ours: Keys) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        sign(folder, ours.private)


def change(folder: Path, **fields: Any) -> None:
    content = json.loads((folder / SIGNATURE).read_text())
    (folder / SIGNATURE).write_text(json.dumps(content | fields))


@pytest.mark.parametrize(
    "fields",
    [{"signature": "no base64!"}, {"signature": ""}, {"signature": base64.b64encode(b"short").decode()}],
)
def test_a_broken_signature_is_refused(folder: Path, ours: Keys, fields: dict[str, str]) -> None:
    sign(folder, ours.private)
    change(folder, **fields)
    with pytest.raises(CheckpointError, match="not a signature of this"):
        verify_signature(folder, [ours.public])


@pytest.mark.parametrize(
    "fields", [{"format": "rsafe-signature-2"}, {"algorithm": "none"}, {"key_id": "x"}, {"signature": 1}]
)
def test_another_form_is_refused(folder: Path, ours: Keys, fields: dict[str, Any]) -> None:
    sign(folder, ours.private)
    change(folder, **fields)
    with pytest.raises(CheckpointError, match=r"manifest\.sig: not a signature of this version"):
        verify_signature(folder, [ours.public])


@given(content=st.binary(max_size=200))
def test_reading_a_signature_is_total(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / SIGNATURE).write_bytes(content)
    with pytest.raises(CheckpointError, match="not a signature of this version"):
        signature_of(folder)


def test_a_private_key_is_for_its_owner_and_never_written_over(tmp_path: Path, ours: Keys) -> None:
    assert stat.S_IMODE(ours.private.stat().st_mode) == 0o600
    before = ours.private.read_bytes()
    with pytest.raises(KeyFileError, match=r"ours\.key: cannot be written: File exists"):
        keygen(ours.private, tmp_path / "other.pub")
    with pytest.raises(KeyFileError, match=r"ours\.pub: cannot be written: File exists"):
        keygen(tmp_path / "other.key", ours.public)
    assert not (tmp_path / "other.key").exists()
    assert not (tmp_path / "other.pub").exists()
    assert ours.private.read_bytes() == before


def _pem(key: Any, encryption: Any) -> bytes:
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return pem


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "expected a private ed25519 key"),
        (b"\xff\x00", "expected a private ed25519 key"),
        (
            _pem(Ed25519PrivateKey.generate(), serialization.BestAvailableEncryption(b"pw")),
            "protected by a password",
        ),
        (_pem(make_ec_key(SECP256R1()), serialization.NoEncryption()), "another kind of key"),
    ],
)
def test_a_private_key_that_is_none_is_named(
    folder: Path, tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "bad.key"
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match=rf"bad\.key: .*{sentence}"):
        sign(folder, path)


def test_a_public_key_that_is_none_is_named(folder: Path, tmp_path: Path, ours: Keys) -> None:
    sign(folder, ours.private)
    with pytest.raises(KeyFileError, match=r"ours\.key: a private key"):
        verify_signature(folder, [ours.private])
    (tmp_path / "bad.pub").write_bytes(b"no key")
    with pytest.raises(KeyFileError, match=r"bad\.pub: expected a public ed25519 key"):
        verify_signature(folder, [tmp_path / "bad.pub"])
    with pytest.raises(KeyFileError, match=r"cannot read the key .*missing\.pub"):
        verify_signature(folder, [ours.public, tmp_path / "missing.pub"])
    ec = make_ec_key(SECP256R1()).public_key()
    pem = ec.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "ec.pub").write_bytes(pem)
    with pytest.raises(KeyFileError, match=r"ec\.pub: another kind of key"):
        verify_signature(folder, [tmp_path / "ec.pub"])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_openssl_checks_it_too(folder: Path, ours: Keys, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(base64.b64decode(sign(folder, ours.private).signature))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(ours.public), "-rawin"]
    command += ["-in", str(folder / MANIFEST), "-sigfile", str(tmp_path / "raw")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
