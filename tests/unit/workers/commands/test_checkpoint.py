"""`rsafe checkpoint`: what it shows, what it refuses, and its exit codes. Kafka is replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from guard.checkpoint import MANIFEST, SHIPPED, SIGNATURE, open_checkpoint, write_manifest
from guard.errors import CheckpointError
from schemas.release import Release
from tests.model_folders import write_bare_folder
from workers import announcement
from workers.commands.checkpoint import EXIT_OTHERWISE, checkpoint
from workers.errors import UsageError

TENSORS = (2).to_bytes(8, "little") + b"{}"
DIGEST = open_checkpoint("tiny").checkpoint_digest


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(checkpoint, [*map(str, arguments)])


def of_json(*arguments: str | Path) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return package(write_bare_folder(tmp_path / "model"))


def package(folder: Path, **fields: Any) -> Path:
    if not (folder / "model.safetensors").exists():
        (folder / "model.safetensors").write_bytes(TENSORS)
    known = {"name": "test-1", "base": "scratch", "data_hash": "d", "template_version": "t", "command": "c"}
    write_manifest(folder, **(known | fields))
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    assert run("keygen", tmp_path / "ours").exit_code == 0
    return tmp_path / "ours.key", tmp_path / "ours.pub"


def test_the_shipped_checkpoint_is_verified_by_default() -> None:
    result = run("verify")
    assert result.exit_code == 0, result.output
    assert "rsafe-tiny, every file is what its manifest says" in result.stdout
    assert DIGEST in result.stdout
    assert of_json("verify")["ok"] is True


def test_every_file_that_is_otherwise_is_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(TENSORS + b"!")
    (folder / "new.json").write_text("{}")
    (folder / "tokenizer.json").rename(folder / ".gone")
    result = run("verify", folder)
    assert result.exit_code == EXIT_OTHERWISE
    lines = result.stderr.splitlines()
    assert [line.partition(": ")[0].rpartition("/")[2] for line in lines] == [
        "model.safetensors",
        "new.json",
        "tokenizer.json",
    ]
    report = of_json("verify", folder)
    assert (report["ok"], len(report["problems"])) == (False, 3)
    assert "checkpoint_digest" not in report


def test_without_a_manifest_there_is_nothing_to_compare_with(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    result = run("verify", folder)
    assert result.exit_code == EXIT_OTHERWISE
    assert "no manifest.json" in result.stderr
    assert len(of_json("verify", folder)["checkpoint_digest"]) == 64


def test_what_must_not_be_loaded_is_a_problem(folder: Path) -> None:
    (folder / "weights.pkl").write_bytes(b"")
    package_error = run("verify", folder)
    assert package_error.exit_code == EXIT_OTHERWISE
    assert "weights.pkl" in package_error.stderr


def test_no_such_checkpoint_is_no_difference() -> None:
    for command in (["verify", "absent"], ["show", "absent"], ["diff", "absent"]):
        result = run(*command)
        assert isinstance(result.exception, CheckpointError)
        assert "no checkpoint 'absent'" in str(result.exception)


def test_a_signature_is_made_and_checked(folder: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    unsigned = run("verify", folder, "--key", public)
    assert (unsigned.exit_code, "not signed" in unsigned.stderr) == (EXIT_OTHERWISE, True)
    assert run("sign", folder, "--key", private).exit_code == 0
    signed = run("verify", folder, "--key", public)
    assert signed.exit_code == 0, signed.output
    assert "which was not checked" not in signed.stdout
    assert "which was not checked" in run("verify", folder).stdout
    report = of_json("verify", folder, "--key", public)
    assert report["signature_checked"]
    assert report["signed_by"] in signed.stdout


def test_the_keys_of_the_settings_are_asked_unless_others_are_given(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("keygen", tmp_path / "theirs")
    run("sign", folder, "--key", keys[0])
    monkeypatch.setenv("RSAFE_GUARD__CHECKPOINT_KEYS", str(tmp_path / "theirs.pub"))
    assert run("verify", folder).exit_code == EXIT_OTHERWISE
    assert run("verify", folder, "--key", keys[1]).exit_code == 0


def test_a_broken_signature_is_a_problem_only_where_it_is_asked_for(
    folder: Path, keys: tuple[Path, Path]
) -> None:
    (folder / SIGNATURE).write_text("{}")
    assert run("verify", folder).exit_code == 0
    result = run("verify", folder, "--key", keys[1])
    assert result.exit_code == EXIT_OTHERWISE
    assert "manifest.sig: not a signature" in result.stderr


@pytest.mark.parametrize("name", [".", "..", "/", "x/.."])
def test_a_folder_is_no_name_of_keys(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("keygen", name)
    assert isinstance(result.exception, UsageError)
    assert "a folder; expected the name of the files to make" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_never_written_over_and_bad_ones_are_named(folder: Path, keys: tuple[Path, Path]) -> None:
    again = run("keygen", keys[0].with_suffix(""))
    assert isinstance(again.exception, UsageError)
    assert "File exists" in str(again.exception)
    wrong = run("sign", folder, "--key", keys[1])
    assert isinstance(wrong.exception, UsageError)
    assert "ours.pub: expected a private ed25519 key" in str(wrong.exception)
    swapped = run("verify", folder, "--key", keys[0])
    assert isinstance(swapped.exception, UsageError)
    assert "a private key, which should not be here" in str(swapped.exception)


def test_a_folder_that_is_not_what_its_manifest_says_is_not_signed(
    folder: Path, keys: tuple[Path, Path]
) -> None:
    (folder / "model.safetensors").write_bytes(TENSORS + b"!")
    result = run("sign", folder, "--key", keys[0])
    assert isinstance(result.exception, CheckpointError)
    assert not (folder / SIGNATURE).exists()


def test_show_tells_origin_files_gate_and_figures() -> None:
    result = run("show")
    shown = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if line[0] != " ")
    assert shown["name"] == "rsafe-tiny"
    assert shown["gate"] == "passed"
    assert f"checkpoint digest   {DIGEST}" in result.stdout
    assert "bars: figure parse, least 0.99, met yes, mode think" in result.stdout
    found = of_json("show")
    assert found["files"]["model.safetensors"]["bytes"] == (SHIPPED / "tiny/model.safetensors").stat().st_size
    assert found["metrics"]["think"]["sets"]["both"]["n"] > 0


def test_a_folder_without_a_manifest_can_be_shown(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    result = run("show", folder)
    assert result.exit_code == 0, result.output
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines() if line[0] != " "]
    assert ["verified", "no"] in lines
    assert ["gate", "none"] in lines


def test_show_names_the_profile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_json("show")["profile"] == "rsafe-boxed-1"
    (folder / MANIFEST).unlink()
    monkeypatch.setenv("RSAFE_GUARD__PROFILE", "llama-guard-3")
    found = of_json("show", folder)
    assert (found["profile"], found["template_version"]) == ("llama-guard-3", "llama-guard-3-prompt-1")


def test_nothing_is_otherwise_than_itself() -> None:
    result = run("diff", "tiny")
    assert (result.exit_code, result.stdout) == (0, "the same\n")
    assert of_json("diff", "tiny")["same"] is True


def test_what_is_otherwise_is_told_with_how_figures_changed(folder: Path, tmp_path: Path) -> None:
    bar = {"figure": "parse", "value": 0.9}
    package(folder, metrics={"f1": 0.5}, gate={"passed": True, "bars": [bar]})
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "model.safetensors").write_bytes(TENSORS + b"!")
    (other / "README.md").write_text("x")
    package(other, metrics={"f1": 0.75}, gate={"passed": True, "bars": [bar | {"value": 0.8}]}, name="test-2")
    result = run("diff", other, folder)
    assert result.exit_code == EXIT_OTHERWISE
    assert {
        "weights: otherwise",
        "file added: README.md",
        "file changed: model.safetensors",
        "name: test-1 → test-2",
        "metrics.f1: 0.5 → 0.75 (+0.25)",
        "gate.bars[parse].value: 0.9 → 0.8 (-0.1)",
    } <= set(result.stdout.splitlines())
    found = of_json("diff", other, folder)
    assert found["metrics"] == {"metrics.f1": {"old": 0.5, "new": 0.75, "change": 0.25}}
    assert found["files"] == {"added": ["README.md"], "removed": [], "changed": ["model.safetensors"]}


def test_files_of_equal_length_are_told_apart_without_a_manifest(folder: Path, tmp_path: Path) -> None:
    (folder / MANIFEST).unlink()
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "model.safetensors").write_bytes(TENSORS[:-1] + b"]")
    assert of_json("diff", other, folder)["files"]["changed"] == ["model.safetensors"]


class FakeWriter:
    """Stands for the producer; keeps what was sent until it is finished."""

    sent: list[tuple[str, bytes | None, bytes, dict[str, bytes | None]]]

    def __init__(self, options: Any, topic: str, **_: Any) -> None:
        self._topic = topic

    def send(self, key: bytes | None, value: bytes, headers: Any) -> None:
        self.sent.append((self._topic, key, value, dict(headers)))

    def finish(self) -> None:
        pass


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(announcement, "RecordWriter", FakeWriter)
    FakeWriter.sent = []
    return FakeWriter.sent


def test_a_release_is_published_under_the_name_of_the_checkpoint(
    folder: Path, keys: tuple[Path, Path], sent: list[Any]
) -> None:
    package(folder, gate={"passed": True})
    run("sign", folder, "--key", keys[0])
    result = run("announce", folder, "--location", "s3://models/test-1")
    assert result.exit_code == 0, result.output
    ((topic, key, value, headers),) = sent
    release = msgspec.json.decode(value, type=Release)
    opened = open_checkpoint(str(folder))
    assert (topic, key, release.name) == ("moderation.checkpoints", b"test-1", "test-1")
    assert (release.checkpoint_digest, release.gate_passed) == (opened.checkpoint_digest, True)
    assert release.signed_by == of_json("verify", folder)["signed_by"]
    assert release.location == "s3://models/test-1"
    assert headers["ce_id"] == release.release_id.encode()
    assert headers["ce_type"] == b"rsafe.checkpoint.release.v1"


def test_a_trial_shows_the_release_and_sends_nothing(sent: list[Any]) -> None:
    result = run("announce", "tiny", "--dry-run")
    release = msgspec.json.decode(result.stdout.encode(), type=Release)
    assert (release.name, release.checkpoint_digest) == ("rsafe-tiny", DIGEST)
    assert sent == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"gate": {"passed": False}}, "its gate says passed: False"),
        ({"gate": {"passed": "no"}}, "its gate says passed: 'no'"),
        ({"name": "a\nb"}, r"cannot be announced: .*\$\.name"),
        ({"base": "x" * 300}, r"cannot be announced: .*\$\.base"),
    ],
)
def test_what_failed_its_gate_or_does_not_fit_the_wire_is_refused(
    folder: Path, sent: list[Any], fields: dict[str, Any], sentence: str
) -> None:
    package(folder, **fields)
    result = run("announce", folder)
    assert isinstance(result.exception, UsageError)
    with pytest.raises(UsageError, match=sentence):
        raise result.exception
    assert sent == []


def test_without_a_manifest_or_with_a_changed_file_nothing_is_announced(
    folder: Path, sent: list[Any]
) -> None:
    (folder / "model.safetensors").write_bytes(TENSORS + b"!")
    assert isinstance(run("announce", folder).exception, CheckpointError)
    (folder / MANIFEST).unlink()
    assert isinstance(run("announce", folder).exception, UsageError)
    assert sent == []


def test_what_a_worker_with_these_keys_would_refuse_is_not_announced(
    folder: Path, keys: tuple[Path, Path], sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RSAFE_GUARD__CHECKPOINT_KEYS", str(keys[1]))
    assert isinstance(run("announce", folder).exception, CheckpointError)
    assert sent == []
    run("sign", folder, "--key", keys[0])
    assert run("announce", folder).exit_code == 0
    assert len(sent) == 1
