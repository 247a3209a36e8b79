"""The goldens are what the chart makes now, with whatever helm is on the PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.helm.chart import CHART
from tests.unit.helm.goldens import CASES, NAMES, VALUES, golden, path
from tests.unit.helm.rendering import helm, needs_helm


@needs_helm
@pytest.mark.parametrize(("values", "version"), CASES, ids=NAMES)
def test_the_golden_is_fresh(values: Path, version: str) -> None:
    assert path(values, version).read_text(encoding="utf-8") == golden(values, version), (
        "run `make goldens` and read the difference"
    )


@needs_helm
@pytest.mark.parametrize("values", VALUES, ids=[file.stem for file in VALUES])
def test_lint_finds_nothing(values: Path) -> None:
    run = helm("lint", "--strict", str(CHART), "-f", str(values))
    assert run.returncode == 0, run.stdout
