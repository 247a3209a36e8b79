"""Strict validation of objects against the schemas of Kubernetes, KEDA and the Prometheus operator.

Those of Kubernetes lie in the package `kubernetes-validate`, in which unknown fields are refused everywhere.
Its own `validate` reads a megabyte and a half of definitions for each object; here they are read once. Those
of the operators' objects are in `crds/`, made by `python -m tests.unit.helm.crds` from the CRDs in their Go
modules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

CRDS: Final = Path(__file__).resolve().parent / "crds"
DEFINITIONS: Final = "/api/_definitions.json"


class UnknownKindError(Exception):
    """There is no schema for objects of this kind: a wrong `apiVersion`, or a CRD that is not in `crds/`."""


def errors(part: dict[str, Any], version: str) -> Iterator[str]:
    """What a server of that version (`1.34`) would refuse, as `path: reason`; nothing for a good object."""
    try:
        validator = _validator(str(part["apiVersion"]), str(part["kind"]), version)
    except UnknownKindError as unknown:
        yield str(unknown)
        return
    for error in validator.iter_errors(part):
        yield _words(error)


def _words(error: ValidationError) -> str:
    deepest = best_match([error]) or error
    return f"{deepest.json_path}: {deepest.message}"


@cache
def _validator(api_version: str, kind: str, version: str) -> Draft202012Validator:
    group, _, number = api_version.rpartition("/")
    crd = CRDS / f"{group}.{number}.{kind}.json"
    if crd.exists():
        return Draft202012Validator(json.loads(crd.read_text(encoding="utf-8")))
    # Of `rbac.authorization.k8s.io/v1` the file's name has `rbac-v1`.
    short = "-".join(word for word in (kind.lower(), group.split(".")[0], number) if word)
    file = _folder(version).joinpath(f"{short}.json")
    if not file.is_file():
        raise UnknownKindError(f"$: no schema of {api_version} {kind} for Kubernetes {version}")
    return Draft202012Validator(json.loads(file.read_text(encoding="utf-8")), registry=_definitions(version))


def _folder(version: str) -> Any:
    return files("kubernetes_validate").joinpath("kubernetes-json-schema", f"v{version}.0-local-strict")


@cache
def _definitions(version: str) -> Registry[Any]:
    text = _folder(version).joinpath("_definitions.json").read_text(encoding="utf-8")
    resource = Resource.from_contents(json.loads(text), default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(DEFINITIONS, resource)
    return registry
