from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from guard.checkpoint import CALIBRATION, MANIFEST, open_checkpoint, write_manifest
from guard.errors import CheckpointError
from tests.model_folders import MODEL_LENGTH, write_bare_folder

# An empty safetensors file: the length of the header, and the header.
TENSORS = (2).to_bytes(8, "little") + b"{}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_bare_folder(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(TENSORS)
    (folder / "README.md").write_text("a model")
    return folder


def sign(folder: Path) -> None:
    write_manifest(
        folder,
        name="test-1",
        base="scratch",
        data_hash="d" * 64,
        template_version="rsafe-compact-1",
        command="rsafe train",
        metrics={"f1": 0.5},
    )


def test_a_folder_with_its_manifest_is_verified(folder: Path) -> None:
    sign(folder)
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.verified
    assert checkpoint.name == "test-1"
    assert checkpoint.max_model_len == MODEL_LENGTH
    assert checkpoint.manifest is not None
    assert checkpoint.manifest.files["model.safetensors"] == hashlib.sha256(TENSORS).hexdigest()


def test_a_folder_without_manifest_has_digests_and_is_unverified(folder: Path) -> None:
    checkpoint = open_checkpoint(str(folder))
    assert not checkpoint.verified
    assert len(checkpoint.checkpoint_digest) == len(checkpoint.weights_digest) == 64


def test_signing_again_gives_the_same_manifest(folder: Path) -> None:
    sign(folder)
    first = (folder / MANIFEST).read_bytes()
    sign(folder)
    assert (folder / MANIFEST).read_bytes() == first


def test_prose_changes_the_checkpoint_and_not_the_weights(folder: Path) -> None:
    before = open_checkpoint(str(folder))
    (folder / "README.md").write_text("another text")
    after = open_checkpoint(str(folder))
    assert after.weights_digest == before.weights_digest
    assert after.checkpoint_digest != before.checkpoint_digest


def test_a_calibration_changes_the_checkpoint_and_not_the_weights(folder: Path) -> None:
    """So that a calibration that is fitted anew keeps the cached verdicts, which are raw."""
    before = open_checkpoint(str(folder))
    (folder / CALIBRATION).write_text("{}")
    after = open_checkpoint(str(folder))
    assert after.weights_digest == before.weights_digest
    assert after.checkpoint_digest != before.checkpoint_digest
    sign(folder)
    (folder / CALIBRATION).write_text("{ }")
    with pytest.raises(CheckpointError, match=r"calibration\.json: SHA-256"):
        open_checkpoint(str(folder))


def test_only_the_calibration_of_the_folder_itself_is_spared(folder: Path) -> None:
    before = open_checkpoint(str(folder))
    (folder / "sub").mkdir()
    (folder / "sub" / CALIBRATION).write_text("{}")
    assert open_checkpoint(str(folder)).weights_digest != before.weights_digest


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja"]
)
def test_what_changes_an_answer_changes_both_digests(folder: Path, name: str) -> None:
    before = open_checkpoint(str(folder))
    content = (folder / name).read_bytes() if (folder / name).exists() else b""
    (folder / name).write_bytes(content + b" ")
    after = open_checkpoint(str(folder))
    assert after.weights_digest != before.weights_digest
    assert after.checkpoint_digest != before.checkpoint_digest


def test_another_template_changes_the_weights_digest(folder: Path) -> None:
    own = open_checkpoint(str(folder), template="rsafe-instruct-1")
    other = open_checkpoint(str(folder), template="rsafe-compact-1")
    assert own.weights_digest != other.weights_digest
    assert own.checkpoint_digest == other.checkpoint_digest


def test_the_place_of_the_folder_does_not_matter(folder: Path, tmp_path: Path) -> None:
    sign(folder)
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert open_checkpoint(str(moved)).checkpoint_digest == open_checkpoint(str(folder)).checkpoint_digest


def test_a_changed_file_is_named_with_both_digests(folder: Path) -> None:
    sign(folder)
    changed = TENSORS + b"!"
    (folder / "model.safetensors").write_bytes(changed)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(str(folder))
    for part in (
        "model.safetensors",
        hashlib.sha256(TENSORS).hexdigest(),
        hashlib.sha256(changed).hexdigest(),
    ):
        assert part in str(error.value)


def test_a_missing_file_is_named(folder: Path) -> None:
    sign(folder)
    (folder / "README.md").unlink()
    with pytest.raises(CheckpointError, match=r"README\.md: missing"):
        open_checkpoint(str(folder))


def test_an_extra_file_is_named(folder: Path) -> None:
    sign(folder)
    (folder / "sub").mkdir()
    (folder / "sub" / "extra.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"sub/extra\.json: not in the manifest"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "weights.pt", "state.pkl", "old.ckpt", "sub/model.pth"]
)
def test_pickles_are_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="pickle"):
        open_checkpoint(str(folder))
    with pytest.raises(CheckpointError, match="pickle"):
        sign(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_in_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text(json.dumps({"auto_map": {"AutoModel": "model.Model"}}))
    with pytest.raises(CheckpointError, match="auto_map"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_that_is_no_model_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"no {name}"):
        open_checkpoint(str(folder))


def test_a_folder_without_weights_is_refused_unless_asked_for(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        open_checkpoint(str(folder))
    assert not open_checkpoint(str(folder), weights=False).verified


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", TENSORS[:-1]])
def test_weights_that_are_no_safetensors_are_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a safetensors file"):
        open_checkpoint(str(folder))


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere.safetensors"
    secret.write_bytes(TENSORS)
    (folder / "second.safetensors").symlink_to(secret)
    with pytest.raises(CheckpointError, match="leaves the checkpoint"):
        open_checkpoint(str(folder))


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / "second.safetensors").symlink_to("model.safetensors")
    sign(folder)
    assert open_checkpoint(str(folder)).verified


def test_hidden_files_are_not_part_of_it(folder: Path) -> None:
    sign(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.pt").write_bytes(b"")
    assert open_checkpoint(str(folder)).verified


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": "other-9"}', b"\xff"])
def test_a_manifest_that_is_none_is_named(folder: Path, content: bytes) -> None:
    sign(folder)
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        open_checkpoint(str(folder))


def test_a_manifest_of_another_format_is_refused(folder: Path) -> None:
    sign(folder)
    text = (folder / MANIFEST).read_text().replace("rsafe-checkpoint-1", "rsafe-checkpoint-9")
    (folder / MANIFEST).write_text(text)
    with pytest.raises(CheckpointError, match="expected 'rsafe-checkpoint-1'"):
        open_checkpoint(str(folder))


def test_an_absent_checkpoint_is_refused_with_the_shipped_names(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a folder, or a shipped name"):
        open_checkpoint(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="no checkpoint 'absent'"):
        open_checkpoint("absent")


@pytest.mark.parametrize("length", [0, "many"])
def test_a_length_that_is_none_is_refused(folder: Path, length: object) -> None:
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": length}))
    with pytest.raises(CheckpointError, match="max_position_embeddings"):
        open_checkpoint(str(folder))


def test_the_length_of_a_nested_configuration_is_read(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 77}}))
    assert open_checkpoint(str(folder)).max_model_len == 77
