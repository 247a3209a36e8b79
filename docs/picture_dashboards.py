"""Draws the dashboards from a real run: a worker under load, a real Prometheus, and the panels' own queries.

    rsafe local run --ephemeral --prometheus --scrape 127.0.0.1:18080 \\
      --rules helm/rsafe-stream/files/alerts.yaml -- .venv/bin/python docs/picture_dashboards.py

Writes docs/operations/dashboards/NAME.png. Grafana draws them better; the queries and what they answer are
the same. A query that Prometheus refuses ends the script.
"""  # noqa: INP001 (a script beside the pages, not a package)

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT: Final = Path(__file__).resolve().parents[1]
DASHBOARDS: Final = ROOT / "helm" / "rsafe-stream" / "files" / "dashboards"
PICTURES: Final = ROOT / "docs" / "operations" / "dashboards"
RSAFE: Final = Path(sys.executable).with_name("rsafe")
HEALTH_PORT: Final = "18080"
START_S: Final = 900.0
LOAD_S: Final = 150
RATE: Final = "60"
STEP_S: Final = 2
# Of Grafana's variables in queries. A rate over ten scrapes is smooth enough for a picture of minutes.
VARIABLES: Final = {
    "__rate_interval": "20s",
    "__interval": "20s",
    "__range": f"{LOAD_S}s",
    "price_per_hour": "2.50",
}
COLUMNS: Final = 24  # of Grafana's grid
_CELL_INCHES: Final = (0.62, 0.34)
_TEXT: Final = 7
# Grafana's units: what stands beside the title, and by how much values are multiplied.
UNITS: Final = {"percentunit": ("%", 100), "bytes": ("MiB", 2**-20), "cps": ("/s", 1), "reqps": ("/s", 1)}
UNTOLD: Final = frozenset({"__name__", "instance", "job"})
NO_UNIT: Final = frozenset({"", "short", "none"})
# Digests are told by their beginning.
_DIGEST: Final = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")


@dataclass(frozen=True)
class Series:
    """One line of a panel; `values` are (seconds since the epoch, value) in order of time."""

    name: str
    values: list[tuple[float, float]]


def main() -> int:
    """Run, draw every dashboard; the exit code."""
    if "PROMETHEUS_URL" not in os.environ:
        sys.stderr.write(f"run it so:\n{__doc__.split(chr(10) * 2)[1]}\n")
        return 2
    subprocess.run([RSAFE, "topics", "create"], check=True)
    with worker():
        began = time.time()
        load = ["--rate", RATE, "--duration", str(LOAD_S), "--hits", "0.6", "--warm-up", "0"]
        subprocess.run([RSAFE, "load", *load], check=True)
        time.sleep(2 * STEP_S)  # the last scrape
        ended = time.time()
        PICTURES.mkdir(exist_ok=True)
        for file in sorted(DASHBOARDS.glob("*.json")):
            dashboard = json.loads(file.read_text(encoding="utf-8"))
            draw(dashboard, began, ended, PICTURES / f"{file.stem}.png")
    return 0


