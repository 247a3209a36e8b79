"""Which metrics a PromQL expression may ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from workers.conduct.metrics import ConductMetrics
from workers.metrics import Metrics


def _known() -> dict[str, Mapping[str, Sequence[str]]]:
    """Name of a series → its labels with their values, none given where any may stand."""
    known: dict[str, Mapping[str, Sequence[str]]] = {}
    for row in (*Metrics().rows, *ConductMetrics().rows):
        names = [row.name]
        if row.kind == "histogram":
            names = [f"{row.name}_{part}" for part in ("bucket", "count", "sum")]
        known |= dict.fromkeys(names, row.labels)
    return known


KNOWN = _known()


def unknown_metrics(expression: str) -> list[str]:
    """Names of ours in an expression that the program does not show."""
    return [name for name in re.findall(r"(?<![\w:])rsafe_\w+", expression) if name not in KNOWN]
