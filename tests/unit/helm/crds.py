"""Makes the JSON Schemas in `crds/` from the CRDs of KEDA and of the Prometheus operator.

    python -m tests.unit.helm.crds FOLDER

FOLDER is what `tests/cluster/build.sh` prints: it has the CRDs as `crds-keda` and `crds-prometheus`, from the
Go modules whose versions and checksums stand in that script. Of a CRD the structural schema is kept, without
descriptions, and made as strict as a server is with `--validate=strict`: a field that is not described is
refused. Rules in CEL are not kept; the tests on a control plane have them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from tests.unit.helm.kubernetes_schemas import CRDS

KINDS: Final = {
    "crds-keda": ("keda.sh_scaledobjects", "keda.sh_triggerauthentications"),
    "crds-prometheus": (
        "monitoring.coreos.com_podmonitors",
        "monitoring.coreos.com_prometheusrules",
        "monitoring.coreos.com_servicemonitors",
    ),
}
METADATA: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "maxLength": 253},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
# Words of a CRD's schema that JSON Schema has as well.
KEPT: Final = frozenset(
    {"type", "enum", "format", "pattern", "required", "default"}
    | {
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    }
)


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A structural schema as a strict JSON Schema."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"], **{k: v for k, v in schema.items() if k == "pattern"}}
    made = {key: value for key, value in schema.items() if key in KEPT}
    if schema.get("nullable"):
        made["type"] = [schema["type"], "null"]
    if "items" in schema:
        made["items"] = strict(schema["items"])
    open_map = schema.get("additionalProperties")
    if "properties" in schema:
        made["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
    if isinstance(open_map, dict):
        made["additionalProperties"] = strict(open_map)
    elif "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    for junctor in ("oneOf", "anyOf", "allOf"):
        if junctor in schema:
            made[junctor] = schema[junctor]  # of values alone, in a structural schema
    return made


def schemas(crd: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """File name → strict schema, of each version of a CRD that is served."""
    group, kind = crd["spec"]["group"], crd["spec"]["names"]["kind"]
    made = {}
    for version in crd["spec"]["versions"]:
        if version["served"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = METADATA
            schema["required"] = sorted({"apiVersion", "kind", "metadata", *schema.get("required", [])})
            made[f"{group}.{version['name']}.{kind}.json"] = schema
    return made


def made_from(folder: Path) -> dict[str, str]:
    """File name → text, of all kinds that the chart can render."""
    return {
        file: json.dumps(schema, indent=1, sort_keys=True) + "\n"
        for part, names in KINDS.items()
        for name in names
        for file, schema in schemas(
            yaml.safe_load((folder / part / f"{name}.yaml").read_text("utf-8"))
        ).items()
    }


def main(arguments: list[str]) -> int:
    """Write the files; the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tests.unit.helm.crds FOLDER\n")
        return 2
    CRDS.mkdir(exist_ok=True)
    for file, text in made_from(Path(arguments[0])).items():
        (CRDS / file).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
