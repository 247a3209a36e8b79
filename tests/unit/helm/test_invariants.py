from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.helm import invariants
from tests.unit.helm.chart import VALUES as DEFAULTS
from tests.unit.helm.chart import merged
from tests.unit.helm.goldens import CASES, NAMES, stored
from tests.unit.helm.invariants import CHECKS, Check, Release
from workers.policies import load_policies
from workers.settings import load_settings

# Commands that read all settings at their start.
READERS = ("worker", "conduct", "topics", "train", "doctor", "serve-guard")
NAMED = dict(zip(NAMES, CASES, strict=True))


@cache
def release(name: str) -> Release:
    values, version = NAMED[name]
    given = yaml.safe_load(values.read_text(encoding="utf-8")) or {}
    return Release(stored(values, version), merged(DEFAULTS, given))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_holds_of_every_golden(check: Check, name: str) -> None:
    assert list(check(release(name))) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_worker_accepts_its_environment(name: str, tmp_path: Path) -> None:
    """Names, types and combinations, as the worker reads them at its start."""
    found = 0
    for _, pod in release(name).pods:
        for container in pod["spec"]["containers"]:
            if (container.get("args") or [None])[0] not in READERS:
                continue
            environment = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
            for variable in [
                key for key in environment if key.startswith("RSAFE_") and key.endswith("_FILE")
            ]:
                file = tmp_path / variable
                file.write_text("redis://somewhere", encoding="utf-8")
                environment[variable] = str(file)
            load_settings(environment)
            found += 1
    assert found >= 1


@pytest.mark.parametrize("name", NAMES)
def test_the_policies_of_the_values_load(name: str, tmp_path: Path) -> None:
    values = release(name).values
    files = values["policies"]["files"]
    for file, text in files.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    if files:
        chosen = values["settings"].get("policies", {}).get("default", "")
        assert len(load_policies(str(tmp_path), chosen).by_id) == len(files)


Break = Callable[[list[dict[str, Any]]], None]


