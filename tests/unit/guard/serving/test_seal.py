from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from guard import checkpoint
from guard.checkpoint import file_digest, open_checkpoint
from guard.errors import CheckpointError
from guard.serving.seal import Seal
from tests.model_folders import write_bare_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bare_folder(tmp_path / "model")


def sealed(folder: Path) -> Seal:
    return Seal(open_checkpoint(str(folder), weights=False))


def test_what_was_not_touched_passes_without_being_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = sealed(folder)
    monkeypatch.setattr("guard.serving.seal.checkpoint_digest", lambda _: pytest.fail("read"))
    seal.check()


def test_equal_content_written_anew_passes(folder: Path) -> None:
    seal = sealed(folder)
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    copy.rename(folder)
    os.utime(folder / "config.json", (1, 1))
    seal.check()
    seal.check()


def test_changed_content_is_refused_with_both_digests(folder: Path) -> None:
    seal = sealed(folder)
    verified = open_checkpoint(str(folder), weights=False).checkpoint_digest
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(CheckpointError, match=f"changed since it was opened.*{verified}"):
        seal.check()


def test_what_was_replaced_between_opening_and_sealing_is_refused(folder: Path) -> None:
    opened = open_checkpoint(str(folder), weights=False)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(CheckpointError, match="changed since it was opened"):
        Seal(opened).check()


def test_what_was_replaced_while_it_was_verified_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is another one from the moment on in which its digest is known."""

    def digest(path: Path) -> str:
        found = file_digest(path)
        if path.name == "config.json":
            path.write_text('{"model_type": "qwen2"}')
        return found

    monkeypatch.setattr(checkpoint, "file_digest", digest)
    opened = open_checkpoint(str(folder), weights=False)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="changed since it was opened"):
        Seal(opened).check()


def test_a_file_more_is_refused(folder: Path) -> None:
    seal = sealed(folder)
    (folder / "adapter.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="changed"):
        seal.check()


def test_a_folder_that_is_gone_is_refused(folder: Path) -> None:
    seal = sealed(folder)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="cannot read"):
        seal.check()
