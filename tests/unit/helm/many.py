"""Many renders in one run of helm: a chart whose dependencies are this chart under as many aliases.

A run of helm takes a tenth of a second and more, most of it start and schema; hundreds of value files take a
few seconds together. What is compared is text: the aliases' own traces (the label `helm.sh/chart`, and the
checksums over texts with that label in them) are taken out.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, Final

import yaml

from tests.unit.helm.chart import CHART
from tests.unit.helm.rendering import template

SOURCE: Final = re.compile(r"^# Source: many/charts/(m\d{4}x)/(.*)$", re.MULTILINE)
# The label differs by alias, and with it every checksum over a text that holds it.
ALIASED: Final = re.compile(r"^ *(?:checksum/[\w.-]+|helm\.sh/chart): .*\n", re.MULTILINE)
NAME: Final = "rsafe-stream"
# In place of the chart's alerts and dashboards, of which hundreds of copies would take long.
RULE: Final = {"alert": "Down", "expr": "up == 0", "annotations": {"runbook": "Down"}}
FILES: Final = {
    "files/alerts.yaml": yaml.safe_dump({"groups": [{"name": "rsafe", "rules": [RULE]}]}),
    "files/dashboards/service.json": "{}",
}

Render = frozenset[str]


class RefusedError(AssertionError):
    """Helm made nothing of one of the values."""


def renders(folder: Path, values: list[dict[str, Any]], version: str = "1.34") -> list[Render]:
    """Of each values (complete but for the chart's defaults) the rendered documents, as texts to compare.

    `folder` is an empty one for the chart that is made. Raises `RefusedError` with helm's words, in
    which the alias has the number of the values, where a schema or a template refuses.
    """
    aliases = [f"m{number:04d}x" for number in range(len(values))]
    dependencies = [{"name": NAME, "version": ">=0.0.0-0", "alias": alias} for alias in aliases]
    chart = {"apiVersion": "v2", "name": "many", "version": "0.0.0", "dependencies": dependencies}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(chart), encoding="utf-8")
    # JSON is YAML; the alias would else be the chart's name.
    named = {alias: {"nameOverride": NAME} | part for alias, part in zip(aliases, values, strict=True)}
    (folder / "values.yaml").write_text(yaml.safe_dump(named), encoding="utf-8")
    copy = folder / "charts" / NAME
    shutil.copytree(CHART, copy, ignore=shutil.ignore_patterns("ci", "files"))
    for name, text in FILES.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text, encoding="utf-8")
    run = template(chart=folder, version=version)
    if run.returncode:
        raise RefusedError(run.stderr)
    found: dict[str, set[str]] = {alias: set() for alias in aliases}
    for text in run.stdout.split("\n---\n"):
        source = SOURCE.search(text)
        if source is not None:
            alias = source[1]
            body = ALIASED.sub("", text[source.end() :]).strip()
            found[alias].add(f"{source[2]}\n{body}".replace(alias, "ALIAS"))
    return [frozenset(found[alias]) for alias in aliases]
