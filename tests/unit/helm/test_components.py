"""What each component of the chart does, beside the worker: values in, and what they mean for the cluster."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.unit.helm.chart import CHART
from tests.unit.helm.rendering import Object, containers, needs_helm, parse, pod_templates, template
from workers.settings import load_settings

pytestmark = needs_helm

GUARD = """
image: {variant: gpu}
guard: {enabled: true, replicas: 2, port: 8100, resources: {limits: {nvidia.com/gpu: 1}}}
secrets: {guardEndpointApiKey: {existingSecret: key}}
"""
SASL = """
autoscaling: {kind: keda, minReplicas: 2, maxReplicas: 12}
settings:
  kafka:
    bootstrap_servers: a:9093,b:9093
    group_id: mine
    events_topic: chat
    security_protocol: SASL_SSL
    sasl_mechanism: SCRAM-SHA-512
    sasl_username: rsafe
secrets: {kafkaSaslPassword: {existingSecret: kafka, key: password}}
tls: {kafka: {existingSecret: kafka-tls, ca: ca.crt}}
"""
TRAINER = """
trainer: {enabled: true, image: {tag: train}, output: {existingClaim: training, path: guards}}
"""


def objects(values: str, *arguments: str) -> dict[str, Object]:
    """The objects by `Kind/name`."""
    run = template(*arguments, values=values)
    assert run.returncode == 0, run.stderr
    return {f"{part['kind']}/{part['metadata']['name']}": part for part in parse(run.stdout)}


def environment(part: Object) -> dict[str, str]:
    (_, pod), *_ = pod_templates([part])
    (container,) = containers(pod)
    return {entry["name"]: entry["value"] for entry in container["env"]}


def worker(found: dict[str, Object]) -> Object:
    return found["Deployment/demo-rsafe-stream"]


def guard_service(found: dict[str, Object]) -> Object:
    (service,) = [part for name, part in found.items() if name.startswith("Service/demo-rsafe-stream-guard-")]
    return service


def test_workers_ask_every_server_behind_the_guards_name() -> None:
    found = objects(GUARD)
    given = environment(worker(found))
    service = guard_service(found)
    (port,) = service["spec"]["ports"]
    assert given["RSAFE_GUARD__ENGINE"] == "remote"
    assert given["RSAFE_GUARD__ENDPOINTS"] == f"http://{service['metadata']['name']}:{port['port']}"
    assert given["RSAFE_GUARD__ENDPOINT_ADDRESSES"] == "all"
    assert service["spec"]["clusterIP"] == "None"


def test_the_guards_service_selects_the_guards_pods_alone() -> None:
    found = objects(GUARD)
    selector = guard_service(found)["spec"]["selector"]
    chosen = [
        part["metadata"]["name"]
        for part, pod in pod_templates(list(found.values()))
        if selected(selector, pod)
    ]
    assert chosen == ["demo-rsafe-stream-guard"]


@pytest.mark.parametrize(
    "change",
    [
        "checkpoint: {existingClaim: guards, path: seven}",
        f"checkpoint: {{digest: '{'1' * 64}'}}",
        "settings: {guard: {max_model_len: 2048}}",
        "global: {imageRegistry: mirror}",
    ],
    ids=["checkpoint", "digest", "setting", "image"],
)
def test_new_workers_find_no_guard_of_an_older_release(change: str) -> None:
    """A server that answers otherwise ends a worker that starts; both stand side by side in a rollout."""
    before, after = objects(GUARD), objects(GUARD + change)
    old, new = (environment(worker(found))["RSAFE_GUARD__ENDPOINTS"] for found in (before, after))
    assert old != new
    ((_, pod),) = pod_templates([before["Deployment/demo-rsafe-stream-guard"]])
    assert selected(guard_service(before)["spec"]["selector"], pod)
    assert not selected(guard_service(after)["spec"]["selector"], pod)
    selectors = [found["Deployment/demo-rsafe-stream-guard"]["spec"]["selector"] for found in (before, after)]
    assert selectors[0] == selectors[1]  # a Deployment's cannot be changed


def test_guards_that_answer_alike_keep_their_name() -> None:
    """Where a server stands says nothing of its answers: its workers need not be replaced."""
    moved = [yaml.safe_load(GUARD) for _ in "ab"]
    moved[1]["guard"] |= {"replicas": 3, "nodeSelector": {"pool": "b"}}
    first, second = (objects(yaml.safe_dump(values)) for values in moved)
    assert worker(first) == worker(second)


def test_the_guards_name_fits_the_longest_name_of_a_release() -> None:
    found = objects(GUARD + f"fullnameOverride: {'n' * 60}")
    (name,) = [part["metadata"]["name"] for part in found.values() if "-guard-" in part["metadata"]["name"]]
    assert len(name) <= 63


def selected(selector: dict[str, str], pod: Object) -> bool:
    labels: dict[str, str] = pod["metadata"].get("labels", {})
    return selector.items() <= labels.items()


def test_the_guard_is_not_told_to_ask_itself_and_has_one_secret() -> None:
    given = environment(objects(GUARD)["Deployment/demo-rsafe-stream-guard"])
    assert not {"RSAFE_GUARD__ENGINE", "RSAFE_GUARD__ENDPOINTS"} & set(given)
    assert [name for name in given if name.endswith("_FILE")] == ["RSAFE_GUARD__ENDPOINT_API_KEY_FILE"]


@pytest.mark.parametrize(
    ("values", "seconds"),
    [("{}", 50), ("{terminationGracePeriodSeconds: 90}", 80), ("{terminationGracePeriodSeconds: 6}", 1)],
)
def test_calls_that_run_may_finish_within_the_grace_period(values: str, seconds: int) -> None:
    """vLLM cuts them off at once by default."""
    given = yaml.safe_load(GUARD)
    given["guard"] |= yaml.safe_load(values) | {"args": ["--max-num-seqs=8"]}
    guard = objects(yaml.safe_dump(given))["Deployment/demo-rsafe-stream-guard"]
    (container,) = guard["spec"]["template"]["spec"]["containers"]
    own = container["args"].index("--")
    assert container["args"][own + 1 :] == [f"--shutdown-timeout={seconds}", "--max-num-seqs=8"]


@pytest.mark.parametrize(("gpu", "rollout"), [(False, (1, 0)), (True, (0, 1))], ids=["cpu", "gpu"])
def test_where_a_gpu_is_asked_for_an_old_pod_leaves_first(gpu: bool, rollout: tuple[int, int]) -> None:
    values = "{image: {variant: gpu}, resources: {limits: {nvidia.com/gpu: 1}}}" if gpu else "{}"
    given = worker(objects(values))["spec"]["strategy"]["rollingUpdate"]
    assert (given["maxSurge"], given["maxUnavailable"]) == rollout


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ("{}", "570"),
        ("startup: {maxSeconds: 3600}", "3570"),
        ("startup: {maxSeconds: 20}", "5"),
        ("{startup: {maxSeconds: 3600}, settings: {guard: {start_timeout_s: 90.5}}}", "90.5"),
        (GUARD, "570"),
    ],
)
def test_a_model_may_load_as_long_as_the_kubelet_waits(values: str, seconds: str) -> None:
    found = objects(values)
    for name in ("Deployment/demo-rsafe-stream", "Pod/demo-rsafe-stream-test"):
        assert environment(found[name])["RSAFE_GUARD__START_TIMEOUT_S"] == seconds
    for name in {"Job/demo-rsafe-stream-topics", "Deployment/demo-rsafe-stream-guard"} & set(found):
        assert "RSAFE_GUARD__START_TIMEOUT_S" not in environment(found[name])


def shared_memory(found: dict[str, Object]) -> str | None:
    spec = worker(found)["spec"]["template"]["spec"]
    mounts = [one["name"] for one in spec["containers"][0]["volumeMounts"] if one["mountPath"] == "/dev/shm"]
    sizes = {one["name"]: one["emptyDir"].get("sizeLimit") for one in spec["volumes"] if "emptyDir" in one}
    return sizes[mounts[0]] if mounts else None


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ("{}", None),
        ("settings: {guard: {tensor_parallel_size: 2}}", "2Gi"),
        ("settings: {guard: {data_parallel_size: 2}}", "2Gi"),
        ("{sharedMemory: 7Gi, settings: {guard: {tensor_parallel_size: 2}}}", "7Gi"),
        ("sharedMemory: 1Gi", "1Gi"),
        # Its servers have the GPUs.
        (GUARD + "settings: {guard: {tensor_parallel_size: 2}}", None),
    ],
)
def test_a_guard_over_several_gpus_has_shared_memory(values: str, size: str | None) -> None:
    """Its processes share 160 MiB and more; a container has 64 MiB of its own."""
    assert shared_memory(objects(values)) == size


@pytest.mark.parametrize(
    "values",
    [
        "checkpoint: {{existingClaim: guards, path: seven, digest: '{}'}}",
        "checkpoint: {{image: {{reference: 'registry.example/guard:1'}}, digest: '{}'}}",
    ],
    ids=["claim", "image"],
)
def test_another_digest_of_the_checkpoint_makes_other_pods(values: str) -> None:
    old, new = (worker(objects(values.format(digit * 64)))["spec"]["template"] for digit in "12")
    assert old != new
    assert worker(objects(values.format("1" * 64)))["spec"]["template"] == old  # what a rollback brings back


def test_a_checkpoint_image_is_mounted_where_the_worker_looks() -> None:
    found = worker(objects("checkpoint: {image: {reference: 'registry.example/guard:1'}, path: seven}"))
    spec = found["spec"]["template"]["spec"]
    (volume,) = [volume for volume in spec["volumes"] if "image" in volume]
    (mount,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == volume["name"]]
    assert volume["image"]["reference"] == "registry.example/guard:1"
    assert environment(found)["RSAFE_GUARD__CHECKPOINT"] == f"{mount['mountPath']}/seven"


def test_with_an_autoscaler_the_deployment_has_no_number_of_its_own() -> None:
    assert "replicas" not in worker(objects(SASL))["spec"]
    assert worker(objects("replicas: 3"))["spec"]["replicas"] == 3


def test_keda_measures_the_group_that_the_workers_are() -> None:
    found = objects(SASL)
    scaled = found["ScaledObject/demo-rsafe-stream"]["spec"]
    (trigger,) = scaled["triggers"]
    given = environment(worker(found))
    assert trigger["metadata"]["bootstrapServers"] == given["RSAFE_KAFKA__BOOTSTRAP_SERVERS"]
    assert trigger["metadata"]["consumerGroup"] == given["RSAFE_KAFKA__GROUP_ID"]
    assert trigger["metadata"]["topic"] == given["RSAFE_KAFKA__EVENTS_TOPIC"]
    assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 12)
    assert scaled["scaleTargetRef"]["name"] == worker(found)["metadata"]["name"]


def test_keda_tells_a_partition_that_stands_still_by_its_own_interval() -> None:
    """With a question of the autoscaler between two of its own, all partitions would seem to stand."""
    (trigger,) = objects(SASL)["ScaledObject/demo-rsafe-stream"]["spec"]["triggers"]
    assert trigger["metadata"]["excludePersistentLag"] == "true"
    assert trigger["useCachedMetrics"] is True


def test_large_thresholds_are_whole_numbers_to_keda() -> None:
    values = yaml.safe_load(SASL)
    queue = {"serverAddress": "http://prometheus:9090", "perReplica": 3_000_000}
    values["autoscaling"]["keda"] = {"lagPerReplica": 1_000_000, "guardQueue": queue}
    found = objects(yaml.safe_dump(values))
    lag, waiting = found["ScaledObject/demo-rsafe-stream"]["spec"]["triggers"]
    assert lag["metadata"]["lagThreshold"] == "1000000"
    assert waiting["metadata"]["threshold"] == "3000000"


def test_keda_counts_the_questions_of_the_release_s_own_workers() -> None:
    values = yaml.safe_load(SASL)
    values["autoscaling"]["keda"] = {"guardQueue": {"serverAddress": "http://prometheus:9090"}}
    _, waiting = objects(yaml.safe_dump(values))["ScaledObject/demo-rsafe-stream"]["spec"]["triggers"]
    found = re.search(r'pod=~"([^"]+)"', waiting["metadata"]["query"])
    assert found is not None
    assert re.fullmatch(found[1], "demo-rsafe-stream-6d4cf56db6-x2x9z")
    for other in (
        "demo-rsafe-stream-conduct-0",
        "other-6d4cf56db6-x2x9z",
        "demo-rsafe-stream-b-6d4cf56db6-x2x9z",
    ):
        assert re.fullmatch(found[1], other) is None


def test_keda_logs_in_with_the_workers_secrets() -> None:
    found = objects(SASL)
    (trigger,) = found["ScaledObject/demo-rsafe-stream"]["spec"]["triggers"]
    login = found[f"TriggerAuthentication/{trigger['authenticationRef']['name']}"]["spec"]
    assert {one["parameter"]: (one["name"], one["key"]) for one in login["secretTargetRef"]} == {
        "password": ("kafka", "password"),
        "ca": ("kafka-tls", "ca.crt"),
    }
    (user,) = login["env"]
    assert environment(worker(found))[user["name"]] == "rsafe"


def test_scale_to_zero_has_to_be_asked_for() -> None:
    zero = "autoscaling: {kind: keda, keda: {scaleToZero: true}}"
    least = [
        objects(values)["ScaledObject/demo-rsafe-stream"]["spec"]["minReplicaCount"]
        for values in ("autoscaling: {kind: keda}", zero)
    ]
    assert least == [1, 0]


@pytest.mark.parametrize("kind", ["hpa", "keda"])
def test_workers_leave_one_at_a_time_and_late(kind: str) -> None:
    found = objects(f"{{autoscaling: {{kind: {kind}}}, resources: {{requests: {{cpu: 2}}}}}}")
    if kind == "hpa":
        behavior = found["HorizontalPodAutoscaler/demo-rsafe-stream"]["spec"]["behavior"]
    else:
        advanced = found["ScaledObject/demo-rsafe-stream"]["spec"]["advanced"]
        behavior = advanced["horizontalPodAutoscalerConfig"]["behavior"]
    (policy,) = behavior["scaleDown"]["policies"]
    assert (policy["type"], policy["value"]) == ("Pods", 1)
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 300


def test_a_trainer_writes_where_its_claim_is_mounted() -> None:
    found = objects(TRAINER)
    (job,) = [part for name, part in found.items() if name.startswith("Job/") and "trainer" in name]
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    output = container["args"][container["args"].index("--output") + 1]
    (mount,) = [mount for mount in container["volumeMounts"] if output.startswith(mount["mountPath"])]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == mount["name"]]
    assert volume["persistentVolumeClaim"]["claimName"] == "training"
    assert output == "/training/guards"


def test_a_schedule_makes_the_trainer_a_cron_job_that_never_overlaps() -> None:
    values = yaml.safe_load(TRAINER)
    values["trainer"]["schedule"] = "0 3 * * 0"
    found = objects(yaml.safe_dump(values))
    (job,) = [part for part in found.values() if part["kind"] == "CronJob"]
    assert (job["spec"]["schedule"], job["spec"]["concurrencyPolicy"]) == ("0 3 * * 0", "Forbid")
    assert not [name for name in found if name.startswith("Job/") and "trainer" in name]


def test_every_pod_is_under_a_network_policy_of_both_directions() -> None:
    found = list(objects(GUARD + TRAINER + "networkPolicy: {enabled: true}").values())
    policies = [part["spec"] for part in found if part["kind"] == "NetworkPolicy"]
    for part, pod in pod_templates(found):
        rules = [rule for rule in policies if selected(rule["podSelector"]["matchLabels"], pod)]
        assert rules, part["metadata"]["name"]
        assert all(set(rule["policyTypes"]) == {"Ingress", "Egress"} for rule in rules)


def policy(found: dict[str, Object], component: str = "") -> Object:
    spec: Object = found[f"NetworkPolicy/demo-rsafe-stream{component}"]["spec"]
    return spec


def test_the_guard_is_asked_by_nobody_who_is_not_named() -> None:
    """Its metrics and its questions come by one port."""
    monitoring = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    found = [
        objects(GUARD + yaml.safe_dump({"networkPolicy": {"enabled": True, "metricsFrom": named}}))
        for named in ([], [monitoring])
    ]
    (nobody,), (somebody,) = (policy(one, "-guard")["ingress"] for one in found)
    components = [one["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for one in nobody["from"]]
    assert components == ["worker", "test"]
    assert somebody["from"] == [*nobody["from"], monitoring]
    (workers,) = policy(found[0])["ingress"]
    assert workers["from"] == [{"namespaceSelector": {}}]


def egress_ports(found: dict[str, Object], component: str = "") -> list[list[int]]:
    """Of each rule the ports; of name service first."""
    rules = policy(found, component)["egress"]
    return [[port["port"] for port in rule["ports"]] for rule in rules]


@pytest.mark.parametrize(
    ("endpoints", "ports"),
    [
        ("http://a:8000", [8000]),
        ("http://gateway:8443/models/a, https://b", [8443, 443]),
        ("http://a/v1,HTTPS://b/", [80, 443]),
        ("http://[fd00::1]:8000,http://[fd00::2]", [8000, 80]),
    ],
)
def test_the_ports_of_guards_are_those_of_their_addresses(endpoints: str, ports: list[int]) -> None:
    values = {
        "networkPolicy": {"enabled": True},
        "settings": {"guard": {"engine": "remote", "endpoints": endpoints}},
    }
    for component in ("", "-test"):
        assert egress_ports(objects(yaml.safe_dump(values)), component) == [[53, 53], [9092], ports]


@pytest.mark.parametrize(
    ("topology", "given", "ports"),
    [
        ("standalone", [6379], [6379]),
        ("sentinel", [6379], [6379, 26379]),
        ("sentinel", [7000, 7001], [7000, 7001]),
    ],
)
def test_sentinels_are_reached_as_their_servers_are(
    topology: str, given: list[int], ports: list[int]
) -> None:
    values = {
        "networkPolicy": {"enabled": True, "redis": {"ports": given}},
        "settings": {"redis": {"topology": topology}},
        "secrets": {"redisUrl": {"existingSecret": "redis"}},
    }
    assert egress_ports(objects(yaml.safe_dump(values)))[-1] == ports


@pytest.mark.parametrize(
    ("argument", "ports"),
    [
        ("--otlp-traces-endpoint=http://collector:4317", [[53, 53], [4317, 4318]]),
        ("--otlp_traces_endpoint=http://collector:4317", [[53, 53], [4317, 4318]]),
        ("--max-num-batched-tokens=16384", [[53, 53]]),
    ],
)
def test_guard_servers_reach_the_collector_where_they_are_told_of_one(
    argument: str, ports: list[list[int]]
) -> None:
    guard = {"enabled": True, "args": [argument], "image": {"variant": "cpu"}}
    values = {"networkPolicy": {"enabled": True}, "guard": guard}
    assert egress_ports(objects(yaml.safe_dump(values)), "-guard") == ports


@pytest.mark.parametrize("link", ["redis", "traces"])
def test_a_rule_of_no_ports_never_allows_them_all(link: str) -> None:
    """Behind the schema, which asks for one."""
    values = {
        "networkPolicy": {"enabled": True, link: {"ports": []}},
        "settings": {"tracing": {"export": "http"}},
        "secrets": {"redisUrl": {"existingSecret": "redis"}},
    }
    refused = template(values=yaml.safe_dump(values))
    assert refused.returncode != 0 and "ports" in refused.stderr
    found = objects(yaml.safe_dump(values), "--skip-schema-validation")
    assert all(rule["ports"] for rule in policy(found)["egress"])


def test_what_the_workers_may_reach_beside_the_test_reaches_too() -> None:
    rule = {"ports": [{"protocol": "TCP", "port": 8443}]}
    found = objects(yaml.safe_dump({"networkPolicy": {"enabled": True, "extraEgress": [rule]}}))
    assert [rule in policy(found, component)["egress"] for component in ("", "-test", "-topics")] == [
        True,
        True,
        False,
    ]


def test_the_topics_job_has_its_network_policy_before_it_runs() -> None:
    found = objects("networkPolicy: {enabled: true}")
    first, job = (
        found[f"{kind}/demo-rsafe-stream-topics"]["metadata"]["annotations"]
        for kind in ("NetworkPolicy", "Job")
    )
    assert first["helm.sh/hook"] == job["helm.sh/hook"]
    assert int(first["helm.sh/hook-weight"]) < int(job.get("helm.sh/hook-weight", 0))


def test_an_account_of_the_chart_is_not_asked_for_before_it_is_there() -> None:
    found = objects("serviceAccount: {create: true}")
    names: dict[str, Any] = {
        part["metadata"]["name"]: pod["spec"].get("serviceAccountName")
        for part, pod in pod_templates(list(found.values()))
    }
    assert names["demo-rsafe-stream"] == "demo-rsafe-stream"
    assert names["demo-rsafe-stream-topics"] is None  # a hook that runs before the install
    assert found["ServiceAccount/demo-rsafe-stream"]["automountServiceAccountToken"] is False


def test_helm_prints_what_hooks_say_before_it_removes_them() -> None:
    """`helm test --logs` fails where the pod is gone already, as one that succeeded is."""
    found = objects("{}")
    policies = {
        part["metadata"]["name"]: part["metadata"]["annotations"] for part in found.values() if is_hook(part)
    }
    assert {name: one["helm.sh/hook-output-log-policy"] for name, one in policies.items()} == {
        "demo-rsafe-stream-test": "hook-succeeded,hook-failed",
        "demo-rsafe-stream-topics": "hook-failed",
    }
    assert not [name for name, one in policies.items() if "hook-failed" in one["helm.sh/hook-delete-policy"]]
    assert "--logs" not in (CHART / "templates" / "NOTES.txt").read_text(encoding="utf-8")


def is_hook(part: Object) -> bool:
    return "helm.sh/hook" in part["metadata"].get("annotations", {})


def test_whoever_reads_settings_of_kafka_has_those_that_they_are_checked_against() -> None:
    """What the worker takes may not end the job that runs before it."""
    values = """
