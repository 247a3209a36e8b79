"""The dashboards: fresh, of Grafana's own types, and about metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from helm import dashboards
from tests.unit.helm.metric_names import unknown_metrics

FILES = dashboards.files()
IN_WORDS = {
    "$__rate_interval": "5m",
    "$__interval": "5m",
    "$price_per_hour": "2.5",
    "$namespace": "n",
    "$job": "j",
}


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in board["panels"] if panel["type"] != "row")


def queries() -> list[str]:
    boards = [json.loads(text) for text in FILES.values()]
    return [target["expr"] for board in boards for panel in panels(board) for target in panel["targets"]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_file_is_fresh(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == FILES[path], "run `python helm/dashboards.py`"


def test_no_other_file_is_shipped() -> None:
    assert set(dashboards.FOLDER.iterdir()) == set(FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafanas_types_read_the_file_and_write_it_again(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    read = Dashboard.from_json(content)
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == content


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_lets_choose_source_namespace_and_job(path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    variables = {one["name"]: one["type"] for one in board["templating"]["list"]}
    assert {"datasource": "datasource", "namespace": "query", "job": "query"}.items() <= variables.items()
    for panel in panels(board):
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        for target in panel["targets"]:
            assert 'namespace=~"$namespace", job=~"$job"' in target["expr"], panel["title"]
    used = set(re.findall(r"\$(\w+)", " ".join(queries()))) - {"__rate_interval", "__interval"}
    assert {name for name in used if name in json.dumps(board)} <= variables.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_have_an_id_each_and_do_not_overlap(path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        x, y = at.get("x", 0), at.get("y", 0)
        cells = {(x + dx, y + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not taken & cells, panel.get("title")
        assert x + at["w"] <= 24, panel.get("title")
        taken |= cells


def test_queries_ask_for_metrics_that_exist() -> None:
    assert [name for query in queries() for name in unknown_metrics(query)] == []


def test_queries_are_promql(promtool: str, tmp_path: Path) -> None:
    rules = []
    for number, query in enumerate(queries()):
        for name, value in IN_WORDS.items():
            query = query.replace(name, value)
        rules.append({"record": f"query:{number}", "expr": query})
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
