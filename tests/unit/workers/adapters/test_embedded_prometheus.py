from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workers.adapters.embedded_prometheus import PrometheusProcess, prometheus_configuration
from workers.errors import StartError


def test_every_named_worker_is_asked() -> None:
    whole = yaml.safe_load(prometheus_configuration(["127.0.0.1:8080", "127.0.0.1:8081"], None))
    (job,) = whole["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:8080", "127.0.0.1:8081"]}]
    assert "rule_files" not in whole


def test_rules_are_named_by_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alerts.yaml").write_text("groups: []\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    whole = yaml.safe_load(prometheus_configuration([], Path("alerts.yaml")))
    assert whole["rule_files"] == [str(tmp_path / "alerts.yaml")]


def test_rules_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"--rules: there is no file .*absent\.yaml"):
        prometheus_configuration([], tmp_path / "absent.yaml")


def test_a_machine_without_prometheus_is_told_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartError, match="no `prometheus` on the PATH"):
        PrometheusProcess(tmp_path / "data").start()
