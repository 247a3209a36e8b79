from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.unit.helm.crds import strict
from tests.unit.helm.goldens import VERSIONS
from tests.unit.helm.kubernetes_schemas import errors

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "worker"},
    "spec": {
        "selector": {"matchLabels": {"app": "worker"}},
        "template": {
            "metadata": {"labels": {"app": "worker"}},
            "spec": {"containers": [{"name": "worker", "image": "worker:1"}]},
        },
    },
}
SCALED: dict[str, Any] = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "worker"},
    "spec": {
        "scaleTargetRef": {"name": "worker"},
        "triggers": [{"type": "apache-kafka", "metadata": {"topic": "chat.events"}}],
    },
}


def with_value(part: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(part)
    place: Any = changed
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[last] = value
    return changed


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("part", [DEPLOYMENT, SCALED], ids=["Deployment", "ScaledObject"])
def test_a_good_object_has_no_errors(part: dict[str, Any], version: str) -> None:
    assert list(errors(part, version)) == []


@pytest.mark.parametrize(
    ("part", "path", "value", "words"),
    [
        (DEPLOYMENT, "spec.replica", 2, "replica"),
        (DEPLOYMENT, "spec.replicas", "two", "integer"),
        (DEPLOYMENT, "spec.template.spec.containers.0.livenesProbe", {}, "livenesProbe"),
        (DEPLOYMENT, "spec.template.spec.containers.0.name", None, "$.spec.template.spec.containers[0].name"),
        (DEPLOYMENT, "apiVersion", "apps/v1beta1", "no schema"),
        (DEPLOYMENT, "kind", "Deploiment", "no schema"),
        (SCALED, "spec.pollInterval", 30, "pollInterval"),
        (SCALED, "spec.triggers", None, "$.spec.triggers"),
        (SCALED, "spec.triggers.0.metadata.lagThreshold", 50, "is not of type 'string'"),
        (SCALED, "apiVersion", "keda.sh/v1", "no schema"),
    ],
    ids=[
        *("unknown-field", "wrong-type", "misspelt-deep", "name-missing", "old-version", "wrong-kind"),
        *("crd-unknown-field", "crd-missing", "crd-wrong-type", "crd-version"),
    ],
)
def test_what_a_server_would_refuse_is_an_error(
    part: dict[str, Any], path: str, value: object, words: str
) -> None:
    assert words in "\n".join(errors(with_value(part, path, value), "1.37"))


def test_a_structural_schema_becomes_strict_where_it_is_closed() -> None:
    made = strict(
        {
            "type": "object",
            "description": "…",
            "properties": {
                "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}]},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {}},
                "words": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }
    )
    assert made["additionalProperties"] is False
    assert made["properties"]["port"] == {"type": ["integer", "string"]}
    assert "additionalProperties" not in made["properties"]["free"]
    assert made["properties"]["words"]["additionalProperties"] == {"type": "string"}
