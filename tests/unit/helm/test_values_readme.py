from __future__ import annotations

import subprocess
import sys

from tests.unit.helm.chart import CHART, ROOT
from tests.unit.helm.leaves import LEAVES

README = CHART / "README.md"


def test_it_is_fresh() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "helm" / "values_readme.py"), "--check"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_every_leaf_has_a_row_with_a_meaning() -> None:
    rows = [line.split(" | ") for line in README.read_text(encoding="utf-8").splitlines()]
    meanings = {cells[0].strip("| `"): cells[-1].strip(" |") for cells in rows if len(cells) >= 4}
    assert [".".join(path) for path in LEAVES if not meanings.get(".".join(path))] == []
