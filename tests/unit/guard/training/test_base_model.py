import shutil
from pathlib import Path

import msgspec
import pytest

from guard.checkpoint import SHIPPED
from guard.errors import CheckpointError, TrainingError
from guard.training.base_model import open_base
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