settings:
  kafka: {max_poll_interval_ms: 30000, session_timeout_ms: 10000, delivery_timeout_ms: 5000}
  stream: {drain_s: 10}
"""
    found = objects(TRAINER + values)
    settings = [load_settings(environment(part)) for part, _ in pod_templates(list(found.values()))]
    assert len(settings) == 4  # worker, topics, trainer, test
    assert {(one.kafka.max_poll_interval_ms, one.stream.drain_s) for one in settings} == {(30_000, 10.0)}


def test_a_mirror_stands_before_every_image() -> None:
    values = (
        GUARD
        + TRAINER
        + "checkpoint: {image: {reference: 'guard:1'}}\nglobal: {imageRegistry: mirror:5000}\n"
    )
    found = list(objects(values).values())
    for _, pod in pod_templates(found):
        assert all(container["image"].startswith("mirror:5000/") for container in containers(pod))
        for volume in pod["spec"]["volumes"]:
            assert volume.get("image", {"reference": "mirror:5000/"})["reference"].startswith("mirror:5000/")


def test_extra_objects_are_templates() -> None:
    text = (
        "extraObjects: ['{apiVersion: v1, kind: ConfigMap, metadata: {name: \"{{ .Release.Name }}-more\"}}']"
    )
    assert "ConfigMap/demo-more" in objects(text)


@pytest.mark.parametrize("persistent", [False, True], ids=["folder", "claim"])
def test_conduct_keeps_its_store_where_it_is_mounted(persistent: bool) -> None:
    store = f"{{persistent: {str(persistent).lower()}, size: 3Gi}}"
    found = objects(f"conduct: {{enabled: true, store: {store}}}")
    conduct = found[f"{'StatefulSet' if persistent else 'Deployment'}/demo-rsafe-stream-conduct"]
    spec = conduct["spec"]["template"]["spec"]
    folder = environment(conduct)["RSAFE_CONDUCT__STATE_FOLDER"]
    (mount,) = [one for one in spec["containers"][0]["volumeMounts"] if one["mountPath"] == folder]
    if persistent:
        (claim,) = conduct["spec"]["volumeClaimTemplates"]
        assert claim["metadata"]["name"] == mount["name"]
        assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
        assert conduct["spec"]["serviceName"] in {part["metadata"]["name"] for part in found.values()}
    else:
        (volume,) = [one for one in spec["volumes"] if one["name"] == mount["name"]]
        assert volume["emptyDir"] == {"sizeLimit": "3Gi"}


def test_a_claim_does_not_outlive_the_pod_that_knew_its_age() -> None:
    found = objects("conduct: {enabled: true, store: {persistent: true}}")
    spec = found["StatefulSet/demo-rsafe-stream-conduct"]["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Delete"}


def test_an_upgrade_of_the_chart_changes_no_claim() -> None:
    """Kubernetes refuses every change of a claim's template, so no version may stand in it."""
    found = objects("conduct: {enabled: true, store: {persistent: true}}")
    (claim,) = found["StatefulSet/demo-rsafe-stream-conduct"]["spec"]["volumeClaimTemplates"]
    assert set(claim["metadata"]["labels"]) == {
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/component",
    }


