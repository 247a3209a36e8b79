"""What must hold of every render, as functions from objects to sentences of what is wrong.

Each takes a `Release`: the objects, and the values that they were made with. An empty list: it holds.
(Longer than other modules: a list of small rules, each of which stands alone.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import yaml

from tests.unit.helm.rendering import Object, containers, label, pod_templates
from workers.settings import Settings

COMMON_LABELS: Final = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
)
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
# Of a CronJob's Jobs eleven characters are a time.
LONGEST: Final = {"CronJob": 52}
PASSWORD_IN_URL: Final = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
SECRET_NAME: Final = re.compile(r"(PASSWORD|SECRET|TOKEN|_KEY|CREDENTIAL)$")
RELEASE_NAME: Final = re.compile(r"\{\{ *\.Release\.Name *\}\}")
SCALERS: Final = ("HorizontalPodAutoscaler", "ScaledObject")


@dataclass(frozen=True)
class Release:
    """A render with the values that it was made with, the chart's own among them."""

    objects: list[Object]
    values: dict[str, Any]

    @property
    def pods(self) -> list[tuple[Object, Object]]:
        """Each object that makes pods, with its pod."""
        return list(pod_templates(self.objects))

    @property
    def named(self) -> set[str]:
        """Every text in the values: what the user names may be an object that the user keeps."""
        return set(_texts(self.values))

    @property
    def _extra(self) -> list[Any]:
        found: list[Any] = self.values.get("extraObjects", [])
        return found

    @property
    def own(self) -> list[Object]:
        """The chart's objects, without those that the user wrote whole."""
        written = [part if isinstance(part, str) else yaml.safe_dump(part) for part in self._extra]
        # They are templates; of these the release's name is filled in here.
        parts = [yaml.safe_load(RELEASE_NAME.sub("demo", text)) for text in written]
        extra = {label(part) for part in parts}
        return [part for part in self.objects if label(part) not in extra]

    def kind(self, *kinds: str) -> list[Object]:
        """Objects of these kinds."""
        return [part for part in self.objects if part["kind"] in kinds]


