from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from guard.calibration import Scales
from guard.checkpoint import open_checkpoint, write_manifest
from guard.errors import CheckpointError
from guard.serving.judge import Judge
from guard.signature import key_ids, keygen, sign
from tests.certificates import Authority
from tests.model_folders import MODEL_LENGTH, write_bare_folder
from tests.unit.guard import calibrations
from workers.errors import SettingsError
from workers.judging import (
    DEVELOPMENT_KEY,
    content_key,
    guards_used,
    make_judge,
    remote_options,
    require_signature,
    stored_checkpoint,
    stored_scales,
    trusted_key_ids,
)
from workers.settings import GuardSettings, SecretsSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bare_folder(tmp_path_factory.mktemp("checkpoint") / "bare")


def open_judge(guard: GuardSettings, key: bytes) -> Judge:
    checkpoint = stored_checkpoint(guard)
    return make_judge(guard, checkpoint, stored_scales(guard, checkpoint), key)


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


def test_the_settings_become_the_options_of_the_servers(folder: Path) -> None:
    guard = settings(
        folder,
        engine="remote",
        endpoints="http://a:8000/, http://b:8000",
        endpoint_api_key="hush",
        endpoint_health_interval_ms=250,
        endpoint_back_off_ms=700,
        endpoint_addresses="all",
    )
    options = remote_options(guard)
    assert options.endpoints == ("http://a:8000", "http://b:8000")
    assert (options.api_key, options.addresses, options.tls) == ("hush", "all", None)
    assert (options.health_interval_s, options.back_off_s) == (0.25, 0.7)
    assert open_judge(guard, b"key").identity.engine == "vllm-remote-dummy"


def test_certificates_of_the_servers_are_read_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    secure = {"engine": "remote", "endpoints": "https://a", "endpoint_ssl_ca_location": str(authority.file)}
    assert remote_options(settings(folder, **secure)).tls is not None
    with pytest.raises(SettingsError, match="expected https://"):
        remote_options(settings(folder, **(secure | {"endpoints": "http://a"})))
    with pytest.raises(SettingsError, match="RSAFE_GUARD__ENDPOINT_SSL_CA_LOCATION: cannot read"):
        remote_options(settings(folder, **(secure | {"endpoint_ssl_ca_location": "/no/such/file"})))


def test_without_a_key_the_development_key_stands_in() -> None:
    assert content_key(SecretsSettings()) == DEVELOPMENT_KEY
    assert content_key(SecretsSettings(content_key=SecretStr("hush"))) == b"hush"


CALIBRATED = {"engine": "vllm", "load_format": "auto", "template": "rsafe-compact-1"}


@pytest.fixture
def calibrated(tmp_path: Path) -> Path:
    folder = write_bare_folder(tmp_path / "calibrated")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    calibrations.write(folder, calibrations.content(folder))
    return folder


def scales_of(guard: GuardSettings) -> Scales:
    return stored_scales(guard, stored_checkpoint(guard))


def test_scores_are_read_by_the_checkpoints_calibration(calibrated: Path) -> None:
    found = scales_of(settings(calibrated, **CALIBRATED))
    assert found.curve("think", "user") is not None
    assert found.think_score == "both"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"calibration": "off"}, "RSAFE_GUARD__CALIBRATION"),
        ({"engine": "scripted"}, "runs no model"),
        ({"load_format": "dummy"}, "RSAFE_GUARD__LOAD_FORMAT"),
        ({"quantization": "fp8"}, "RSAFE_GUARD__QUANTIZATION"),
        ({"calibration": "off", "template": "rsafe-instruct-1"}, "RSAFE_GUARD__CALIBRATION"),
    ],
)
def test_what_does_not_run_the_weights_or_is_told_not_to_has_raw_scores(
    calibrated: Path, changes: dict[str, str], why: str
) -> None:
    found = scales_of(settings(calibrated, **(CALIBRATED | changes)))
    assert found.curve("think", "user") is None
    assert found.think_score == "verdict"
    assert why in found.why("fast")


def test_a_calibration_for_another_template_is_refused(calibrated: Path) -> None:
    with pytest.raises(CheckpointError, match=r"calibration\.json: template_version"):
        scales_of(settings(calibrated, **(CALIBRATED | {"template": "rsafe-instruct-1"})))


def test_the_judge_asks_for_the_readings_that_the_calibration_is_of(calibrated: Path) -> None:
    guard = settings(calibrated, **CALIBRATED)
    assert open_judge(guard, b"key").identity.limits.think_score == "both"
    off = settings(calibrated, **CALIBRATED, calibration="off")
    assert open_judge(off, b"key").identity.limits.think_score == "verdict"