def test_no_more_pods_of_conduct_than_partitions_stand_during_a_rollout() -> None:
    found = objects("conduct: {enabled: true, replicas: 6}")
    rollout = found["Deployment/demo-rsafe-stream-conduct"]["spec"]["strategy"]["rollingUpdate"]
    assert rollout == {"maxSurge": 0, "maxUnavailable": 1}
    more = "{conduct: {enabled: true, replicas: 7}, settings: {kafka: {partitions: 7}}}"
    assert objects(more)["Deployment/demo-rsafe-stream-conduct"]["spec"]["replicas"] == 7


def test_conduct_is_not_restarted_while_it_reads_its_state_back() -> None:
    conduct = objects("conduct: {enabled: true}")["Deployment/demo-rsafe-stream-conduct"]
    (container,) = conduct["spec"]["template"]["spec"]["containers"]
    paths = {
        name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
    }
    assert paths == {
        "startup": "/health/live",
        "liveness": "/health/live",
        "readiness": "/health/ready",
    }


def test_conduct_counts_by_the_workers_policies_and_knows_no_other_secrets_than_kafkas() -> None:
    more = "secrets: {redisUrl: {existingSecret: r}, contentKey: {existingSecret: c}, "
    found = objects(
        SASL.replace("secrets: {", more) + "policies: {existingConfigMap: mine}\nconduct: {enabled: true}\n"
    )
    conduct = found["Deployment/demo-rsafe-stream-conduct"]
    given, of_worker = environment(conduct), environment(worker(found))
    assert [name for name in given if name.endswith("_FILE")] == ["RSAFE_KAFKA__SASL_PASSWORD_FILE"]
    assert given["RSAFE_POLICIES__PATH"] == of_worker["RSAFE_POLICIES__PATH"]
    assert given["RSAFE_KAFKA__SSL_CA_LOCATION"] == of_worker["RSAFE_KAFKA__SSL_CA_LOCATION"]


