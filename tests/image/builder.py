"""Builds the image with buildah on a Debian base made here, and runs commands in it; needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = "localhost/rsafe-test-base"
IMAGE: Final = "localhost/rsafe-test"
# What the official Python images bring and a bare Debian does not.
_PACKAGES: Final = "ca-certificates,python3,python3-venv,python3-pip,python-is-python3"
_CERTIFICATES: Final = "/etc/ssl/certs"


def missing() -> str:
    """What this machine lacks; empty: nothing."""
    if os.geteuid() != 0:
        return "building an image without a daemon needs root"
    absent = [program for program in ("buildah", "debootstrap") if shutil.which(program) is None]
    return f"not on the PATH: {', '.join(absent)}" if absent else ""


def run(*command: str, timeout_s: float = 3000) -> str:
    """Standard output. Raises `AssertionError` with the last of both when the command fails."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    assert ended.returncode == 0, f"{command[:3]}: {ended.stdout[-2000:]}{ended.stderr[-4000:]}"
    return ended.stdout


def make_base(folder: Path) -> str:
    """The base image; one that an earlier run made is used again."""
    if subprocess.run(["buildah", "inspect", BASE], capture_output=True).returncode == 0:
        return BASE
    tree = folder / "rootfs"
    run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(tree))
    # As in the official images, pip may write into the system's Python.
    for marker in tree.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    container = run("buildah", "from", "scratch").strip()
    run("buildah", "copy", "--quiet", container, str(tree), "/")
    paths = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run("buildah", "config", "--env", f"PATH={paths}", container)
    run("buildah", "commit", "--quiet", "--rm", container, BASE)
    return BASE


def build_image(base: str, variant: str) -> str:
    """The image by the Dockerfile, as `make image` builds it."""
    name = f"{IMAGE}-{variant}"
    builder = f"buildah bud --isolation chroot --network host --volume {_CERTIFICATES}:{_CERTIFICATES}:ro"
    wanted = [f"VARIANT={variant}", f"IMAGE={name}", f"BUILDER={builder}"]
    # The mirror of a company is the builder's own business, and stays out of the image.
    passed = [f"--env {key}={os.environ[key]}" for key in ("UV_DEFAULT_INDEX",) if key in os.environ]
    run("make", "-C", str(ROOT), "image", *wanted, f"ARGS=--build-arg BASE={base} {' '.join(passed)}")
    return f"{name}:{'gpu' if variant == 'gpu' else 'latest'}"


@dataclass(frozen=True)
class Container:
    """A container of the image, in which commands run as its user with the network of this machine."""

    name: str

    def command(self, *arguments: str, environment: dict[str, str] | None = None) -> list[str]:
        """The words that run `arguments` in it."""
        variables = [f"--env={key}={value}" for key, value in (environment or {}).items()]
        options = ["--isolation", "chroot", "--network", "host", *variables]
        return ["buildah", "run", *options, self.name, "--", *arguments]

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        """Standard output of a command that has to succeed."""
        return run(*self.command(*arguments, environment=environment))


def size_bytes(image: str) -> int:
    """Of the whole image, unpacked."""
    container = run("buildah", "from", "--pull-never", image).strip()
    try:
        tree = run("buildah", "mount", container).strip()
        return int(run("du", "--summarize", "--bytes", tree).split()[0])
    finally:
        run("buildah", "rm", container)