Check = Callable[[Release], Iterator[str]]


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for value in part.values():
            yield from _texts(value)
    elif isinstance(part, list):
        for value in part:
            yield from _texts(value)
    elif isinstance(part, str):
        yield part


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a LabelSelector (`matchLabels`, and `matchExpressions` with In and Exists) takes the labels."""
    for rule in selector.get("matchExpressions", []):
        if rule["operator"] == "In" and labels.get(rule["key"]) not in rule["values"]:
            return False
        if rule["operator"] == "Exists" and rule["key"] not in labels:
            return False
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _labels(part: Object) -> dict[str, str]:
    return part["metadata"].get("labels") or {}


def selectors_take_their_own_pods_alone(release: Release) -> Iterator[str]:
    """A Deployment's selector matches its own pods and no other's, or two controllers fight over them."""
    for part in release.kind("Deployment", "StatefulSet"):
        for other, pod in release.pods:
            if matches(part["spec"]["selector"], _labels(pod)) != (other is part):
                yield f"{label(part)}: its selector and the pods of {label(other)}"


def services_find_pods_and_ports(release: Release) -> Iterator[str]:
    """A Service selects pods, and its target ports are ports of each of them."""
    for part in release.kind("Service"):
        selector = {"matchLabels": part["spec"].get("selector", {})}
        found = [pod for _, pod in release.pods if matches(selector, _labels(pod))]
        if not found:
            yield f"{label(part)}: selects no pods"
        for port in part["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for pod in found:
                if target not in set(_ports(pod)):
                    yield f"{label(part)}: target port {target!r} is none of {sorted(map(str, _ports(pod)))}"


def _ports(pod: Object) -> Iterator[str | int]:
    for container in containers(pod):
        yield from _container_ports(container)


def _container_ports(container: Object) -> Iterator[str | int]:
    for port in container.get("ports", []):
        yield port["containerPort"]
        if "name" in port:
            yield port["name"]


def monitors_find_their_ports(release: Release) -> Iterator[str]:
    """A ServiceMonitor selects a Service with that port, a PodMonitor pods with it."""
    for part in release.kind("ServiceMonitor"):
        ports = {
            port.get("name")
            for service in release.kind("Service")
            if matches(part["spec"]["selector"], _labels(service))
            for port in service["spec"]["ports"]
        }
        for end in part["spec"]["endpoints"]:
            if end["port"] not in ports:
                yield f"{label(part)}: port {end['port']!r} is none of {sorted(map(str, ports))}"
    for part in release.kind("PodMonitor"):
        found = [pod for _, pod in release.pods if matches(part["spec"]["selector"], _labels(pod))]
        known = set(chain.from_iterable(map(_ports, found)))
        for end in part["spec"]["podMetricsEndpoints"]:
            if end["port"] not in known:
                yield f"{label(part)}: port {end['port']!r} is none of {sorted(map(str, known))}"


def mounts_and_volumes_pair(release: Release) -> Iterator[str]:
    """Each mount has a volume, each volume a mount; no two mounts of a container lie at one path."""
    for part, pod in release.pods:
        volumes = [volume["name"] for volume in pod["spec"].get("volumes", [])]
        volumes += [claim["metadata"]["name"] for claim in part["spec"].get("volumeClaimTemplates", [])]
        mounts = [mount for container in containers(pod) for mount in container.get("volumeMounts", [])]
        for name in sorted({mount["name"] for mount in mounts} ^ set(volumes)):
            yield f"{label(part)}: {name!r} is a mount without a volume or a volume without a mount"
        for name in sorted({name for name in volumes if volumes.count(name) > 1}):
            yield f"{label(part)}: two volumes are called {name!r}"
        for container in containers(pod):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            if len(set(paths)) != len(paths):
                yield f"{label(part)}: container {container['name']}: two mounts at one path"


def references_exist(release: Release) -> Iterator[str]:
    """What a pod refers to is in the render, or is named by the user."""
    made = {(part["kind"], part["metadata"]["name"]) for part in release.objects}
    for part, pod in release.pods:
        for kind, name in _references(pod["spec"]):
            if (kind, name) not in made and name not in release.named:
                yield f"{label(part)}: {kind} {name!r} is neither rendered nor in the values"


def _references(spec: Object) -> Iterator[tuple[str, str]]:
    for volume in spec.get("volumes", []):
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            if "configMap" in source:
                yield "ConfigMap", source["configMap"]["name"]
            if "secret" in source:
                yield "Secret", source["secret"].get("secretName") or source["secret"]["name"]
            if "persistentVolumeClaim" in source:
                yield "PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"]
    for secret in spec.get("imagePullSecrets", []):
        yield "Secret", secret["name"]
    if spec.get("serviceAccountName", "default") != "default":
        yield "ServiceAccount", spec["serviceAccountName"]
    if "priorityClassName" in spec:
        yield "PriorityClass", spec["priorityClassName"]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for entry in container.get("env", []):
            for word, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if word in entry.get("valueFrom", {}):
                    yield kind, entry["valueFrom"][word]["name"]


def hooks_that_run_first_use_nothing_of_the_release(release: Release) -> Iterator[str]:
    """Before the installation only other hooks exist."""
    hooks = {
        (part["kind"], part["metadata"]["name"])
        for part in release.objects
        if "helm.sh/hook" in (part["metadata"].get("annotations") or {})
    }
    made = {(part["kind"], part["metadata"]["name"]) for part in release.objects}
    for part, pod in release.pods:
        when = (part["metadata"].get("annotations") or {}).get("helm.sh/hook", "")
        if "pre-install" in when:
            for reference in _references(pod["spec"]):
                if reference in made - hooks:
                    yield f"{label(part)}: {' '.join(reference)} does not exist yet when it runs"


def probes_reach_a_port(release: Release) -> Iterator[str]:
    """Probes and preStop calls go to a port of their container."""
    for part, pod in release.pods:
        for container in containers(pod):
            known = set(_container_ports(container))
            calls = [container.get(f"{name}Probe", {}) for name in ("startup", "liveness", "readiness")]
            calls.append(container.get("lifecycle", {}).get("preStop", {}))
            for call in calls:
                for kind in ("httpGet", "tcpSocket", "grpc"):
                    if kind in call and call[kind]["port"] not in known:
                        port = call[kind]["port"]
                        yield f"{label(part)}: {container['name']}: port {port!r} is not declared"


def grace_covers_the_drain(release: Release) -> Iterator[str]:
    """The grace period of a worker is at least preStop, drain and the margin for the last commit."""
    margin = release.values["shutdownMarginSeconds"]
    for part, pod in release.pods:
        for container in pod["spec"]["containers"]:
            if container.get("args", [None])[0] != "worker":
                continue
            env = {entry["name"]: entry.get("value") for entry in container.get("env", [])}
            drain = float(env.get("RSAFE_STREAM__DRAIN_S") or Settings().stream.drain_s)
            pre_stop = _pre_stop_s(container)
            grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
            if grace < pre_stop + drain + margin:
                yield f"{label(part)}: grace {grace} s < preStop {pre_stop} + drain {drain} + margin {margin}"


def _pre_stop_s(container: Object) -> float:
    hook = container.get("lifecycle", {}).get("preStop", {})
    command = " ".join(hook.get("exec", {}).get("command", []))
    slept = re.search(r"sleep (\d+)", command)
    return float(hook.get("sleep", {}).get("seconds", slept[1] if slept else 0))


def pods_are_restricted(release: Release) -> Iterator[str]:
    """Pod Security `restricted`, and a read-only root file system; hooks and tests are no exception."""
    for part, pod in release.pods:
        whole = pod["spec"].get("securityContext", {})
        if whole.get("runAsNonRoot") is not True or whole.get("runAsUser", 1) == 0:
            yield f"{label(part)}: may run as root"
        if whole.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{label(part)}: no seccomp profile"
        for word in ("hostNetwork", "hostPID", "hostIPC"):
            if pod["spec"].get(word):
                yield f"{label(part)}: {word}"
        for volume in pod["spec"].get("volumes", []):
            if "hostPath" in volume:
                yield f"{label(part)}: volume {volume['name']} is a folder of the node"
        for container in containers(pod):
            context = container.get("securityContext", {})
            good = (
                context.get("allowPrivilegeEscalation") is False
                and context.get("readOnlyRootFilesystem") is True
                and context.get("capabilities") == {"drop": ["ALL"]}
                and not context.get("privileged")
                and context.get("runAsNonRoot", True) is True
            )
            if not good:
                yield f"{label(part)}: container {container['name']} is not restricted: {context}"


def pods_have_no_token_and_no_links(release: Release) -> Iterator[str]:
    """No token of a service account, and no variables of Services, which the worker would refuse."""
    for part, pod in release.pods:
        for word in ("automountServiceAccountToken", "enableServiceLinks"):
            if pod["spec"].get(word) is not False:
                yield f"{label(part)}: {word} is not false"


def names_fit(release: Release) -> Iterator[str]:
    """Names and label values of at most 63 characters, and in the form that DNS asks for."""
    for part in release.objects:
        name = part["metadata"]["name"]
        if len(name) > LONGEST.get(part["kind"], 63) or not NAME.fullmatch(name):
            yield f"{label(part)}: its name"
        for key, value in _labels(part).items():
            if len(value) > 63:
                yield f"{label(part)}: label {key}"
    for part, pod in release.pods:
        for container in containers(pod):
            for port in container.get("ports", []):
                if len(port.get("name", "")) > 15:
                    yield f"{label(part)}: the port's name {port['name']}"
    labels = [(label(part), part["metadata"].get("namespace")) for part in release.objects]
    for twice in sorted({name for name, place in labels if labels.count((name, place)) > 1}):
        yield f"{twice}: rendered twice"


def labels_are_there(release: Release) -> Iterator[str]:
    """The common labels on every object, and on every pod those that selectors need, with its component."""
    own = release.own
    for part in own:
        for key in COMMON_LABELS:
            if key not in _labels(part):
                yield f"{label(part)}: label {key} is missing"
    for part, pod in pod_templates(own):
        for key in (*COMMON_LABELS[:2], "app.kubernetes.io/component"):
            if key not in _labels(pod):
                yield f"{label(part)}: label {key} is missing from its pods"


def scalers_have_a_target(release: Release) -> Iterator[str]:
    """What scales exists, and does not fix its own count; one scaler each."""
    workloads = {(part["kind"], part["metadata"]["name"]): part for part in release.objects}
    targets = []
    for part in release.kind(*SCALERS):
        target = part["spec"]["scaleTargetRef"]
        found = workloads.get((target.get("kind", "Deployment"), target["name"]))
        targets.append(target["name"])
        if found is None:
            yield f"{label(part)}: its target {target['name']} is not rendered"
        elif "replicas" in found["spec"]:
            yield f"{label(part)}: its target has fixed replicas, which each upgrade would set again"
        for trigger in part["spec"].get("triggers", []):
            name = trigger.get("authenticationRef", {}).get("name")
            if name and ("TriggerAuthentication", name) not in workloads and name not in release.named:
                yield f"{label(part)}: TriggerAuthentication {name} is neither rendered nor in the values"
    for name in sorted({name for name in targets if targets.count(name) > 1}):
        yield f"{name}: two scalers"


def disruption_budgets_have_pods(release: Release) -> Iterator[str]:
    """A budget selects pods of one controller, and lets unhealthy pods go."""
    for part in release.kind("PodDisruptionBudget"):
        found = [owner for owner, pod in release.pods if matches(part["spec"]["selector"], _labels(pod))]
        if len(found) != 1:
            yield f"{label(part)}: selects the pods of {[label(owner) for owner in found]}"
        if part["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{label(part)}: pods that are not ready would block a drain of their node"


def network_policies_cover_all_pods(release: Release) -> Iterator[str]:
    """Where there are network policies, no pod is left out, and each policy selects one at least."""
    policies = release.kind("NetworkPolicy")
    for part in policies:
        if not any(matches(part["spec"]["podSelector"], _labels(pod)) for _, pod in release.pods):
            yield f"{label(part)}: selects no pods"
    for part, pod in release.pods if policies else []:
        for direction in ("Ingress", "Egress"):
            if not any(
                matches(policy["spec"]["podSelector"], _labels(pod))
                and direction in policy["spec"]["policyTypes"]
                for policy in policies
            ):
                yield f"{label(part)}: no network policy for its {direction.lower()}"


def secrets_are_not_in_plain(release: Release) -> Iterator[str]:
    """No Secret is rendered, no variable holds a secret, no address a password."""
    for part in release.own:
        if part["kind"] == "Secret":
            yield f"{label(part)}: secrets come from elsewhere"
        if any(PASSWORD_IN_URL.search(text) for text in _texts(part)):
            yield f"{label(part)}: a password in an address"
    for part, pod in release.pods:
        for container in containers(pod):
            for entry in container.get("env", []):
                if SECRET_NAME.search(entry["name"]) and entry.get("value"):
                    yield f"{label(part)}: {entry['name']} holds a secret in plain"


def images_are_pinned(release: Release) -> Iterator[str]:
    """By digest or by a tag that is not `latest`; images that are mounted as volumes too."""
    for part, pod in release.pods:
        images = [container["image"] for container in containers(pod)]
        images += [
            volume["image"]["reference"] for volume in pod["spec"].get("volumes", []) if "image" in volume
        ]
        for image in images:
            tag = image.rpartition("/")[2].partition(":")[2]
            if "@sha256:" not in image and tag in ("", "latest"):
                yield f"{label(part)}: {image} has neither digest nor tag"


def variables_stand_once(release: Release) -> Iterator[str]:
    """No variable twice: the later would win in silence."""
    for part, pod in release.pods:
        for container in containers(pod):
            names = [entry["name"] for entry in container.get("env", [])]
            for name in sorted({name for name in names if names.count(name) > 1}):
                yield f"{label(part)}: {container['name']}: {name} stands twice"


def changed_files_make_new_pods(release: Release) -> Iterator[str]:
    """A lasting pod with a ConfigMap of this release carries a checksum."""
    made = {part["metadata"]["name"] for part in release.kind("ConfigMap")}
    for part, pod in release.pods:
        mounted = {name for kind, name in _references(pod["spec"]) if kind == "ConfigMap"} & made
        checksums = [key for key in pod["metadata"].get("annotations") or {} if key.startswith("checksum/")]
        if part["kind"] in ("Deployment", "StatefulSet") and mounted and not checksums:
            yield f"{label(part)}: a change of {sorted(mounted)} would not reach its pods"


CHECKS: Final[tuple[Check, ...]] = (
    selectors_take_their_own_pods_alone,
    services_find_pods_and_ports,
    monitors_find_their_ports,
    mounts_and_volumes_pair,
    references_exist,
    hooks_that_run_first_use_nothing_of_the_release,
    probes_reach_a_port,
    grace_covers_the_drain,
    pods_are_restricted,
    pods_have_no_token_and_no_links,
    names_fit,
    labels_are_there,
    scalers_have_a_target,
    disruption_budgets_have_pods,
    network_policies_cover_all_pods,
    secrets_are_not_in_plain,
    images_are_pinned,
    variables_stand_once,
    changed_files_make_new_pods,
)