def test_decisions_name_the_calibration_by_its_digest(calibrated: Path) -> None:
    guard = settings(calibrated, **CALIBRATED)
    digest = hashlib.sha256((calibrated / "calibration.json").read_bytes()).hexdigest()
    used = guards_used(open_judge(guard, b"key"), scales_of(guard))
    assert used["fast"].calibration_digest == used["think"].calibration_digest == digest
    small = settings(calibrated, **CALIBRATED, think_budget_tokens=10)
    used = guards_used(open_judge(small, b"key"), scales_of(small))
    assert (used["fast"].calibration_digest, used["think"].calibration_digest) == (digest, None)


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    folder = write_bare_folder(tmp_path / "signed")
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    write_manifest(folder, name="n", base="b", data_hash="d", template_version="t", command="c")
    for name in ("ours", "theirs"):
        keygen(tmp_path / f"{name}.key", tmp_path / f"{name}.pub")
    sign(folder, tmp_path / "ours.key")
    return folder


def test_one_key_of_several_is_enough(signed: Path, tmp_path: Path) -> None:
    keys = f"{tmp_path / 'theirs.pub'}, {tmp_path / 'ours.pub'}"
    assert stored_checkpoint(settings(signed, checkpoint_keys=keys)).verified


def test_the_trusted_keys_are_told_by_their_ids(signed: Path, tmp_path: Path) -> None:
    files = [tmp_path / "theirs.pub", tmp_path / "ours.pub"]
    guard = settings(signed, checkpoint_keys=f" {files[0]},,{files[1]} ")
    assert trusted_key_ids(guard) == key_ids(files)
    assert trusted_key_ids(settings(signed)) == []
    with pytest.raises(SettingsError, match=r"RSAFE_GUARD__CHECKPOINT_KEYS: cannot read .*absent\.pub"):
        trusted_key_ids(settings(signed, checkpoint_keys=str(tmp_path / "absent.pub")))


def test_with_keys_an_unsigned_or_wrongly_signed_checkpoint_is_refused_in_one_sentence(
    signed: Path, tmp_path: Path
) -> None:
    for name, why in (("theirs", "signed by another key"), ("ours", "not signed")):
        with pytest.raises(CheckpointError, match=why) as error:
            stored_checkpoint(settings(signed, checkpoint_keys=str(tmp_path / f"{name}.pub")))
        assert "RSAFE_GUARD__CHECKPOINT_KEYS" in str(error.value)
        assert "\n" not in str(error.value)
        (signed / "manifest.sig").unlink(missing_ok=True)
    assert stored_checkpoint(settings(signed)).verified


def test_with_keys_the_manifest_that_was_opened_must_be_the_signed_one(signed: Path, tmp_path: Path) -> None:
    """Also where another checkpoint, signed as well, stands there by the time of the check."""
    keys = [tmp_path / "ours.pub"]
    opened = open_checkpoint(str(signed))
    assert require_signature(opened, keys).key_id == key_ids(keys)[0]
    without = replace(opened, manifest_digest=None, manifest=None, verified=False)
    with pytest.raises(CheckpointError, match=r"had no manifest\.json when it was opened"):
        require_signature(without, keys)
    write_manifest(signed, name="n2", base="b", data_hash="d", template_version="t", command="c")
    sign(signed, tmp_path / "ours.key")
    with pytest.raises(CheckpointError, match=r"changed since it was opened.*CHECKPOINT_KEYS"):
        require_signature(opened, keys)


def test_with_keys_a_changed_file_is_refused_whoever_signed(signed: Path, tmp_path: Path) -> None:
    (signed / "config.json").write_text((signed / "config.json").read_text() + " ")
    with pytest.raises(CheckpointError, match=r"config\.json: SHA-256"):
        stored_checkpoint(settings(signed, checkpoint_keys=str(tmp_path / "ours.pub")))


def test_a_key_that_cannot_be_read_is_an_error_of_the_setting(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"RSAFE_GUARD__CHECKPOINT_KEYS: cannot read .*absent\.pub"):
        stored_checkpoint(settings(signed, checkpoint_keys=str(tmp_path / "absent.pub")))


def test_a_checkpoint_of_another_digest_than_the_settings_is_refused(folder: Path) -> None:
    digest = open_checkpoint(str(folder), weights=False).checkpoint_digest
    assert stored_checkpoint(settings(folder, checkpoint_digest=digest)).checkpoint_digest == digest
    with pytest.raises(CheckpointError, match=f"its digest is {digest}; RSAFE_GUARD__CHECKPOINT_DIGEST"):
        stored_checkpoint(settings(folder, checkpoint_digest="0" * 64))
