"""`rsafe plan`: its options and its three forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from tests.unit.helm.chart import SCHEMA, VALUES, merged
from workers.commands.plan import plan
from workers.errors import SettingsError, UsageError
from workers.policies import PACKS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(plan, ["--messages-per-second", "500", *arguments], catch_exceptions=False)


def told(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("--json", *arguments).output)
    return found


def test_the_table_names_what_is_needed_and_each_figure_with_its_source() -> None:
    lines = run("--price-per-gpu-hour", "2").output.splitlines()
    for start in ("workers", "GPUs", "partitions", "Redis", "Kafka", "price a month"):
        assert any(line.startswith(start) for line in lines), start
    assert any("hit_cpu_us" in line and "scaling.json" in line for line in lines)
    assert any(line.startswith("note: the speed of a guard") for line in lines)


def test_a_figure_of_ones_own_replaces_the_measured_one() -> None:
    found = told("--figure", "event_bytes=1000", "--decisions-per-second-per-gpu", "250")
    assert {"name": "event_bytes", "value": 1000.0, "source": "given by the caller"}.items() <= next(
        one for one in found["figures"] if one["name"] == "event_bytes"
    ).items()
    assert found["plan"]["guard_seconds"] == 1 / 250
    assert found["plan"]["remarks"] == []


def test_a_policy_is_measured_with_the_checkpoints_tokenizer_and_gives_its_mode() -> None:
    found = told("--policy", str(PACKS / "community.yaml"))["demand"]
    assert found["policy_tokens"] > 100
    assert found["mode"] == "think"
    assert told("--policy", str(PACKS / "community.yaml"), "--mode", "fast")["demand"]["mode"] == "fast"


def test_the_lifetime_of_verdicts_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSAFE_CACHE__TTL_S", "60")
    assert told()["demand"]["ttl_s"] == 60
    assert told("--ttl-s", "70")["demand"]["ttl_s"] == 70


@pytest.mark.parametrize("engine", ["vllm", "remote"])
def test_the_values_are_such_as_the_chart_takes(engine: str) -> None:
    values = yaml.safe_load(run("--helm", "--engine", engine).output)
    jsonschema.validate(merged(VALUES, values), SCHEMA)


def test_workers_that_judge_themselves_ask_for_their_gpus() -> None:
    values = yaml.safe_load(run("--helm", "--engine", "vllm", "--gpus-per-guard", "2").output)
    assert values["resources"]["limits"] == {"nvidia.com/gpu": 2}
    assert values["image"]["variant"] == "gpu"
    assert "resources" not in yaml.safe_load(run("--helm", "--engine", "remote").output)


def test_a_backlog_that_is_never_level_is_null() -> None:
    assert told("--utilisation", "1", "--peak-factor", "1", "--spare", "0")["plan"]["catch_up_s"] != 0


@pytest.mark.parametrize("word", ["event_bytes", "event_bytes=", "event_bytes=many", "=3"])
def test_a_figure_without_a_number_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="--figure"):
        run("--figure", word)


@pytest.mark.parametrize(
    "arguments", [("--json", "--helm"), ("--policy", "a.yaml", "--policy-tokens", "3")], ids=" ".join
)
def test_options_that_contradict_each_other_are_refused(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(plan, ["--messages-per-second", "1", *arguments])
    assert result.exit_code == 2
    assert "not both" in result.output


def test_a_policy_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--policy"):
        run("--policy", str(tmp_path / "none.yaml"))
