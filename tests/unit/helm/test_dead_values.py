"""Every leaf of the values changes a render: no value is there for nothing."""

from __future__ import annotations

from typing import Any, Final

import pytest
import yaml

from tests.unit.helm.chart import FULL, VALUES, merged
from tests.unit.helm.leaves import LEAVES, Path, another, at, with_leaf
from tests.unit.helm.many import Render, renders
from tests.unit.helm.rendering import needs_helm, template

pytestmark = needs_helm

GPU: Final = {"limits": {"nvidia.com/gpu": 1}}
NO_BUDGET: Final = {"podDisruptionBudget": {"minAvailable": "", "maxUnavailable": 1}}
KEDA: Final = {
    "replicas": 1,
    "autoscaling": {"kind": "keda", "keda": {"guardQueue": {"serverAddress": "http://prometheus:9090"}}},
}
HPA: Final = {"replicas": 1, "autoscaling": {"kind": "hpa"}, "resources": {"requests": {"cpu": "1"}}}
# Servers of the chart's own instead of those that the full values name.
GUARD: Final = {
    "guard": {"enabled": True, "resources": GPU},
    "tls": {"guard": {"existingSecret": ""}},
}
MUTUAL: Final = {"existingSecret": "redis-tls", "certificate": "tls.crt", "key": "tls.key"}
IMAGE: Final = {"existingClaim": "", "image": {"reference": "registry.example/guard:1"}}

# Where a leaf's feature is on; the longest prefix that is here counts, else the full values.
BASES: Final[dict[str, dict[str, Any]]] = {
    "autoscaling": merged(FULL, NO_BUDGET | KEDA),
    "autoscaling.hpa": merged(FULL, NO_BUDGET | HPA),
    "checkpoint.image": merged(FULL, {"checkpoint": IMAGE}),
    "conduct.image.tag": merged(FULL, {"conduct": {"image": {"digest": ""}}}),
    "conduct.store.persistent": merged(FULL, {"conduct": {"store": {"storageClassName": ""}}}),
    "guard": merged(with_leaf(FULL, ("settings", "guard"), {}), GUARD),
    "image.tag": merged(FULL, {"image": {"digest": ""}}),
    "monitoring.rules": merged(FULL, {"monitoring": {"rules": {"enabled": True}}}),
    "monitoring.serviceMonitor": merged(
        FULL, {"monitoring": {"podMonitor": {"enabled": False}, "serviceMonitor": {"enabled": True}}}
    ),
    "networkPolicy.traces": merged(FULL, {"settings": {"tracing": {"export": "http"}}}),
    "podDisruptionBudget.maxUnavailable": merged(FULL, NO_BUDGET),
    "policies.existingConfigMap": with_leaf(FULL, ("policies", "files"), {}),
    "serviceAccount": merged(FULL, {"serviceAccount": {"create": True}}),
    "shutdownMarginSeconds": merged(FULL, {"terminationGracePeriodSeconds": 0}),
    "tls.redis": merged(FULL, {"tls": {"redis": MUTUAL}}),
    "trainer.image.variant": merged(FULL, {"trainer": {"image": {"variant": "gpu"}, "resources": GPU}}),
}
PEER: Final = [{"podSelector": {"matchLabels": {"app": "another"}}}]
CONSTRAINT: Final = {
    "maxSkew": 7,
    "topologyKey": "another",
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {},
}
RESOURCE: Final = {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 7}}
# Values of leaves that are maps or lists, or whose form the schema does not tell; by path or its last word.
OTHERS: Final[dict[str, Any]] = {
    "affinity": {"nodeAffinity": {}},
    "annotations": {"another": "true"},
    "args": ["another"],
    "autoscaling.hpa.metrics": [{"type": "Resource", "resource": RESOURCE}],
    "checkpoint.digest": "7" * 64,
    "extraEgress": [{"to": PEER}],
    "extraEnv": [{"name": "ANOTHER", "value": "1"}],
    "extraIngress": [{"from": PEER}],
    "extraObjects": [],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/another"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "another"}}],
    "guard.resources": {"limits": {"nvidia.com/gpu": 2}},
    "imagePullSecrets": [{"name": "another"}],
    "labels": {"another": "true"},
    "metricsFrom": PEER,
    "viewFrom": PEER,
    "nodeSelector": {"another": "true"},
    "podAnnotations": {"another": "true"},
    "podDisruptionBudget.minAvailable": 1,
    "podLabels": {"another": "true"},
    "policies.files": {"another.yaml": "id: another"},
    "ports": [7777],
    "resources": {"limits": {"cpu": "7"}},
    "to": PEER,
    "tolerations": [{"key": "another", "operator": "Exists"}],
    "topologySpreadConstraints": [CONSTRAINT],
}
# What the image was built for is rendered nowhere: it decides what is refused.
REFUSED: Final = {"image.variant", "guard.image.variant", "trainer.image.variant"}
SHOWN: Final = [path for path in LEAVES if ".".join(path) not in REFUSED]


def base_of(path: Path) -> dict[str, Any]:
    for length in range(len(path), 0, -1):
        if (found := BASES.get(".".join(path[:length]))) is not None:
            return found
    return FULL


def values_of(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The leaf's base, and the base with the leaf changed."""
    base = base_of(path)
    name = ".".join(path)
    now = at(merged(VALUES, base), path)
    listed = next((word for word in (name, path[-1]) if word in OTHERS), None)
    value = OTHERS[listed] if listed else another(path, now)
    assert value != now, f"{name}: {value!r} is what stands there already"
    return base, with_leaf(base, path, value)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, tuple[Render, Render]]:
    """Of every leaf the render of its base, and the one with the leaf changed."""
    values = [part for path in SHOWN for part in values_of(path)]
    made = renders(tmp_path_factory.mktemp("many"), values)
    return dict(zip(SHOWN, zip(made[::2], made[1::2], strict=True), strict=True))


@pytest.mark.parametrize("path", SHOWN, ids=[".".join(path) for path in SHOWN])
def test_the_leaf_changes_a_render(path: Path, pairs: dict[Path, tuple[Render, Render]]) -> None:
    before, after = pairs[path]
    assert before, "nothing was rendered"
    assert before != after


def test_equal_values_have_equal_renders(pairs: dict[Path, tuple[Render, Render]]) -> None:
    """Else every leaf would seem to change something."""
    of_full = {before for path, (before, _) in pairs.items() if base_of(path) is FULL}
    assert len(of_full) == 1


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_the_leaf_makes_a_refusal(name: str) -> None:
    base, changed = (yaml.safe_dump(values) for values in values_of(tuple(name.split("."))))
    assert template(values=base).returncode == 0
    run = template(values=changed)
    assert run.returncode != 0
    assert name in run.stderr
