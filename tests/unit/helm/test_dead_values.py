"""Every leaf of the values changes a render: no value is there for nothing."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.unit.helm.chart import FULL, VALUES, merged
from tests.unit.helm.leaves import LEAVES, Path, another, at, with_leaf
from tests.unit.helm.many import Render, renders
from tests.unit.helm.rendering import needs_helm

pytestmark = needs_helm

# Where a leaf's feature is on; the longest prefix that is here counts, else the full values.
BASES: Final[dict[str, dict[str, Any]]] = {
    "image.tag": merged(FULL, {"image": {"digest": ""}}),
    "policies.existingConfigMap": with_leaf(FULL, ("policies", "files"), {}),
}
# Values of leaves that are maps or lists, or whose form the schema does not tell.
OTHERS: Final[dict[str, Any]] = {
    "imagePullSecrets": [{"name": "another"}],
    "policies.files": {"another.yaml": "id: another"},
    "service.annotations": {"another": "true"},
    "podAnnotations": {"another": "true"},
    "podLabels": {"another": "true"},
    "nodeSelector": {"another": "true"},
    "tolerations": [{"key": "another", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "resources": {"limits": {"cpu": "7"}},
    "tmpSizeLimit": "7Gi",
    "topologySpreadConstraints": [],
    "extraEnv": [{"name": "ANOTHER", "value": "1"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "another"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/another"}],
}


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
    value = OTHERS[name] if name in OTHERS else another(path, now)
    assert value != now, f"{name}: {value!r} is what stands there already"
    return base, with_leaf(base, path, value)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, tuple[Render, Render]]:
    """Of every leaf the render of its base, and the one with the leaf changed."""
    values = [part for path in LEAVES for part in values_of(path)]
    made = renders(tmp_path_factory.mktemp("many"), values)
    return dict(zip(LEAVES, zip(made[::2], made[1::2], strict=True), strict=True))


@pytest.mark.parametrize("path", LEAVES, ids=[".".join(path) for path in LEAVES])
def test_the_leaf_changes_a_render(path: Path, pairs: dict[Path, tuple[Render, Render]]) -> None:
    before, after = pairs[path]
    assert before, "nothing was rendered"
    assert before != after


def test_equal_values_have_equal_renders(pairs: dict[Path, tuple[Render, Render]]) -> None:
    """Else every leaf would seem to change something."""
    of_full = {before for path, (before, _) in pairs.items() if base_of(path) is FULL}
    assert len(of_full) == 1