def test_the_names_of_conducts_topics_reach_those_who_make_them() -> None:
    found = objects("{conduct: {enabled: true}, settings: {conduct: {entries_topic: in, state_topic: kept}}}")
    for name in ("Deployment/demo-rsafe-stream-conduct", "Job/demo-rsafe-stream-topics"):
        given = environment(found[name])
        assert given["RSAFE_CONDUCT__ENTRIES_TOPIC"] == "in"
        assert given["RSAFE_CONDUCT__STATE_TOPIC"] == "kept"


def test_who_may_read_metrics_and_who_may_ask_for_conduct() -> None:
    found = objects(
        "conduct: {enabled: true}\n"
        "networkPolicy: {enabled: true, metricsFrom: [{podSelector: {matchLabels: {app: prometheus}}}], "
        "viewFrom: [{podSelector: {matchLabels: {app: desk}}}]}"
    )
    asked = {
        name: [
            peer["podSelector"]["matchLabels"]["app"]
            for rule in found[f"NetworkPolicy/{name}"]["spec"]["ingress"]
            for peer in rule["from"]
        ]
        for name in ("demo-rsafe-stream", "demo-rsafe-stream-conduct")
    }
    assert asked == {
        "demo-rsafe-stream": ["prometheus"],
        "demo-rsafe-stream-conduct": ["prometheus", "desk"],
    }


def test_what_conduct_counts_is_told_to_nobody_who_is_not_named() -> None:
    desk = {"podSelector": {"matchLabels": {"app": "desk"}}}
    nobody, somebody = (
        objects(
            yaml.safe_dump(
                {"conduct": {"enabled": True}, "networkPolicy": {"enabled": True, "viewFrom": named}}
            )
        )
        for named in ([], [desk])
    )
    assert policy(nobody, "-conduct")["ingress"] == []
    (rule,) = policy(somebody, "-conduct")["ingress"]
    assert rule["from"] == [desk]


def test_every_process_of_conduct_can_be_asked_also_while_it_is_not_ready() -> None:
    service = objects("conduct: {enabled: true}")["Service/demo-rsafe-stream-conduct"]["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
