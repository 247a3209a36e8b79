"""`helm` is no Python package, so it cannot come with the environment.

At home its tests are skipped where it is absent. In CI, where a skip would be a failure, they are not
collected then: the schema, the values and the golden renders, which need no helm, are tested everywhere, and
`make test-cluster` runs all of this folder with Helm 3 and Helm 4.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

HELM = shutil.which("helm")
in_ci = os.environ.get("CI") == "true"
absent_in_ci = in_ci and HELM is None
with_helm = [
    "test_components.py",
    "test_dead_values.py",
    "test_goldens_fresh.py",
    "test_refusals.py",
    "test_templates.py",
]
collect_ignore = with_helm if absent_in_ci else []
# The CRDs lie beside the helm that `make test-cluster` builds.
if in_ci and not (HELM and (Path(HELM).resolve().parents[1] / "crds-keda").is_dir()):
    collect_ignore.append("test_crds.py")


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs promtool, of the Debian package prometheus")
        pytest.skip("promtool is not on the PATH; the Debian package prometheus has it")
    return found
