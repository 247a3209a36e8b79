"""`rsafe conduct` as a set with claims: they stay with their pods, and no longer."""

from __future__ import annotations

from tests.cluster.client import CHART, Cluster, Helm, eventually

CONDUCT = ("-l", "app.kubernetes.io/component=conduct")
CLAIMS = ("--set=conduct.enabled=true", "--set=conduct.store.persistent=true")


def claims(cluster: Cluster, namespace: str) -> set[str]:
    """By uid: a claim that was made anew is another one."""
    found = cluster.items("persistentvolumeclaims", "-n", namespace, *CONDUCT)
    return {one["metadata"]["uid"] for one in found if "deletionTimestamp" not in one["metadata"]}


def test_an_upgrade_keeps_the_claims_and_fewer_pods_have_fewer(
    cluster: Cluster, helm3: Helm, namespace: str
) -> None:
    # Without --wait: nothing provides volumes here, so the pods stay pending. The claims are made anyway.
    helm3.run("install", "demo", str(CHART), *CLAIMS, "--set=conduct.replicas=2", "--timeout=60s")
    eventually(lambda: claims(cluster, namespace), lambda found: len(found) == 2)
    before = claims(cluster, namespace)

    changed = "--set=image.digest=sha256:" + "2" * 64
    helm3.run("upgrade", "demo", str(CHART), *CLAIMS, "--set=conduct.replicas=2", changed, "--timeout=60s")
    assert claims(cluster, namespace) == before

    helm3.run("upgrade", "demo", str(CHART), *CLAIMS, "--set=conduct.replicas=1", changed, "--timeout=60s")
    eventually(lambda: claims(cluster, namespace), lambda found: len(found) == 1 and found < before)


def test_without_claims_nothing_of_the_set_is_left(cluster: Cluster, helm3: Helm, namespace: str) -> None:
    helm3.run("install", "demo", str(CHART), *CLAIMS, "--timeout=60s")
    eventually(lambda: claims(cluster, namespace), lambda found: len(found) == 1)
    helm3.run("upgrade", "demo", str(CHART), "--set=conduct.enabled=true", "--timeout=60s")
    eventually(lambda: claims(cluster, namespace), lambda found: not found)
    assert [part["metadata"]["name"] for part in cluster.items("deployments", "-n", namespace, *CONDUCT)] == [
        "demo-rsafe-stream-conduct"
    ]
    assert not cluster.items("statefulsets", "-n", namespace)
