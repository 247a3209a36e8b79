"""Installed, upgraded and uninstalled for real, whatever the values."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.client import CHART, Cluster, Helm, eventually
from tests.cluster.value_files import each_values, pod_templates, provide

NEXT = ("--set=image.digest=sha256:" + "2" * 64, "--timeout=60s")


@each_values
def test_it_installs_upgrades_and_leaves_nothing(
    cluster: Cluster, helm3: Helm, namespace: str, values: Path
) -> None:
    """No upgrade changes what may not change, such as a Job's template; no object is forgotten."""
    file = ("-f", str(values))
    provide(cluster, namespace, (pod for _, pod in pod_templates(helm3.objects(*file))))
    before = cluster.names(namespace)
    # Without --wait: the claims and nodes that the workers ask for are the reader's. Hooks are waited for.
    helm3.run("install", "demo", str(CHART), *file, "--timeout=60s")
    helm3.run("upgrade", "demo", str(CHART), *file, *NEXT)
    helm3.run("uninstall", "demo", "--wait", "--timeout=60s")
    eventually(lambda: cluster.names(namespace), lambda names: names == before)
