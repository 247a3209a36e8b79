"""GPU requests: scheduled where there is a GPU, and pending with a reason where there is none."""

from __future__ import annotations

import pytest

from tests.cluster.client import CHART, Cluster, Helm, Object, eventually

WORKERS = ("-l", "app.kubernetes.io/component=worker")
TOLERANT = ("--set-json", 'tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}]')

# It runs before the install, on the same nodes as the workers, and would be waited for.
WITHOUT_JOB = ("--set=topics.create=false", "--timeout=60s")


def gpus(number: int) -> tuple[str, str, str]:
    resources = f'resources={{"limits": {{"nvidia.com/gpu": {number}}}}}'
    return "--set=image.variant=gpu", "--set-json", resources


def pending(cluster: Cluster, namespace: str) -> list[str]:
    """Why pods have no node, as the scheduler says it."""
    return [
        condition["message"]
        for pod in cluster.items("pods", "-n", namespace, *WORKERS)
        for condition in pod["status"].get("conditions", ())
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable"
    ]


def nodes(cluster: Cluster, namespace: str) -> list[str]:
    pods: list[Object] = cluster.items("pods", "-n", namespace, *WORKERS)
    return sorted(pod["spec"].get("nodeName", "") for pod in pods)


def test_a_worker_with_a_gpu_runs_on_the_gpu_node(cluster: Cluster, helm3: Helm, namespace: str) -> None:
    helm3.install("demo", *gpus(1), *TOLERANT)
    # One worker with a GPU may be away in a roll-out: `--wait` of Helm 3 is content before it has a node.
    eventually(lambda: nodes(cluster, namespace), lambda found: found == ["gpu-0"])


def test_a_worker_without_one_stays_off_the_gpu_node(cluster: Cluster, helm3: Helm, namespace: str) -> None:
    helm3.install("demo", "--set=replicas=2")
    assert nodes(cluster, namespace) == ["cpu-0", "cpu-0"]


def test_more_workers_than_gpus_wait_and_say_why(cluster: Cluster, helm3: Helm, namespace: str) -> None:
    helm3.run("install", "demo", str(CHART), *gpus(1), *TOLERANT, "--set=replicas=3")
    # Pods of an earlier test may hold a GPU for a moment.
    eventually(lambda: nodes(cluster, namespace), lambda found: found == ["", "gpu-0", "gpu-0"])
    reasons = eventually(lambda: pending(cluster, namespace), lambda found: len(found) == 1)
    assert "Insufficient nvidia.com/gpu" in reasons[0]


@pytest.mark.parametrize(
    ("pool", "words"), [("cpu", "Insufficient nvidia.com/gpu"), ("gpu", "untolerated taint")]
)
def test_a_worker_that_fits_nowhere_says_why(
    cluster: Cluster, helm3: Helm, namespace: str, pool: str, words: str
) -> None:
    """On nodes without GPUs, and on the GPU node without its toleration."""
    helm3.run("install", "demo", str(CHART), *gpus(1), *WITHOUT_JOB, f"--set=nodeSelector.pool={pool}")
    reasons = eventually(lambda: pending(cluster, namespace), lambda found: len(found) == 1)
    assert words in reasons[0]
