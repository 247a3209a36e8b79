"""The alert rules: correct, tested, about metrics that exist, each with a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.helm.metric_names import KNOWN, unknown_metrics

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "helm" / "rsafe-stream" / "files" / "alerts.yaml"
RUNBOOKS = ROOT / "docs" / "operations" / "runbooks"
CASES = sorted(Path(__file__).parent.glob("*_test.yaml"))
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]
RECORDS = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}
SECTIONS = ["## What it means", "## How to look", "## What to do"]


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", str(RULES))


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_each_alert_fires_and_stays_quiet_as_its_cases_say(promtool: str, cases: Path) -> None:
    run(promtool, "test", "rules", str(cases))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_is_whole(alert: dict[str, Any]) -> None:
    name, annotations = alert["alert"], alert["annotations"]
    assert name.startswith("Rsafe")
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert annotations["runbook"] == name
    assert annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_has_a_case_in_which_it_fires(alert: dict[str, Any]) -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in CASES)
    fires = re.findall(r'expr: .*alertname=~?"([\w|]+)", alertstate="firing"', texts)
    assert alert["alert"] in {name for names in fires for name in names.split("|")}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_has_a_runbook(alert: dict[str, Any]) -> None:
    text = (RUNBOOKS / f"{alert['alert']}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert['alert']}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    index = (RUNBOOKS / "index.md").read_text(encoding="utf-8")
    assert f"[{alert['alert']}]({alert['alert']}.md)" in index


def test_no_runbook_is_left_over() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"}
    assert pages == {alert["alert"] for alert in ALERTS}


def test_rules_ask_for_metrics_and_records_that_exist() -> None:
    expressions = [rule["expr"] for group in GROUPS for rule in group["rules"]]
    assert [name for expr in expressions for name in unknown_metrics(expr)] == []
    used = {name for expr in expressions for name in re.findall(r"rsafe:[\w:]+", expr)}
    assert used <= RECORDS


def test_every_label_that_is_selected_exists() -> None:
    for rule in (rule for group in GROUPS for rule in group["rules"]):
        for name, selectors in re.findall(r"\b(rsafe_\w+)\{([^}]*)\}", rule["expr"]):
            labels = KNOWN[name]
            for label, value in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', selectors):
                assert label in labels or label == "le", (name, label)
                if labels.get(label):
                    assert set(value.split("|")) <= set(labels[label]), (name, label, value)


def test_a_name_that_does_not_exist_is_found() -> None:
    assert unknown_metrics("rate(rsafe_decisions_totals[5m]) / rsafe_guard_up") == ["rsafe_decisions_totals"]
    assert unknown_metrics("rate(rsafe_guard_seconds_bucket[5m])") == []
