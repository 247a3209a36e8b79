"""`rsafe doctor`: its exit codes and its two forms."""

from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner

from workers.commands.doctor import doctor


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSAFE_GUARD__ENGINE", "scripted")
    monkeypatch.setenv("RSAFE_REDIS__URL", "")
    monkeypatch.setenv("RSAFE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RSAFE_KAFKA__START_TIMEOUT_S", "0.5")


def test_warnings_alone_end_with_0() -> None:
    result = CliRunner().invoke(doctor, ["--only", "settings", "--only", "versions"])
    assert result.exit_code == 0
    assert "warning      settings: RSAFE_SECRETS__CONTENT_KEY" in result.output
    assert result.output.splitlines()[-1].endswith("not checked")


def test_brokers_that_are_away_end_with_1_after_all_else_was_checked() -> None:
    result = CliRunner().invoke(doctor, ["--json"])
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert told["healthy"] is False
    assert [one["area"] for one in told["findings"] if one["status"] == "problem"] == ["kafka"]
    assert told["findings"][-1]["area"] == "engine"


def test_a_setting_with_a_wrong_name_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSAFE_KAFKA__GROUPID", "x")
    result = CliRunner().invoke(doctor, ["--only", "settings"])
    assert result.exit_code == 1
    assert "problem      settings: unknown setting RSAFE_KAFKA__GROUPID" in result.output


def test_vllm_is_not_imported_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSAFE_GUARD__ENGINE", "vllm")
    monkeypatch.setitem(sys.modules, "vllm", None)
    result = CliRunner().invoke(doctor, ["--only", "checkpoint", "--only", "engine"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "rsafe doctor --engine" in result.output
