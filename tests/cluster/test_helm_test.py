"""`helm test` waits for the chart's test pods and tells how they ended."""

from __future__ import annotations

import shutil

import pytest

from tests.cluster.client import CHART, Cluster, Helm, Refused

HOOK = "helm.sh/hook: test"
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "rsafe.fullname" . }}-test
  labels: {{- include "rsafe.labels" . | nindent 4 }}
  annotations: {helm.sh/hook: test, "helm.sh/hook-delete-policy": before-hook-creation}
spec:
  restartPolicy: Never
  securityContext: {{- include "rsafe.podSecurityContext" . | nindent 4 }}
  containers:
    - name: test
      image: {{ include "rsafe.image" . }}
      securityContext: {{- include "rsafe.containerSecurityContext" . | nindent 8 }}
"""


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The chart; with a pod of ours while it has no test of its own."""
    if any(HOOK in file.read_text() for file in CHART.glob("templates/**/*.yaml")):
        return str(CHART)
    copy = tmp_path_factory.mktemp("chart") / "rsafe-stream"
    shutil.copytree(CHART, copy)
    (copy / "templates" / "test.yaml").write_text(POD)
    return str(copy)


def phases(cluster: Cluster, namespace: str) -> list[str]:
    return [
        pod["status"]["phase"]
        for pod in cluster.items("pods", "-n", namespace)
        if "test" in pod["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    ]


def test_it_runs_to_its_end(cluster: Cluster, helm: Helm, namespace: str, chart: str) -> None:
    helm.run("install", "demo", chart, "--wait", "--timeout=60s")
    answer = helm.run("test", "demo", "--timeout=60s")
    assert "Phase:" in answer and "Succeeded" in answer
    assert set(phases(cluster, namespace)) == {"Succeeded"}


def test_a_pod_that_fails_fails_it(cluster: Cluster, helm: Helm, namespace: str, chart: str) -> None:
    """The stage in stages.yaml ends the pods of a release of this name with exit code 1."""
    helm.run("install", "unwell", chart, "--wait", "--timeout=60s")
    with pytest.raises(Refused, match="failed"):
        helm.run("test", "unwell", "--timeout=60s")
    assert phases(cluster, namespace)[0] == "Failed"
