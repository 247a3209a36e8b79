"""Who decides how many workers run: an upgrade undoes no autoscaler, and evictions wait for the budget."""

from __future__ import annotations

import json

import pytest

from tests.cluster.client import Cluster, Helm, Refused, eventually

WORKERS = ("-l", "app.kubernetes.io/component=worker")


def test_an_upgrade_keeps_what_the_autoscaler_decided(cluster: Cluster, helm3: Helm, namespace: str) -> None:
    helm3.install("demo", "--set=autoscaling.kind=keda")
    (worker,) = cluster.items("deployments", "-n", namespace, *WORKERS)
    name = worker["metadata"]["name"]
    assert cluster.items("scaledobjects", "-n", namespace)[0]["spec"]["scaleTargetRef"]["name"] == name
    # As KEDA does it, through the scale of the Deployment.
    cluster.run("scale", "deployment", name, "--replicas=3", "-n", namespace)
    helm3.upgrade("demo", "--set=autoscaling.kind=keda", "--set=podAnnotations.revision=two")
    assert cluster.get("deployment", name, "-n", namespace)["spec"]["replicas"] == 3


def test_workers_are_evicted_one_after_the_other(cluster: Cluster, helm3: Helm, namespace: str) -> None:
    helm3.install("demo", "--set=replicas=2", "--set=podDisruptionBudget.maxUnavailable=1")
    eventually(
        lambda: cluster.items("poddisruptionbudgets", "-n", namespace)[0]["status"],
        lambda status: status.get("disruptionsAllowed") == 1,
    )
    # Ready pods would come back at once: no node takes new ones.
    cluster.run("cordon", "cpu-0")
    try:
        first, second = (pod["metadata"]["name"] for pod in cluster.items("pods", "-n", namespace, *WORKERS))
        evict(cluster, namespace, first)
        with pytest.raises(Refused, match="disruption budget"):
            evict(cluster, namespace, second)
    finally:
        cluster.run("uncordon", "cpu-0")


def evict(cluster: Cluster, namespace: str, pod: str) -> None:
    """As `kubectl drain` does it."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    cluster.run("create", "--raw", path, "-f", "-", text=json.dumps(eviction))
