"""The value files that the tests go through, and what the cluster has to have for their pods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.cluster.client import CHART, Cluster, Object

# Beside the chart's own, two that make every kind of object between them.
VALUES: Final = sorted([*CHART.glob("ci/*.yaml"), *Path(__file__).parent.glob("values/*.yaml")])
GOLDENS: Final = Path(__file__).resolve().parents[1] / "unit" / "helm" / "goldens"
each_values = pytest.mark.parametrize("values", VALUES, ids=[file.stem for file in VALUES])


def golden_objects(values: Path) -> list[Object]:
    """What the kept renders of a value file hold, for all versions of Kubernetes."""
    files = sorted(GOLDENS.glob(f"{values.stem.removesuffix('-values')}.*.yaml"))
    return [part for file in files for part in yaml.safe_load_all(file.read_text()) if part]


def pod_templates(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Everything that makes pods, or is one: `kind/name`, and the pod with its claims as volumes."""
    for part in objects:
        spec = part.get("spec", {})
        template = (
            part if part["kind"] == "Pod" else spec.get("jobTemplate", part).get("spec", {}).get("template")
        )
        if template and "containers" in template.get("spec", {}):
            yield f"{part['kind']}/{part['metadata']['name']}", _with_claims(template, spec)


def _with_claims(template: Object, spec: Object) -> Object:
    """As the controller of a StatefulSet makes the first pod."""
    names = [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])]
    claims = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-0"}} for name in names]
    volumes = [*template["spec"].get("volumes", []), *claims]
    return {**template, "spec": {**template["spec"], "volumes": volumes}}


def provide(cluster: Cluster, namespace: str, pods: Iterable[Object]) -> None:
    """The accounts, priorities and runtimes that pods name, without which admission refuses them."""
    for pod in (pod["spec"] for pod in pods):
        kinds: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
            ("serviceAccountName", "ServiceAccount", "v1", {}),
            ("priorityClassName", "PriorityClass", "scheduling.k8s.io/v1", {"value": 1000}),
            ("runtimeClassName", "RuntimeClass", "node.k8s.io/v1", {"handler": "nvidia"}),
        )
        for field, kind, version, words in kinds:
            name = pod.get(field)
            if (
                name
                and not cluster.run("get", kind, name, "-n", namespace, "-o", "name", "--ignore-not-found")[0]
            ):
                made = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **words}
                cluster.create(made, namespace=namespace)
