"""A release's life under both lines of Helm, in a namespace that enforces Pod Security `restricted`."""

from __future__ import annotations

from tests.cluster.client import Cluster, Helm, Object, eventually

OLD, NEW = (digit * 64 for digit in "12")
VARIABLE = "RSAFE_GUARD__CHECKPOINT_DIGEST"
CHECKPOINT = ("--set=checkpoint.existingClaim=checkpoints", "--set=replicas=2")


def workers(cluster: Cluster, namespace: str) -> list[Object]:
    """Those that are ready and not on their way out."""
    return [
        pod
        for pod in cluster.items("pods", "-n", namespace, "-l", "app.kubernetes.io/component=worker")
        if "deletionTimestamp" not in pod["metadata"]
        for condition in pod["status"].get("conditions", ())
        if condition["type"] == "Ready" and condition["status"] == "True"
    ]


def digests(cluster: Cluster, namespace: str) -> list[str]:
    """Of the checkpoint that each worker has to load."""
    return [
        variable["value"]
        for pod in workers(cluster, namespace)
        for container in pod["spec"]["containers"]
        for variable in container["env"]
        if variable["name"] == VARIABLE
    ]


def claim(cluster: Cluster, namespace: str, name: str) -> None:
    """A claim with a volume: the scheduler wants both before a pod that mounts it."""
    size, modes = {"storage": "1Gi"}, ["ReadOnlyMany"]
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{namespace}-{name}"},
        "spec": {
            "capacity": size,
            "accessModes": modes,
            "storageClassName": "",
            "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": namespace, "name": name},
        },
    }
    asked = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": modes, "storageClassName": "", "resources": {"requests": size}},
    }
    cluster.create(volume)
    cluster.create(asked, namespace=namespace)


def test_a_changed_digest_rolls_out_and_rollback_brings_the_old_one_back(
    cluster: Cluster, helm: Helm, namespace: str
) -> None:
    claim(cluster, namespace, "checkpoints")
    helm.install("demo", *CHECKPOINT, f"--set-string=checkpoint.digest={OLD}")
    assert digests(cluster, namespace) == [OLD, OLD]

    helm.upgrade("demo", *CHECKPOINT, f"--set-string=checkpoint.digest={NEW}")
    eventually(lambda: digests(cluster, namespace), lambda found: found == [NEW, NEW])

    helm.run("rollback", "demo", "1", "--wait", "--timeout=120s")
    eventually(lambda: digests(cluster, namespace), lambda found: found == [OLD, OLD])


def test_uninstall_leaves_nothing_behind(cluster: Cluster, helm: Helm, namespace: str) -> None:
    before, around = cluster.names(namespace), cluster.cluster_names()
    helm.install("demo", "--set=policies.files.chat\\.yaml=id: chat", "--set=networkPolicy.enabled=true")
    helm.run("test", "demo", "--timeout=60s")
    assert len(cluster.names(namespace) - before) > 6
    helm.run("uninstall", "demo", "--wait", "--timeout=120s")
    eventually(lambda: cluster.names(namespace), lambda names: names == before)
    # Namespaces of earlier tests may go meanwhile.
    eventually(lambda: cluster.cluster_names() - around, lambda more: not more)
