"""A release's life under both lines of Helm, in a namespace that enforces Pod Security `restricted`."""

from __future__ import annotations

from tests.cluster.client import Cluster, Helm, Object, eventually

OLD, NEW = ("sha256:" + digit * 64 for digit in "12")
DIGEST = "image.digest"


def images(cluster: Cluster, namespace: str) -> set[str]:
    """Of the workers that run and are not on their way out."""
    pods = cluster.items("pods", "-n", namespace, "-l", "app.kubernetes.io/component=worker")
    return {
        container["image"].partition("@")[2]
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        for container in pod["spec"]["containers"]
    }


def ready(cluster: Cluster, namespace: str) -> list[Object]:
    pods = cluster.items("pods", "-n", namespace, "-l", "app.kubernetes.io/component=worker")
    return [
        pod
        for pod in pods
        for condition in pod["status"].get("conditions", ())
        if condition["type"] == "Ready" and condition["status"] == "True"
    ]


def test_a_changed_digest_rolls_out_and_rollback_brings_the_old_one_back(
    cluster: Cluster, helm: Helm, namespace: str
) -> None:
    helm.install("demo", f"--set={DIGEST}={OLD}", "--set=replicas=2")
    assert images(cluster, namespace) == {OLD}
    assert len(ready(cluster, namespace)) == 2

    helm.upgrade("demo", f"--set={DIGEST}={NEW}", "--set=replicas=2")
    eventually(lambda: images(cluster, namespace), lambda found: found == {NEW})

    helm.run("rollback", "demo", "1", "--wait", "--timeout=120s")
    eventually(lambda: images(cluster, namespace), lambda found: found == {OLD})
    assert len(ready(cluster, namespace)) == 2


def test_uninstall_leaves_nothing_behind(cluster: Cluster, helm: Helm, namespace: str) -> None:
    before, around = cluster.names(namespace), cluster.cluster_names()
    helm.install("demo", "--set=policies.files.chat\\.yaml=id: chat")
    assert len(cluster.names(namespace) - before) > 5
    helm.run("uninstall", "demo", "--wait", "--timeout=120s")
    eventually(lambda: cluster.names(namespace), lambda names: names == before)
    # Namespaces of earlier tests may go meanwhile.
    eventually(lambda: cluster.cluster_names() - around, lambda more: not more)
