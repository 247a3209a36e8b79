from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from guard.errors import CheckpointError, UnsupportedError
from guard.serving.judge import Judge
from tests.model_folders import MODEL_LENGTH, write_bare_folder
from workers.judging import DEVELOPMENT_KEY, content_key, make_judge, stored_checkpoint
from workers.settings import GuardSettings, SecretsSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bare_folder(tmp_path_factory.mktemp("checkpoint") / "bare")


def open_judge(guard: GuardSettings, key: bytes) -> Judge:
    return make_judge(guard, stored_checkpoint(guard), key)


def settings(folder: Path, **values: object) -> GuardSettings:
    tree = {"engine": "scripted", "checkpoint": str(folder), "load_format": "dummy"}
    return GuardSettings.model_validate({**tree, **values})


def test_the_settings_become_the_limits_of_the_judge(folder: Path) -> None:
    chosen = {"think_budget_tokens": 7, "max_text_windows": 5, "text_window_overlap_tokens": 33}
    judge = open_judge(settings(folder, call_timeout_ms=22_500, **chosen), DEVELOPMENT_KEY)
    limits = judge.identity.limits
    assert (limits.think_budget_tokens, limits.call_timeout_s) == (7, 22.5)
    assert (limits.max_text_windows, limits.text_window_overlap_tokens) == (5, 33)
    assert limits.max_model_len == MODEL_LENGTH
    assert judge.identity.engine == "scripted"


def test_a_shorter_length_is_taken_and_a_longer_one_refused(folder: Path) -> None:
    assert open_judge(settings(folder, max_model_len=100), b"key").identity.limits.max_model_len == 100
    with pytest.raises(CheckpointError, match=str(MODEL_LENGTH)):
        open_judge(settings(folder, max_model_len=MODEL_LENGTH + 1), b"key")


def test_remote_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(UnsupportedError, match="'remote'"):
        open_judge(settings(folder, engine="remote"), b"key")


def test_without_a_key_the_development_key_stands_in() -> None:
    assert content_key(SecretsSettings()) == DEVELOPMENT_KEY
    assert content_key(SecretsSettings(content_key=SecretStr("hush"))) == b"hush"
