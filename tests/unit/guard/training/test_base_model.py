import shutil
from pathlib import Path

import msgspec
import pytest

from guard.checkpoint import SHIPPED, open_checkpoint
from guard.errors import CheckpointError, TrainingError
from guard.training.base_model import Base, copy_base, open_base
from guard.training.recipe import read_recipe
from guard.training.settings import Recipe


def recipe_over(base: str) -> Recipe:
    return msgspec.structs.replace(read_recipe("smoke"), base=base, stages=())


def test_a_folder_is_known_by_the_digest_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(SHIPPED / "tiny", folder)
    before = open_base(recipe_over(str(folder)))
    assert before.folder == folder
    assert before.identity["name"] == "base"
    assert len(before.identity["sha256"]) == 64
    (folder / "generation_config.json").write_text("{}")
    assert open_base(recipe_over(str(folder))).identity["sha256"] != before.identity["sha256"]


@pytest.mark.parametrize("base", ["no-such-folder", "/no/such/folder", "a/b/c", "../x"])
def test_what_is_neither_a_folder_nor_a_name_on_the_hub_is_refused(base: str) -> None:
    with pytest.raises(TrainingError, match="expected a folder, or a name on the hub"):
        open_base(recipe_over(base))


def test_a_base_that_cannot_be_had_from_the_hub_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        TrainingError, match="base owner/no-such-model at main: neither a folder nor to be had"
    ):
        open_base(recipe_over("owner/no-such-model"))


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("x")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="leaves the checkpoint"):
        open_base(recipe_over(str(folder)))


def test_a_snapshot_of_the_hub_is_copied_as_files(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "f00"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    names = [path.name for path in (SHIPPED / "tiny").iterdir() if path.is_file()]
    for name in [*names, "pytorch_model.bin"]:
        if name in names:
            shutil.copy(SHIPPED / "tiny" / name, blobs / name)
        else:
            (blobs / name).write_text("a pickle")
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    with pytest.raises(CheckpointError, match="leaves the checkpoint"):
        open_checkpoint(str(snapshot))
    copy_base(Base(snapshot, {"name": "owner/name", "commit": "f00"}), tmp_path / "model")
    copied = open_checkpoint(str(tmp_path / "model"))
    assert not copied.verified  # the package's own account is not the model's
    assert not any(path.is_symlink() for path in (tmp_path / "model").iterdir())
    assert "pytorch_model.bin" not in {path.name for path in (tmp_path / "model").iterdir()}
    assert copied.weights_digest == open_checkpoint("tiny").weights_digest


@pytest.mark.parametrize(("revision", "warned"), [("main", True), ("v2.5", True), ("c" * 40, False)])
def test_a_branch_of_the_hub_is_warned_of_with_the_commit_that_it_is_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, revision: str, warned: bool
) -> None:
    def download(name: str, **more: object) -> str:
        assert more["revision"] == revision
        return str(tmp_path / ("c" * 40))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    base = open_base(msgspec.structs.replace(recipe_over("owner/name"), revision=revision))
    assert base.identity == {"name": "owner/name", "commit": "c" * 40}
    assert (f"found {revision}, a branch or a tag" in base.warning) is warned
    assert base.warning.endswith(f"revision: {'c' * 40}") is warned
