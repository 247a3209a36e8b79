"""What tests of commands share."""

from __future__ import annotations

import pytest

from tests.model_folders import write_bare_folder


@pytest.fixture
def bare_guard(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings name the scripted engine and a folder without weights, which it does not need."""
    folder = write_bare_folder(tmp_path_factory.mktemp("checkpoint") / "bare")
    monkeypatch.setenv("RSAFE_GUARD__ENGINE", "scripted")
    monkeypatch.setenv("RSAFE_GUARD__CHECKPOINT", str(folder))
    monkeypatch.setenv("RSAFE_GUARD__TEMPLATE", "rsafe-compact-1")
    monkeypatch.setenv("RSAFE_GUARD__LOAD_FORMAT", "dummy")
