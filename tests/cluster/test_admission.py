"""What the API server says about everything that the chart renders: strict schemas, defaults, admission."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.client import Cluster, Helm, Object, Refused
from tests.cluster.value_files import each_values, golden_objects, pod_templates, provide


@each_values
def test_the_server_takes_every_object_without_a_warning(
    cluster: Cluster, helm3: Helm, namespace: str, values: Path
) -> None:
    """Rendered for this server, and the golden renders for others: it has to know what those hold as well."""
    objects = helm3.objects("-f", str(values)) + golden_objects(values)
    accounts = [part for part in objects if part["kind"] == "ServiceAccount"]
    others = [part for part in objects if part["kind"] != "ServiceAccount"]
    if accounts:
        assert cluster.would_create(accounts, namespace) == ""
    # A bare pod is refused while its account is not there, and a dry run leaves none.
    provide(cluster, namespace, [part for part in others if part["kind"] == "Pod"])
    assert cluster.would_create(others, namespace) == ""


@each_values
def test_every_pod_is_admitted_under_restricted(
    cluster: Cluster, helm3: Helm, namespace: str, values: Path
) -> None:
    templates = dict(pod_templates(helm3.objects("-f", str(values))))
    assert templates
    provide(cluster, namespace, templates.values())
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
        ("apps/v1", "StatefulSet", {"selector": {}, "template": {}, "serviceName": "one"}),
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
