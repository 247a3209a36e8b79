"""What the API server says about everything that the chart renders: strict schemas, defaults, admission."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.client import CHART, Cluster, Helm, Object, Refused

VALUES = sorted(CHART.glob("ci/*.yaml"))
each_values = pytest.mark.parametrize("values", VALUES, ids=[file.stem for file in VALUES])


def pod_templates(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Everything that makes pods, or is one, as `kind/name` and the pod it makes."""
    for part in objects:
        spec = part.get("spec", {})
        template = (
            part if part["kind"] == "Pod" else spec.get("jobTemplate", part).get("spec", {}).get("template")
        )
        if template and "containers" in template.get("spec", {}):
            yield f"{part['kind']}/{part['metadata']['name']}", template


def provide(cluster: Cluster, namespace: str, pods: list[Object]) -> None:
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


@each_values
def test_the_server_takes_every_object_without_a_warning(
    cluster: Cluster, helm3: Helm, namespace: str, values: Path
) -> None:
    warnings = cluster.would_create(helm3.objects("-f", str(values)), namespace)
    assert warnings == ""


@each_values
def test_every_pod_is_admitted_under_restricted(
    cluster: Cluster, helm3: Helm, namespace: str, values: Path
) -> None:
    templates = dict(pod_templates(helm3.objects("-f", str(values))))
    assert templates
    provide(cluster, namespace, list(templates.values()))
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": template["metadata"] | {"name": f"pod-{number}"},
            "spec": template["spec"],
        }
        for number, template in enumerate(templates.values())
    ]
    cluster.would_create(pods, namespace)


def test_restricted_is_enforced(cluster: Cluster, namespace: str) -> None:
    """Without it the test above would say nothing."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "careless"},
        "spec": {"containers": [{"name": "one", "image": "one"}]},
    }
    with pytest.raises(Refused, match='violates PodSecurity "restricted'):
        cluster.would_create([pod], namespace)


@pytest.mark.parametrize(
    ("version", "kind", "spec"),
    [
        ("monitoring.coreos.com/v1", "PodMonitor", {"selector": {}}),
        ("monitoring.coreos.com/v1", "ServiceMonitor", {"selector": {}, "endpoints": []}),
        ("monitoring.coreos.com/v1", "PrometheusRule", {"groups": []}),
        ("keda.sh/v1alpha1", "ScaledObject", {"scaleTargetRef": {"name": "worker"}, "triggers": []}),
        ("keda.sh/v1alpha1", "TriggerAuthentication", {}),
        ("apps/v1", "Deployment", {"selector": {}, "template": {}}),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" not in value else "",
)
def test_an_unknown_field_is_refused(
    cluster: Cluster, namespace: str, version: str, kind: str, spec: Object
) -> None:
    """The operators' objects are checked as strictly as Kubernetes's own, because their CRDs are there."""
    part = {"apiVersion": version, "kind": kind, "metadata": {"name": "one"}, "spec": {**spec, "mistyped": 1}}
    with pytest.raises(Refused, match=r'unknown field "spec\.mistyped"'):
        cluster.would_create([part], namespace)