def worker(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return next(part for part in objects if part["kind"] == "Deployment")


def pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = worker(objects)["spec"]["template"]["spec"]
    return spec


def add(objects: list[dict[str, Any]], kind: str, spec: dict[str, Any], name: str = "added") -> None:
    labels = dict(worker(objects)["metadata"]["labels"])
    objects.append({"kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec})


def make_hook(objects: list[dict[str, Any]]) -> None:
    worker(objects)["metadata"]["annotations"] = {"helm.sh/hook": "pre-install"}
    pod(objects)["volumes"].append({"name": "x", "configMap": {"name": "added"}})
    add(objects, "ConfigMap", {})


def set_(place: dict[str, Any], key: str, value: Any) -> None:
    place[key] = value


# What breaks a good release, and the rule that must say so.
BROKEN: dict[str, tuple[Check, Break]] = {
    "selector": (
        invariants.selectors_take_their_own_pods_alone,
        lambda o: set_(worker(o)["spec"]["selector"]["matchLabels"], "another", "label"),
    ),
    "service-selector": (
        invariants.services_find_pods_and_ports,
        lambda o: add(o, "Service", {"selector": {"a": "b"}, "ports": []}),
    ),
    "service-port": (
        invariants.services_find_pods_and_ports,
        lambda o: add(o, "Service", {"selector": {}, "ports": [{"port": 1, "targetPort": "nowhere"}]}),
    ),
    "service-monitor-port": (
        invariants.monitors_find_their_ports,
        lambda o: add(o, "ServiceMonitor", {"selector": {}, "endpoints": [{"port": "nowhere"}]}),
    ),
    "pod-monitor-port": (
        invariants.monitors_find_their_ports,
        lambda o: add(o, "PodMonitor", {"selector": {}, "podMetricsEndpoints": [{"port": "nowhere"}]}),
    ),
    "mount-without-volume": (invariants.mounts_and_volumes_pair, lambda o: pod(o)["volumes"].pop()),
    "volume-without-mount": (
        invariants.mounts_and_volumes_pair,
        lambda o: pod(o)["volumes"].append({"name": "unused", "emptyDir": {}}),
    ),
    "two-mounts-at-one-path": (
        invariants.mounts_and_volumes_pair,
        lambda o: pod(o)["containers"][0]["volumeMounts"].append({"name": "tmp", "mountPath": "/tmp"}),
    ),
    "unknown-secret": (
        invariants.references_exist,
        lambda o: pod(o)["volumes"].append({"name": "x", "secret": {"secretName": "nobody-s"}}),
    ),
    "unknown-claim": (
        invariants.references_exist,
        lambda o: pod(o)["volumes"].append({"name": "x", "persistentVolumeClaim": {"claimName": "nobody-s"}}),
    ),
    "hook-before-its-map": (
        invariants.hooks_that_run_first_use_nothing_of_the_release,
        make_hook,
    ),
    "probe-port": (
        invariants.probes_reach_a_port,
        lambda o: set_(pod(o)["containers"][0]["livenessProbe"]["httpGet"], "port", "nowhere"),
    ),
    "short-grace": (
        invariants.grace_covers_the_drain,
        lambda o: set_(pod(o), "terminationGracePeriodSeconds", 30),
    ),
    "long-pre-stop": (
        invariants.grace_covers_the_drain,
        lambda o: set_(pod(o)["containers"][0], "lifecycle", {"preStop": {"sleep": {"seconds": 900}}}),
    ),
    "root": (invariants.pods_are_restricted, lambda o: pod(o).pop("securityContext")),
    "writable-root": (
        invariants.pods_are_restricted,
        lambda o: set_(pod(o)["containers"][0]["securityContext"], "readOnlyRootFilesystem", False),
    ),
    "unrestricted-init-container": (
        invariants.pods_are_restricted,
        lambda o: set_(pod(o), "initContainers", [{"name": "first", "image": "first:1"}]),
    ),
    "token": (
        invariants.pods_have_no_token_and_no_links,
        lambda o: pod(o).pop("automountServiceAccountToken"),
    ),
    "long-name": (invariants.names_fit, lambda o: add(o, "Service", {}, name="x" * 64)),
    "long-name-of-a-cron-job": (invariants.names_fit, lambda o: add(o, "CronJob", {}, name="x" * 53)),
    "name-twice": (invariants.names_fit, lambda o: o.append(worker(o))),
    "label-missing": (
        invariants.labels_are_there,
        lambda o: worker(o)["metadata"]["labels"].pop("helm.sh/chart"),
    ),
    "scaler-without-target": (
        invariants.scalers_have_a_target,
        lambda o: add(o, "ScaledObject", {"scaleTargetRef": {"name": "nobody"}, "triggers": []}),
    ),
    "scaler-of-fixed-replicas": (
        invariants.scalers_have_a_target,
        lambda o: add(
            o,
            "HorizontalPodAutoscaler",
            {"scaleTargetRef": {"kind": "Deployment", "name": worker(o)["metadata"]["name"]}},
        ),
    ),
    "budget-of-no-pods": (
        invariants.disruption_budgets_have_pods,
        lambda o: add(o, "PodDisruptionBudget", {"selector": {"matchLabels": {"a": "b"}}}),
    ),
    "policy-of-no-pods": (
        invariants.network_policies_cover_all_pods,
        lambda o: add(
            o, "NetworkPolicy", {"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress"]}
        ),
    ),
    "no-egress-policy": (
        invariants.network_policies_cover_all_pods,
        lambda o: add(o, "NetworkPolicy", {"podSelector": {}, "policyTypes": ["Ingress"]}),
    ),
    "secret": (invariants.secrets_are_not_in_plain, lambda o: add(o, "Secret", {})),
    "password-in-an-address": (
        invariants.secrets_are_not_in_plain,
        lambda o: add(o, "ConfigMap", {"address": "redis://:hunter2@redis:6379"}),
    ),
    "password-in-a-variable": (
        invariants.secrets_are_not_in_plain,
        lambda o: pod(o)["containers"][0]["env"].append({"name": "A_PASSWORD", "value": "hunter2"}),
    ),
    "latest": (
        invariants.images_are_pinned,
        lambda o: set_(pod(o)["containers"][0], "image", "registry.example:5000/rsafe-stream:latest"),
    ),
    "no-tag": (
        invariants.images_are_pinned,
        lambda o: set_(pod(o)["containers"][0], "image", "registry.example:5000/rsafe-stream"),
    ),
    "variable-twice": (
        invariants.variables_stand_once,
        lambda o: pod(o)["containers"][0]["env"].append(pod(o)["containers"][0]["env"][0]),
    ),
    "no-checksum": (
        invariants.changed_files_make_new_pods,
        lambda o: worker(o)["spec"]["template"]["metadata"].pop("annotations"),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_rule_sees_what_breaks_it(case: str) -> None:
    check, break_ = BROKEN[case]
    good = release("tenants.1.33")
    objects = copy.deepcopy(good.objects)
    break_(objects)
    assert list(check(Release(objects, good.values)))


def test_every_rule_is_seen_to_fail() -> None:
    assert {check for check, _ in BROKEN.values()} == set(CHECKS)
