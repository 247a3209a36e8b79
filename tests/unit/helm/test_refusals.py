"""Each `fail` of the templates is reached by values that deserve it; its sentence names the value's path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest

from tests.unit.helm.chart import CHART, VALUES
from tests.unit.helm.rendering import needs_helm, template

# `fail "…"`, or `fail (printf "…" …)`; a sentence has no quotation mark in it but `\"`.
FAIL: Final = re.compile(r'\bfail\s+(?:\(\s*printf\s+)?("(?:[^"\\]|\\.)*"|`[^`]*`)')
SENTENCE: Final = re.compile(r"execution error at \([^)]*\): (.*)")
WORD: Final = re.compile(r"\bfail\b")
COMMENT: Final = re.compile(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}", re.DOTALL)
TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


class Case(NamedTuple):
    """Values as a user would write them, and the path that the sentence has to name."""

    values: str
    path: str
    kubernetes: str = "1.34"


GPU: Final = "{limits: {nvidia.com/gpu: 1}}"
CASES: Final[dict[str, Case]] = {
    "static-member-of-several": Case(
        "{replicas: 2, settings: {kafka: {group_instance_id: worker-0}}}", "settings.kafka.group_instance_id"
    ),
    "static-member-scaled": Case(
        "{autoscaling: {kind: keda}, settings: {kafka: {group_instance_id: worker-0}}}",
        "settings.kafka.group_instance_id",
    ),
    "replicas-scaled": Case("{replicas: 3, autoscaling: {kind: keda}}", "autoscaling.kind"),
    "more-at-least-than-at-most": Case(
        "{autoscaling: {kind: keda, minReplicas: 9, maxReplicas: 8}}", "autoscaling.minReplicas"
    ),
    "hpa-to-zero": Case(
        "{autoscaling: {kind: hpa, keda: {scaleToZero: true}}}", "autoscaling.keda.scaleToZero"
    ),
    "hpa-by-nothing": Case("{autoscaling: {kind: hpa, hpa: {targetCPUUtilization: 0}}}", "autoscaling.hpa"),
    "hpa-without-request": Case("{autoscaling: {kind: hpa}}", "resources.requests.cpu"),
    "budget-and-none": Case(
        "{autoscaling: {kind: keda, keda: {scaleToZero: true}}, podDisruptionBudget: {minAvailable: 1}}",
        "podDisruptionBudget.minAvailable",
    ),
    "budget-twice": Case(
        "{replicas: 3, podDisruptionBudget: {minAvailable: 1, maxUnavailable: 1}}",
        "podDisruptionBudget.maxUnavailable",
    ),
    "budget-of-all": Case(
        "{replicas: 2, podDisruptionBudget: {minAvailable: 2, maxUnavailable: ''}}",
        "podDisruptionBudget.minAvailable",
    ),
    "budget-of-a-hundred-percent": Case(
        "{replicas: 2, podDisruptionBudget: {minAvailable: '100%', maxUnavailable: ''}}",
        "podDisruptionBudget.minAvailable",
    ),
    "budget-of-a-share-that-is-all": Case(
        "{replicas: 1, podDisruptionBudget: {minAvailable: '50%', maxUnavailable: ''}}",
        "podDisruptionBudget.minAvailable",
    ),
    "budget-of-a-share-that-is-all-of-the-least": Case(
        "{autoscaling: {kind: keda, minReplicas: 3}, "
        "podDisruptionBudget: {minAvailable: '67%', maxUnavailable: ''}}",
        "podDisruptionBudget.minAvailable",
    ),
    "budget-of-none": Case(
        "{podDisruptionBudget: {maxUnavailable: 0}}", "podDisruptionBudget.maxUnavailable"
    ),
    "standing-rollout": Case("{rollout: {maxSurge: 0, maxUnavailable: 0}}", "rollout"),
    "standing-rollout-by-default": Case("{rollout: {maxSurge: 0}}", "rollout"),
    "standing-rollout-by-default-with-a-gpu": Case(
        f"{{image: {{variant: gpu}}, resources: {GPU}, rollout: {{maxUnavailable: '0%'}}}}", "rollout"
    ),
    "standing-rollout-of-the-guard-by-default": Case("{guard: {rollout: {maxSurge: 0}}}", "guard.rollout"),
    "static-member-twice-in-an-upgrade": Case(
        "{settings: {kafka: {group_instance_id: worker-0}}}", "settings.kafka.group_instance_id"
    ),
    "standing-rollout-of-the-guard": Case(
        "{guard: {rollout: {maxSurge: 0, maxUnavailable: 0}}}", "guard.rollout"
    ),
    "drain-longer-than-half-a-poll": Case(
        "{settings: {kafka: {max_poll_interval_ms: 60000}, stream: {drain_s: 30.5}}}",
        "settings.stream.drain_s",
    ),
    "default-drain-longer-than-half-a-poll": Case(
        "{settings: {kafka: {max_poll_interval_ms: 30000, session_timeout_ms: 10000}}}",
        "settings.stream.drain_s",
    ),
    "start-longer-than-the-kubelet-waits": Case(
        "{startup: {maxSeconds: 900}, settings: {guard: {start_timeout_s: 900.5}}}",
        "settings.guard.start_timeout_s",
    ),
    "short-grace": Case(
        "{terminationGracePeriodSeconds: 39, preStopSeconds: 1}", "terminationGracePeriodSeconds"
    ),
    "short-grace-of-the-guard": Case(
        "{guard: {terminationGracePeriodSeconds: 5, preStopSeconds: 5}}",
        "guard.terminationGracePeriodSeconds",
    ),
    "gpu-with-the-image-for-the-cpu": Case(f"{{resources: {GPU}}}", "image.variant"),
    "gpu-of-the-guard-with-the-image-for-the-cpu": Case(
        f"{{guard: {{enabled: true, image: {{variant: cpu}}, resources: {GPU}}}}}", "guard.image.variant"
    ),
    "image-for-the-gpu-without-one": Case("{guard: {enabled: true}}", "guard.resources"),
    "image-of-the-worker-for-the-guard": Case(
        f"{{guard: {{enabled: true, resources: {GPU}}}}}", "guard.image"
    ),
    "guard-and-another-engine": Case(
        f"{{settings: {{guard: {{engine: vllm}}}}, image: {{variant: gpu}}, "
        f"guard: {{enabled: true, resources: {GPU}}}}}",
        "settings.guard.engine",
    ),
    "guard-and-endpoints": Case(
        f"{{settings: {{guard: {{endpoints: 'http://a:8000'}}}}, image: {{variant: gpu}}, "
        f"guard: {{enabled: true, resources: {GPU}}}}}",
        "settings.guard.endpoints",
    ),
    "remote-without-servers": Case("{settings: {guard: {engine: remote}}}", "settings.guard.endpoints"),
    "two-checkpoints": Case(
        "{checkpoint: {existingClaim: mine, image: {reference: 'registry.example/guard:1'}}}",
        "checkpoint.image.reference",
    ),
    "checkpoint-beside-a-mounted-one": Case(
        "{settings: {guard: {checkpoint: /elsewhere}}, checkpoint: {existingClaim: mine}}",
        "settings.guard.checkpoint",
    ),
    "folder-of-no-checkpoint": Case("{checkpoint: {path: guard-7b}}", "checkpoint.path"),
    "digest-twice": Case(
        f"{{settings: {{guard: {{checkpoint_digest: '{'5' * 64}'}}}}, checkpoint: {{digest: '{'5' * 64}'}}}}",
        "settings.guard.checkpoint_digest",
    ),
    "image-volume-on-an-old-kubernetes": Case(
        "{checkpoint: {image: {reference: 'registry.example/guard:1'}}}", "checkpoint.image", "1.32"
    ),
    "two-places-of-policies": Case(
        "{policies: {existingConfigMap: mine, files: {a.yaml: x}}}", "policies.files"
    ),
    "path-beside-mounted-policies": Case(
        "{settings: {policies: {path: /elsewhere}}, policies: {existingConfigMap: mine}}",
        "settings.policies.path",
    ),
    "policies-of-a-topic-and-of-files": Case(
        "{settings: {policies: {source: topic}}, policies: {existingConfigMap: mine}}",
        "settings.policies.source",
    ),
    "certificate-beside-a-mounted-one": Case(
        "{settings: {kafka: {ssl_ca_location: /elsewhere}}, tls: {kafka: {existingSecret: mine}}}",
        "settings.kafka.ssl_ca_location",
    ),
    "certificates-for-a-link-without-them": Case(
        f"{{image: {{variant: gpu}}, guard: {{enabled: true, resources: {GPU}}}, "
        f"tls: {{guard: {{existingSecret: mine}}}}}}",
        "tls.guard.existingSecret",
    ),
    "certificate-without-key": Case(
        "{tls: {redis: {existingSecret: mine, certificate: tls.crt}}}", "tls.redis.key"
    ),
    "key-without-certificate": Case(
        "{tls: {kafka: {existingSecret: mine, key: tls.key}}}", "tls.kafka.certificate"
    ),
    "sasl-without-mechanism": Case(
        "{settings: {kafka: {security_protocol: SASL_SSL, sasl_username: rsafe}}, "
        "secrets: {kafkaSaslPassword: {existingSecret: mine}}}",
        "settings.kafka.sasl_mechanism",
    ),
    "sasl-without-user": Case(
        "{settings: {kafka: {security_protocol: SASL_SSL, sasl_mechanism: PLAIN}}, "
        "secrets: {kafkaSaslPassword: {existingSecret: mine}}}",
        "settings.kafka.sasl_username",
    ),
    "sasl-without-password": Case(
        "{settings: {kafka: {security_protocol: SASL_SSL, sasl_mechanism: PLAIN}}}",
        "secrets.kafkaSaslPassword",
    ),
    "exactly-once-on-one-copy": Case(
        "{replicas: 2, settings: {kafka: {delivery: exactly-once}}}", "settings.kafka.replication_factor"
    ),
    "exactly-once-on-one-copy-scaled": Case(
        "{autoscaling: {kind: keda, minReplicas: 2}, settings: {kafka: {delivery: exactly-once}}}",
        "settings.kafka.replication_factor",
    ),
    "no-health-port": Case("{settings: {health: {port: 0}}}", "settings.health.port"),
    "network-policy-without-ports": Case(
        "{settings: {kafka: {bootstrap_servers: kafka}}, networkPolicy: {enabled: true}}",
        "networkPolicy.kafka.ports",
    ),
    "two-monitors": Case(
        "{monitoring: {podMonitor: {enabled: true}, serviceMonitor: {enabled: true}}}",
        "monitoring.serviceMonitor",
    ),
    "monitor-without-service": Case(
        "{service: {enabled: false}, monitoring: {serviceMonitor: {enabled: true}}}", "service.enabled"
    ),
    "transaction-longer-than-its-time": Case(
        "{settings: {kafka: {delivery: exactly-once, delivery_timeout_ms: 1000}, "
        "stream: {commit_interval_ms: 1000}}}",
        "settings.stream.commit_interval_ms",
    ),
    "health-on-loopback": Case("{settings: {health: {host: 127.0.0.1}}}", "settings.health.host"),
    "certificate-of-the-guard": Case(
        f"{{image: {{variant: gpu}}, guard: {{enabled: true, args: [--ssl-keyfile=/k], resources: {GPU}}}}}",
        "guard.args",
    ),
    "more-of-conduct-than-partitions": Case("{conduct: {enabled: true, replicas: 7}}", "conduct.replicas"),
    "one-group-of-workers-and-conduct": Case(
        "{conduct: {enabled: true}, settings: {conduct: {group_id: one}, kafka: {group_id: one}}}",
        "settings.conduct.group_id",
    ),
    "folder-beside-the-mounted-store": Case(
        "{conduct: {enabled: true}, settings: {conduct: {state_folder: /elsewhere}}}",
        "settings.conduct.state_folder",
    ),
    "claim-without-size": Case(
        "{conduct: {enabled: true, store: {persistent: true, size: ''}}}", "conduct.store.size"
    ),
    "class-without-claim": Case(
        "{conduct: {enabled: true, store: {storageClassName: fast}}}", "conduct.store.storageClassName"
    ),
    "short-grace-of-conduct": Case(
        "{conduct: {terminationGracePeriodSeconds: 60, preStopSeconds: 31}}",
        "conduct.terminationGracePeriodSeconds",
    ),
    "gpu-of-conduct": Case(f"{{conduct: {{enabled: true, resources: {GPU}}}}}", "conduct.resources"),
    "trainer-without-place": Case("{trainer: {enabled: true}}", "trainer.output.existingClaim"),
    "trainer-without-image": Case(
        "{trainer: {enabled: true, output: {existingClaim: training}}}", "trainer.image"
    ),
    "gpu-of-the-trainer-with-the-image-for-the-cpu": Case(
        f"{{trainer: {{enabled: true, image: {{tag: train}}, output: {{existingClaim: training}}, "
        f"resources: {GPU}}}}}",
        "trainer.image.variant",
    ),
}
# What the schema refuses before: the template's sentence is for those who switch the schema off.
BEHIND_THE_SCHEMA: Final[dict[str, Case]] = {
    "setting-among-the-variables": Case(
        "{extraEnv: [{name: RSAFE_GUARD__ENGINE, value: scripted}]}", "extraEnv"
    ),
}


# What stands beside a refusal and is none: a rule that refused too much would be noticed here.
ACCEPTED: Final[dict[str, str]] = {
    "share-that-leaves-one": "{replicas: 3, podDisruptionBudget: {minAvailable: '66%', maxUnavailable: ''}}",
    "drain-of-half-a-poll": "{settings: {kafka: {max_poll_interval_ms: 60000}, stream: {drain_s: 30}}}",
    "static-member": "{rollout: {maxSurge: 0, maxUnavailable: 1}, "
    "settings: {kafka: {group_instance_id: worker-0}}}",
    "rollout-by-surge": "{rollout: {maxSurge: 2}}",
    "start-as-long-as-the-kubelet-waits": "{settings: {guard: {start_timeout_s: 600}}}",
    "ca-alone": "{tls: {kafka: {existingSecret: mine}}}",
    "exactly-once-by-one-worker": "{settings: {kafka: {delivery: exactly-once}}}",
}


def templates() -> dict[str, str]:
    """The template files, without comments."""
    files = sorted(file for file in (CHART / "templates").rglob("*") if file.is_file())
    return {file.name: COMMENT.sub("", file.read_text(encoding="utf-8")) for file in files}


def sentences() -> Iterator[tuple[str, str]]:
    """File and sentence of each `fail` call."""
    for file, text in templates().items():
        for found in FAIL.finditer(text):
            yield file, re.sub(r"\\(.)", r"\1", found[1][1:-1])


SENTENCES: Final = list(dict.fromkeys(sentences()))
IDS: Final = [f"{file}:{'-'.join(words.split()[:5])}" for file, words in SENTENCES]


def pattern(words: str) -> re.Pattern[str]:
    """What the sentence looks like with its parts filled in."""
    parts = re.split(r"%(?:\[\d+\])?[a-z]", words)
    return re.compile(".+?".join(re.escape(part) for part in parts), re.DOTALL)


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """Of each case helm's words."""
    runs = {name: template(values=case.values, version=case.kubernetes) for name, case in CASES.items()}
    behind = ("--skip-schema-validation",)
    runs |= {name: template(*behind, values=case.values) for name, case in BEHIND_THE_SCHEMA.items()}
    accepted = [name for name, run in runs.items() if run.returncode == 0]
    assert accepted == []
    return {name: run.stderr for name, run in runs.items()}


