"""The control plane that all tests of this folder share, and a namespace of their own for each."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.client import Cluster, Helm, Object, eventually
from tests.cluster.control_plane import Site, control_plane, environment
from tests.conftest import require
from workers.errors import StartError

BUILD = Path(__file__).with_name("build.sh")
# What a chart can make; the operators' other kinds, some of them very long, are for those who run them.
CRDS = (
    *(f"crds-keda/keda.sh_{kind}.yaml" for kind in ("scaledobjects", "scaledjobs", "triggerauthentications")),
    "crds-keda/keda.sh_clustertriggerauthentications.yaml",
    *(f"crds-prometheus/monitoring.coreos.com_{kind}.yaml" for kind in ("podmonitors", "servicemonitors")),
    "crds-prometheus/monitoring.coreos.com_prometheusrules.yaml",
)
# Labelled and tainted as platforms and NVIDIA's operator do it; `pool` stands for a platform's own label.
NODES = {
    "gpu-0": {
        "pool": "gpu",
        "nvidia.com/gpu.present": "true",
        "topology.kubernetes.io/zone": "a",
        "gpus": "2",
    },
    "cpu-0": {"pool": "cpu", "topology.kubernetes.io/zone": "b"},
}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The programs, if they have been built."""
    folder = subprocess.run(
        ["bash", str(BUILD), "--folder"], capture_output=True, text=True, check=True
    ).stdout
    programs = Path(folder.strip())
    require(
        (programs / "complete").exists(), "no control plane has been built; `make test-cluster` builds it"
    )
    return Site(programs, tmp_path_factory.mktemp("control-plane"))


@pytest.fixture(scope="session")
def cluster(site: Site) -> Iterator[Cluster]:
    """A running cluster with a GPU node, a CPU node, and the CRDs of KEDA and of the Prometheus operator."""
    try:
        with control_plane(site):
            asked = Cluster(site.program("kubectl"), environment(site))
            for file in CRDS:
                # Some of them are too long for the annotation that `apply` would write.
                asked.run("create", "-f", str(site.programs / file))
            # Not `kubectl wait`, which fails on a CRD whose conditions are null, as they are when it is new.
            eventually(lambda: asked.items("crd"), lambda found: all(map(_established, found)))
            asked.create(*(_node(name, **words) for name, words in NODES.items()))
            asked.run("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")
            yield asked
    except StartError as error:
        pytest.fail(str(error), pytrace=False)


def _established(crd: Object) -> bool:
    conditions = crd.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _node(name: str, *, gpus: str = "", **labels: str) -> dict[str, object]:
    resources = {"cpu": "32", "memory": "256Gi", "pods": "110"} | ({"nvidia.com/gpu": gpus} if gpus else {})
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "spec": {"taints": [taint]} if gpus else {},
        "status": {"allocatable": resources, "capacity": resources},
    }


@pytest.fixture(scope="session")
def numbered() -> Callable[[str], str]:
    """Makes names that no other test has."""
    numbers = itertools.count()
    return lambda stem: f"{stem}-{next(numbers)}"


@pytest.fixture
def namespace(cluster: Cluster, numbered: Callable[[str], str]) -> Iterator[str]:
    """An empty namespace in which Pod Security `restricted` is enforced."""
    name = numbered("restricted")
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": levels}})
    # What controllers put into each: pods are refused without the account, and a test that compares what is
    # there before and after must not take either for the chart's.
    eventually(lambda: cluster.names(name), {"serviceaccount/default", "configmap/kube-root-ca.crt"}.issubset)
    yield name
    cluster.run("delete", "namespace", name, "--wait=false")


@pytest.fixture(params=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest, site: Site, cluster: Cluster, namespace: str) -> Helm:
    """Both kept lines of Helm."""
    return Helm(str(site.programs / request.param / "helm"), cluster.environment, namespace)


@pytest.fixture
def helm3(site: Site, cluster: Cluster, namespace: str) -> Helm:
    """Where it matters what the server says, not which Helm asks."""
    return Helm(str(site.programs / "helm3" / "helm"), cluster.environment, namespace)
