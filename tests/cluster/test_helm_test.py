"""`helm test` waits for the chart's test pods and tells how they ended."""

from __future__ import annotations

import pytest

from tests.cluster.client import Cluster, Helm, Refused


def phases(cluster: Cluster, namespace: str) -> list[str]:
    return [
        pod["status"]["phase"]
        for pod in cluster.items("pods", "-n", namespace)
        if "test" in pod["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    ]


def test_it_runs_to_its_end_and_uninstall_takes_its_pods_along(
    cluster: Cluster, helm: Helm, namespace: str
) -> None:
    before = cluster.names(namespace)
    helm.install("demo")
    answer = helm.run("test", "demo", "--timeout=60s")
    assert "Phase:" in answer and "Succeeded" in answer
    helm.run("uninstall", "demo", "--wait", "--timeout=60s")
    assert cluster.names(namespace) == before


def test_a_pod_that_fails_fails_it(cluster: Cluster, helm: Helm, namespace: str) -> None:
    """The stage in stages.yaml ends the pods of a release of this name with exit code 1."""
    helm.install("unwell")
    with pytest.raises(Refused, match="failed"):
        helm.run("test", "unwell", "--timeout=60s")
    assert phases(cluster, namespace) == ["Failed"]
