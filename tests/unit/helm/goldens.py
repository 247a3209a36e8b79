"""Golden renders: every value file in `ci/`, for two versions of Kubernetes.

    python -m tests.unit.helm.goldens            makes them anew (`make goldens`); needs `helm`
    python -m tests.unit.helm.goldens --check    exit code 1 when one is stale

They are what a change of the chart is read by in a review, and what the tests of the rendered objects go
through, so that those run where there is no helm. Helm 3 and Helm 4 make the same ones: objects are sorted by
kind and name, keys by name, comments are gone. Of a long text in a ConfigMap, such as a dashboard, its hash
and length stand in place of it: the file itself lies in the repository.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from tests.unit.helm.chart import CHART
from tests.unit.helm.rendering import Object, label, parse, rendered

FOLDER: Final = Path(__file__).resolve().parent / "goldens"
VALUES: Final = sorted(CHART.glob("ci/*-values.yaml"))
# The oldest that has volumes of images, and the newest that the validator's schemas know.
VERSIONS: Final = ("1.33", "1.37")
CASES: Final = [(values, version) for values in VALUES for version in VERSIONS]
LONGEST_TEXT: Final = 4000  # characters; policies of an example fit, dashboards do not
DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Block(str):
    """A text of several lines, written as it stands."""

    __slots__ = ()


def _block(dumper: yaml.SafeDumper, text: Block) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")


yaml.add_representer(Block, _block, Dumper=DUMPER)


def name(values: Path, version: str) -> str:
    """The golden's name: `minimal.1.33` of `minimal-values.yaml`."""
    return f"{values.name.removesuffix('-values.yaml')}.{version}"


NAMES: Final = [name(values, version) for values, version in CASES]


def path(values: Path, version: str) -> Path:
    """Where the golden lies."""
    return FOLDER / f"{name(values, version)}.yaml"


def normalised(objects: list[Object]) -> str:
    """The objects as a text that is the same whatever helm made them."""
    ordered = sorted(objects, key=lambda part: (label(part), part["metadata"].get("namespace", "")))
    return yaml.dump_all(
        [_plain(part) for part in ordered], Dumper=DUMPER, sort_keys=True, width=110, allow_unicode=True
    )


def golden(values: Path, version: str) -> str:
    """The golden as the chart makes it now."""
    return normalised(rendered("-f", str(values), version=version))


def stored(values: Path, version: str) -> list[Object]:
    """The objects of the golden that lies in the folder."""
    return parse(path(values, version).read_text(encoding="utf-8"))


def _plain(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _plain(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_plain(value) for value in part]
    if isinstance(part, str) and len(part) > LONGEST_TEXT:
        return f"sha256:{hashlib.sha256(part.encode()).hexdigest()} of {len(part)} characters"
    return Block(part) if isinstance(part, str) and "\n" in part else part


def main(arguments: list[str]) -> int:
    """Write all goldens and remove those without values, or compare them; the exit code."""
    fresh = {path(*case): golden(*case) for case in CASES}
    old = set(FOLDER.glob("*.yaml"))
    if "--check" in arguments:
        stale = [file for file, text in fresh.items() if file not in old or file.read_text("utf-8") != text]
        stale += sorted(old - set(fresh))
        for file in stale:
            sys.stderr.write(f"{file.name} is stale: run `make goldens`\n")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for file in old - set(fresh):
        file.unlink()
    for file, text in fresh.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