@contextmanager
def worker() -> Iterator[None]:
    """A worker that judges with vLLM and is ready."""
    environment = os.environ | {"RSAFE_HEALTH__PORT": HEALTH_PORT}
    process = subprocess.Popen([RSAFE, "worker"], env=environment)
    try:
        end = time.monotonic() + START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit("the worker did not become ready")
            time.sleep(1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def ready() -> bool:
    """Whether the worker judges."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{HEALTH_PORT}/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that ask something, rows opened."""
    found: list[dict[str, Any]] = []
    for panel in dashboard["panels"]:
        found += panel.get("panels", []) if panel["type"] == "row" else [panel]
    return [panel for panel in found if panel.get("targets")]


def query(expression: str, began: float, ended: float) -> list[dict[str, Any]]:
    """What Prometheus answers for the range. Ends the program with its reason when it refuses the query."""
    parameters = {"query": expression, "start": str(began), "end": str(ended), "step": str(STEP_S)}
    url = f"{os.environ['PROMETHEUS_URL']}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (the stack's own Prometheus)
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return result
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{expression}: {error.read().decode()}") from error


def filled(expression: str) -> str:
    """The query with Grafana's variables replaced; those of the dashboard choose everything."""
    for name, value in VARIABLES.items():
        expression = expression.replace(f"${{{name}}}", value).replace(f"${name}", value)
    return re.sub(r"\$\{?\w+(:\w+)?\}?", ".*", expression)


def series_of(target: dict[str, Any], began: float, ended: float) -> list[Series]:
    """The lines of one query, named by its legend."""
    found = []
    for one in query(filled(target["expr"]), began, ended):
        values = [(float(when), float(value)) for when, value in one["values"]]
        name = legend(target.get("legendFormat") or "", one["metric"])
        found.append(Series(name, [(when, value) for when, value in values if math.isfinite(value)]))
    return found


def legend(form: str, labels: dict[str, str]) -> str:
    """Grafana's name of a line."""
    if form in ("", "__auto"):
        form = ", ".join(f"{key} {value}" for key, value in labels.items() if key not in UNTOLD)
    named = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda label: labels.get(label[1], ""), form)
    return _DIGEST.sub(r"\1…", named)


def draw(dashboard: dict[str, Any], began: float, ended: float, path: Path) -> None:
    """Write the picture of one dashboard, its panels where Grafana puts them."""
    shown = panels(dashboard)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in shown)
    figure = Figure(figsize=(COLUMNS * _CELL_INCHES[0], rows * _CELL_INCHES[1] + 0.4))
    figure.suptitle(dashboard["title"], fontsize=11)
    for panel in shown:
        place = panel["gridPos"]
        left, width = place["x"] / COLUMNS, place["w"] / COLUMNS
        height = place["h"] / rows * 0.95
        bottom = 0.95 - place["y"] / rows * 0.95 - height
        axes = figure.add_axes((left + 0.03, bottom + 0.25 * height, width - 0.045, height * 0.58))
        lines = [line for target in panel["targets"] for line in series_of(target, began, ended)]
        draw_panel(axes, panel, lines, began)
    figure.savefig(path, dpi=90)


def draw_panel(axes: Axes, panel: dict[str, Any], lines: list[Series], began: float) -> None:
    """One panel: a number or text for those that show one, else lines over the seconds of the run."""
    unit, factor = unit_of(panel)
    axes.set_title(f"{panel['title']}{f'  [{unit}]' if unit else ''}", fontsize=_TEXT + 1, loc="left")
    axes.tick_params(labelsize=_TEXT - 1)
    lines = [line for line in lines if line.values]
    if not lines:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=_TEXT, transform=axes.transAxes)
        axes.set_axis_off()
    elif panel["type"] == "table":
        said = "\n".join(textwrap.fill(line.name, 70) for line in lines[:6])
        axes.text(0, 0.8, said, ha="left", va="top", fontsize=_TEXT, transform=axes.transAxes)
        axes.set_axis_off()
    elif panel["type"] in ("stat", "gauge", "bargauge"):
        said = "\n".join(f"{line.name}  {line.values[-1][1] * factor:.4g}".strip() for line in lines[:6])
        axes.text(0.5, 0.5, said, ha="center", va="center", fontsize=_TEXT + 3, transform=axes.transAxes)
        axes.set_axis_off()
    else:
        for line in lines:
            seconds = [when - began for when, _ in line.values]
            axes.plot(seconds, [value * factor for _, value in line.values], lw=1)
        axes.grid(visible=True, color="#dddddd", linewidth=0.5)
        axes.set_ylim(bottom=min(0.0, *axes.get_ylim()))
        if any(names := [line.name for line in lines]):
            axes.legend(
                names[:8],
                loc="upper left",
                bbox_to_anchor=(-0.02, -0.1),
                fontsize=_TEXT - 1.5,
                ncols=4,
                frameon=False,
            )


def unit_of(panel: dict[str, Any]) -> tuple[str, float]:
    """What the numbers of a panel are counted in, and what they are multiplied by for it."""
    unit: str = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
    return UNITS.get(unit, ("" if unit in NO_UNIT else unit, 1.0))


if __name__ == "__main__":
    sys.exit(main())
