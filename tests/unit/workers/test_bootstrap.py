"""What is refused before a broker is asked for anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.checkpoint import write_manifest
from guard.errors import CheckpointError
from guard.signature import keygen, sign
from tests.model_folders import write_bare_folder
from tests.unit.guard import calibrations
from workers.bootstrap import check
from workers.errors import SettingsError, StartError
from workers.settings import Settings

POLICY = """
id: strict
version: "1"
mode: {mode}
max_false_positive_rate: {rate}
categories:
  - {{code: C1, title: gambling, definition: casino}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_bare_folder(tmp_path / "model")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    calibrations.write(folder, calibrations.content(folder, modes={"fast": calibrations.mode()}))
    return folder


def settings(folder: Path, mode: str, rate: float, **guard: str) -> Settings:
    path = folder.parent / "strict.yaml"
    path.write_text(POLICY.format(mode=mode, rate=rate))
    return Settings.model_validate(
        {
            "policies": {"path": str(path), "default": "strict"},
            "guard": {"checkpoint": str(folder), "template": "rsafe-compact-1", **guard},
            # Nobody listens there.
            "kafka": {"bootstrap_servers": "127.0.0.1:9", "start_timeout_s": 0.1},
        }
    )


@pytest.mark.parametrize(
    ("mode", "rate", "guard", "why"),
    [
        ("think", 0.01, {}, "has nothing for this mode"),
        ("fast", 0.01, {"calibration": "off"}, "RSAFE_GUARD__CALIBRATION is `off`"),
        ("fast", 0.01, {"engine": "scripted"}, "the engine `scripted` runs no model"),
        ("fast", 0.001, {}, "expected at least 0.01"),
    ],
)
def test_a_rate_that_cannot_be_resolved_ends_the_start_with_the_policys_name(
    folder: Path, mode: str, rate: float, guard: dict[str, str], why: str
) -> None:
    with pytest.raises(SettingsError, match="policy 'strict': max_false_positive_rate: ") as error:
        check(settings(folder, mode, rate, **guard))
    assert why in str(error.value)


def test_an_unsigned_checkpoint_ends_the_start_where_keys_are_set(folder: Path) -> None:
    key_id = keygen(folder.parent / "ours.key", folder.parent / "ours.pub")
    with pytest.raises(CheckpointError, match=f"not signed.*expected a signature by {key_id}"):
        check(settings(folder, "fast", 0.01, checkpoint_keys=str(folder.parent / "ours.pub")))


def test_the_checks_find_which_keys_are_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_id = keygen(folder.parent / "ours.key", folder.parent / "ours.pub")
    write_manifest(folder, name="n", base="b", data_hash="d", template_version="t", command="c")
    sign(folder, folder.parent / "ours.key")
    monkeypatch.setattr("workers.bootstrap.check_topics", lambda _: 1_000)
    found = check(settings(folder, "fast", 0.01, checkpoint_keys=str(folder.parent / "ours.pub")))
    assert (found.trusted_keys, found.topic_bytes) == ([key_id], 1_000)
    assert check(settings(folder, "fast", 0.01)).trusted_keys == []


def test_a_rate_that_can_be_resolved_is_no_reason_to_stop(folder: Path) -> None:
    with pytest.raises(StartError):  # the broker is asked next
        check(settings(folder, "fast", 0.01))
