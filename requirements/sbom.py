"""Writes the image's bill of materials: the Python packages that cyclonedx-py listed, Debian's beside them.

    python sbom.py PYTHON.cdx.json OUT.cdx.json VERSION

Runs in the image itself, with the standard library alone: `dpkg-query` says what the base brought. Packages
are in order of their purls, and nothing in the file depends on the time, so that the same image has the same
file. A package of which the CPU image left out some files (idle_on_cpu.txt) is listed all the same.
"""  # noqa: INP001 (a script of the image's build, not a package)

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

_FIELDS = r"${binary:Package}\t${Version}\t${Architecture}\t${db:Status-Status}\n"


def debian_components(listing: str, distribution: str) -> list[dict[str, Any]]:
    """CycloneDX components of the installed packages.

    `listing` has a line a package: name, version, architecture and status, tabs between. Raises `ValueError`
    for a line of another form.
    """
    components = []
    for number, line in enumerate(listing.splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) != 4:
            raise ValueError(f"dpkg-query: line {number}: found {len(fields)} fields, expected 4")
        name, version, architecture, status = fields
        if status != "installed":
            continue
        name = name.partition(":")[0]  # of a foreign architecture, which has its own field
        purl = (
            f"pkg:deb/debian/{quote(name, safe='.+-')}@{quote(version, safe='.+~-')}"
            f"?arch={architecture}&distro={distribution}"
        )
        components.append(
            {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        )
    return components


def whole(python: dict[str, Any], debian: list[dict[str, Any]], version: str) -> dict[str, Any]:
    """The bill of the Python packages with Debian's packages added, for the image of this version."""
    bill = dict(python)
    bill["components"] = sorted(
        [*python.get("components", []), *debian],
        key=lambda one: (str(one.get("purl", "")), str(one.get("name", ""))),
    )
    metadata = dict(python.get("metadata", {}))
    metadata.pop("timestamp", None)
    metadata["component"] = {
        "type": "container",
        "bom-ref": "rsafe-stream-image",
        "name": "rsafe-stream",
        "version": version,
    }
    bill["metadata"] = metadata
    bill.pop("serialNumber", None)
    # Its root is the virtual environment; who depends on whom among the packages stays.
    bill["dependencies"] = [
        one for one in python.get("dependencies", []) if not str(one.get("ref", "")).startswith("root")
    ]
    return bill


def distribution(os_release: str) -> str:
    """`debian-12` of an os-release file; `debian` where it names no version."""
    facts = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    parts = (facts.get("ID", "debian").strip('"'), facts.get("VERSION_ID", "").strip('"'))
    return "-".join(part for part in parts if part)


def main(arguments: list[str]) -> None:
    """Read, ask dpkg, write."""
    source, target, version = arguments
    listing = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={_FIELDS}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    where = distribution(Path("/etc/os-release").read_text(encoding="utf-8"))
    bill = whole(
        json.loads(Path(source).read_text(encoding="utf-8")), debian_components(listing, where), version
    )
    Path(target).write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