@needs_helm
@pytest.mark.parametrize("case", CASES | BEHIND_THE_SCHEMA)
def test_the_sentence_names_the_path(case: str, said: dict[str, str]) -> None:
    path = (CASES | BEHIND_THE_SCHEMA)[case].path
    sentence = SENTENCE.search(said[case])
    assert sentence is not None, f"refused by something else than `fail`: {said[case]}"
    assert path in sentence[1]


@needs_helm
@pytest.mark.parametrize(("file", "words"), SENTENCES, ids=IDS)
def test_each_refusal_is_reached(file: str, words: str, said: dict[str, str]) -> None:
    assert any(pattern(words).search(text) for text in said.values()), words


@pytest.mark.parametrize(("file", "words"), SENTENCES, ids=IDS)
def test_each_refusal_begins_with_a_value(file: str, words: str) -> None:
    first = words.split()[0].rstrip(":")
    assert first.split(".")[0] in {*VALUES, "%s"}, words


def test_no_refusal_is_overlooked() -> None:
    """A `fail` whose sentence is made elsewhere would not be found above."""
    texts = [TEXT.sub("", FAIL.sub(" ", text)) for text in templates().values()]
    assert [text for text in texts if WORD.search(text)] == []


@needs_helm
@pytest.mark.parametrize("case", ACCEPTED)
def test_what_contradicts_nothing_is_accepted(case: str) -> None:
    run = template(values=ACCEPTED[case])
    assert run.returncode == 0, run.stderr


@needs_helm
@pytest.mark.parametrize("case", BEHIND_THE_SCHEMA)
def test_the_schema_refuses_it_first(case: str) -> None:
    run = template(values=BEHIND_THE_SCHEMA[case].values)
    assert run.returncode != 0
    assert "schema" in run.stderr
