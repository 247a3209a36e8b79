"""The schemas in `crds/` are those of the CRDs that `tests/cluster/build.sh` has fetched beside its helm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.helm.crds import made_from
from tests.unit.helm.kubernetes_schemas import CRDS
from tests.unit.helm.rendering import HELM

BUILT = Path(HELM or "").resolve().parents[1] if HELM else Path()


@pytest.mark.skipif(not (BUILT / "crds-keda").is_dir(), reason="helm is not the one of `make test-cluster`")
def test_they_are_fresh() -> None:
    stored = {file.name: file.read_text(encoding="utf-8") for file in CRDS.glob("*.json")}
    assert stored == made_from(BUILT), "run `python -m tests.unit.helm.crds FOLDER`"
