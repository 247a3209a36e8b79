"""The goldens are what the chart makes now, with whatever helm is on the PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.helm.goldens import CASES, NAMES, golden, path
from tests.unit.helm.rendering import needs_helm


@needs_helm
@pytest.mark.parametrize(("values", "version"), CASES, ids=NAMES)
def test_the_golden_is_fresh(values: Path, version: str) -> None:
    assert path(values, version).read_text(encoding="utf-8") == golden(values, version), (
        "run `make goldens` and read the difference"
    )
