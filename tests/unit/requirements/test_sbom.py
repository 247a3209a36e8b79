from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


def script() -> ModuleType:
    """`requirements/sbom.py`, which is run by its path in the image and is no package."""
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "requirements" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SBOM = script()
PYTHON: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "serialNumber": "urn:uuid:1",
    "metadata": {"timestamp": "2026-01-01T00:00:00Z", "tools": {"components": []}},
    "components": [{"name": "redis", "version": "8.1", "purl": "pkg:pypi/redis@8.1"}],
    "dependencies": [{"ref": "root-component"}, {"ref": "redis==8.1"}],
}


def test_an_installed_package_is_named_by_its_purl() -> None:
    (component,) = SBOM.debian_components("libc6:amd64\t2.36-9+deb12u14\tamd64\tinstalled\n", "debian-12")
    assert component["purl"] == "pkg:deb/debian/libc6@2.36-9+deb12u14?arch=amd64&distro=debian-12"
    assert (component["name"], component["version"]) == ("libc6", "2.36-9+deb12u14")


def test_an_epoch_is_escaped() -> None:
    (component,) = SBOM.debian_components("zlib1g\t1:1.2.13\tamd64\tinstalled\n", "debian-12")
    assert component["purl"].startswith("pkg:deb/debian/zlib1g@1%3A1.2.13?")
    assert component["version"] == "1:1.2.13"


def test_a_removed_package_whose_configuration_is_left_is_not_listed() -> None:
    assert SBOM.debian_components("vim\t9.0\tamd64\tconfig-files\n", "debian-12") == []


def test_a_line_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="line 1: found 2 fields, expected 4"):
        SBOM.debian_components("vim\t9.0\n", "debian-12")


def test_the_whole_bill_names_both_kinds_and_the_image_and_no_time() -> None:
    debian = SBOM.debian_components("bash\t5.2\tamd64\tinstalled\n", "debian-12")
    bill = SBOM.whole(PYTHON, debian, "0.1.0")
    assert [one["purl"].partition("@")[0] for one in bill["components"]] == [
        "pkg:deb/debian/bash",
        "pkg:pypi/redis",
    ]
    assert bill["metadata"]["component"]["version"] == "0.1.0"
    assert "timestamp" not in bill["metadata"]
    assert "serialNumber" not in bill
    assert bill["dependencies"] == [{"ref": "redis==8.1"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [('ID=debian\nVERSION_ID="12"\n', "debian-12"), ("ID=debian\n", "debian"), ("", "debian")],
    ids=["versioned", "testing", "empty"],
)
def test_the_distribution_is_read_from_the_base(text: str, expected: str) -> None:
    assert SBOM.distribution(text) == expected


def test_what_the_cpu_image_leaves_out_was_looked_at_for_this_pytorch() -> None:
    # Which libraries PyTorch is linked against changes with its version: look again before changing this.
    left_out = (ROOT / "requirements" / "idle_on_cpu.txt").read_text(encoding="utf-8")
    pinned = next(
        line.partition("==")[2].partition(" ")[0].rstrip("\\").strip()
        for line in (ROOT / "requirements" / "cpu.lock").read_text(encoding="utf-8").splitlines()
        if line.startswith("torch==")
    )
    assert f"PyTorch {pinned} " in left_out
