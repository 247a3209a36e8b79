"""What `helm template` makes of the chart, as objects. `helm` is the one on the PATH, of Helm 3 or 4."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.unit.helm.chart import CHART

Object = dict[str, Any]
HELM: Final = shutil.which("helm")
needs_helm: Final = pytest.mark.skipif(HELM is None, reason="helm is not on the PATH")

# What a cluster with KEDA and the Prometheus operator says that it knows.
API_VERSIONS: Final = (
    "keda.sh/v1alpha1",
    "keda.sh/v1alpha1/ScaledObject",
    "keda.sh/v1alpha1/TriggerAuthentication",
    "monitoring.coreos.com/v1",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "monitoring.coreos.com/v1/ServiceMonitor",
)
# Ten times as quick as the loader in Python, where libyaml is built in; it is in the wheels of PyYAML.
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def helm(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """One run of helm, whatever its exit code."""
    assert HELM is not None, "helm is not on the PATH"
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, input=stdin)


def template(
    *arguments: str, chart: Path = CHART, version: str = "1.34", values: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`helm template demo CHART` in the namespace `moderation`, for a cluster of that version of Kubernetes.

    `values` is the text of a value file.
    """
    known = (word for name in API_VERSIONS for word in ("--api-versions", name))
    place = ("--namespace", "moderation", "--kube-version", f"{version}.0")
    given = () if values is None else ("-f", "-")
    return helm("template", "demo", str(chart), *place, *known, *given, *arguments, stdin=values)


def parse(text: str) -> list[Object]:
    """The objects of a rendered text, in its order."""
    return [part for part in yaml.load_all(text, Loader=LOADER) if part]


def rendered(*arguments: str, version: str = "1.34") -> list[Object]:
    """The objects; an `AssertionError` with helm's words where it refuses."""
    run = template(*arguments, version=version)
    assert run.returncode == 0, run.stderr
    return parse(run.stdout)


def label(part: Object) -> str:
    """`Kind/name`, which no two objects of a release share."""
    return f"{part['kind']}/{part['metadata']['name']}"


def pod_templates(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Each object that makes pods, or is one, with the pod that it makes (`metadata` and `spec`)."""
    for part in objects:
        if part["kind"] == "Pod":
            yield part, part
            continue
        spec = part.get("spec", {})
        job = spec.get("jobTemplate", {}).get("spec", {}) if part["kind"] == "CronJob" else spec
        template_of_pod = job.get("template", {}) if isinstance(job, dict) else {}
        if isinstance(template_of_pod, dict) and "containers" in template_of_pod.get("spec", {}):
            yield part, template_of_pod


def containers(pod: Object) -> list[Object]:
    """All containers of a pod, those that run first among them."""
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]
