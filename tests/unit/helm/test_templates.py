"""What the chart renders; needs `helm`, which is no Python package: skipped where it is absent."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from workers.settings import load_settings

CHART = Path(__file__).resolve().parents[3] / "helm" / "rsafe-stream"
FULL = CHART / "ci" / "full-values.yaml"
HELM = shutil.which("helm")
pytestmark = pytest.mark.skipif(HELM is None, reason="helm is not on the PATH")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run([HELM, *arguments], capture_output=True, text=True)


def rendered(*arguments: str) -> dict[str, dict[str, Any]]:
    """The objects by kind."""
    run = helm("template", "demo", str(CHART), *arguments)
    assert run.returncode == 0, run.stderr
    return {part["kind"]: part for part in yaml.safe_load_all(run.stdout) if part}


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("arguments", [[], ["-f", str(FULL)]], ids=["default", "full"])
def test_lint_passes(arguments: list[str]) -> None:
    run = helm("lint", "--strict", str(CHART), *arguments)
    assert run.returncode == 0, run.stdout


def test_default_values_render_worker_service_budget_topics_job_and_test() -> None:
    assert set(rendered()) == {"Deployment", "Service", "PodDisruptionBudget", "Job", "Pod"}


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_pods_meet_the_restricted_standard(kind: str) -> None:
    spec = pod(rendered("-f", str(FULL))[kind])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_service_variables_stay_out_of_the_environment(kind: str) -> None:
    assert pod(rendered()[kind])["enableServiceLinks"] is False


def test_the_environment_is_what_the_worker_accepts(tmp_path: Path) -> None:
    (container,) = pod(rendered("-f", str(FULL))["Deployment"])["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    for name in [name for name in environment if name.endswith("_FILE")]:
        file = tmp_path / name
        file.write_text("redis://somewhere", encoding="utf-8")
        environment[name] = str(file)
    settings = load_settings(environment)
    assert settings.limits.event_bytes == 4_000_000  # not 4e+06
    assert settings.stream.drain_s == 45.5
    assert settings.policies.path == "/etc/rsafe/policies"
    assert settings.guard.checkpoint == "/checkpoints/guard-7b/2026-01"
    assert settings.redis.url.get_secret_value() == "redis://somewhere"


@pytest.mark.parametrize(("kind", "count"), [("Deployment", 7), ("Job", 3)])
def test_certificates_are_mounted_where_the_settings_look_for_them(kind: str, count: int) -> None:
    spec = pod(rendered("-f", str(FULL))[kind])
    (container,) = spec["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    files = {
        f"{mounted[volume['name']]}/{item['path']}"
        for volume in spec["volumes"]
        if volume["name"].startswith("tls-")
        for item in volume["secret"]["items"]
    }
    named = {value for name, value in environment.items() if "SSL_" in name and name.endswith("_LOCATION")}
    assert files == named
    assert len(files) == count  # of Redis the authority alone; topics are Kafka's business


def test_no_certificates_are_mounted_by_default() -> None:
    assert not [volume for volume in pod(rendered()["Deployment"])["volumes"] if "tls" in volume["name"]]


def test_the_grace_period_covers_the_drain() -> None:
    assert pod(rendered()["Deployment"])["terminationGracePeriodSeconds"] == 20 + 20
    with_pre_stop = rendered("--set", "preStopSeconds=3", "--set-json", "settings.stream.drain_s=45.5")
    assert pod(with_pre_stop["Deployment"])["terminationGracePeriodSeconds"] == 3 + 46 + 20


def test_probes_and_service_follow_the_health_port() -> None:
    (container,) = pod(rendered("-f", str(FULL))["Deployment"])["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 9000}]


def test_a_changed_policy_makes_new_pods() -> None:
    def checksum(text: str) -> str:
        manifest = rendered("--set", rf"policies.files.a\.yaml={text}")["Deployment"]
        value: str = manifest["spec"]["template"]["metadata"]["annotations"]["checksum/policies"]
        return value

    assert checksum("one") != checksum("two")


def test_a_static_member_is_refused_with_more_replicas_than_one() -> None:
    name = "settings.kafka.group_instance_id=worker-0,rollout.maxSurge=0,rollout.maxUnavailable=1"
    assert helm("template", "demo", str(CHART), "--set", name).returncode == 0
    run = helm("template", "demo", str(CHART), "--set", f"{name},replicas=2")
    assert run.returncode != 0
    assert "expected it unset, or replicas: 1" in run.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("settings.policies.path=/elsewhere", "policies.existingConfigMap=mine"),
        ("settings.guard.checkpoint=/elsewhere", "checkpoint.existingClaim=mine"),
        ("settings.kafka.ssl_ca_location=/elsewhere", "tls.kafka.existingSecret=mine"),
        ("policies.existingConfigMap=mine", r"policies.files.a\.yaml=x"),
    ],
)
def test_contradicting_values_are_refused(arguments: tuple[str, str]) -> None:
    run = helm("template", "demo", str(CHART), "--set", ",".join(arguments))
    assert run.returncode != 0
    assert "exclude each other" in run.stderr
