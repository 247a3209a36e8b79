"""`helm test` waits for the chart's test pods and tells how they ended."""

from __future__ import annotations

import pytest

from tests.cluster.client import Cluster, Helm, Refused, eventually


def phases(cluster: Cluster, namespace: str) -> list[str]:
    return [
        pod["status"]["phase"]
        for pod in cluster.items("pods", "-n", namespace)
        if "test" in pod["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    ]


def test_it_runs_to_its_end(cluster: Cluster, helm: Helm, namespace: str) -> None:
    helm.install("demo")
    answer = helm.run("test", "demo", "--timeout=60s")
    assert "Phase:" in answer and "Succeeded" in answer
    # Nothing to read in it: it is gone.
    eventually(lambda: phases(cluster, namespace), lambda found: not found)


def test_a_pod_that_fails_fails_it(cluster: Cluster, helm: Helm, namespace: str) -> None:
    """It stays, with what it found. By stages.yaml the pods of a release of this name fail."""
    helm.install("unwell")
    with pytest.raises(Refused, match="failed"):
        helm.run("test", "unwell", "--timeout=60s")
    assert phases(cluster, namespace)[0] == "Failed"
