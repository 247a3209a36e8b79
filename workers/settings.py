"""The one typed settings tree, and the only reader of the environment.

Sources, strongest first: `RSAFE_<GROUP>__<NAME>` in the environment, the file that `RSAFE_SETTINGS_FILE`
names (YAML), the defaults. A secret comes from its variable or from the file that `<VARIABLE>_FILE` names,
and never from the YAML file, which is passed around. An unknown name with our prefix is refused, so that a
typing error never means "default".

Over 300 lines, because the settings are one table, read in one piece.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from guard.serving.remote_options import endpoint_urls
from workers.errors import SettingsError
from workers.settings_reading import explain, read_secret, read_tree, unknown

PREFIX: Final = "RSAFE_"
FILE_VARIABLE: Final = "RSAFE_SETTINGS_FILE"
# Lets messages with a marker break the guard, so that tests can see what follows. Not a setting, so that no
# settings file and no chart can switch it on; any value but the word is refused.
FAULTS_VARIABLE: Final = "RSAFE_TEST_HOOKS"
FAULTS_WORD: Final = "messages-may-break-the-guard"
# Read by the test suite and by the local stack, not by the worker; and what is no setting.
FOREIGN_VARIABLES: Final = frozenset(
    {"RSAFE_TEST_DATA", "RSAFE_LOCAL_FOLDER", FILE_VARIABLE, FAULTS_VARIABLE}
)

# From the first sign of a hang to its end: the engine is asked once a second, and ended a moment later.
_HANG_MARGIN_MS: Final = 2_000

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonEmpty = Annotated[str, Field(min_length=1)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class KafkaSettings(_Group):
    bootstrap_servers: NonEmpty = "127.0.0.1:9092"
    """Addresses of brokers, comma-separated."""
    group_id: NonEmpty = "rsafe-moderation"
    """Consumer group of the worker."""
    client_id: str = "rsafe-stream"
    """Name of this client in the broker's logs and metrics."""
    events_topic: NonEmpty = "chat.events"
    """Topic that is read."""
    decisions_topic: NonEmpty = "moderation.decisions"
    """Topic of the decisions."""
    dead_letters_topic: NonEmpty = "moderation.dead-letters"
    """Topic of the records that could not become decisions."""
    reviews_topic: NonEmpty = "moderation.reviews"
    """Topic of the reviews, which `rsafe train export` reads."""
    checkpoints_topic: NonEmpty = "moderation.checkpoints"
    """Topic of the releases of checkpoints."""
    policies_topic: NonEmpty = "moderation.policies"
    """Topic of the changes of policies."""
    escalations_topic: NonEmpty = "moderation.escalations"
    """Topic of the escalations, which `rsafe conduct` writes."""
    partitions: Positive = 6
    """Partitions of a topic that `rsafe topics create` makes."""
    replication_factor: Positive = 1
    """Copies of each partition of a topic that `rsafe topics create` makes."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How the broker is spoken to."""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """SASL mechanism, empty for none."""
    sasl_username: str = ""
    """SASL user."""
    sasl_password: SecretStr = SecretStr("")
    """SASL password."""
    ssl_ca_location: str = ""
    """File of the certificate authorities (PEM), empty for the system's."""
    ssl_certificate_location: str = ""
    """File of this client's certificate (PEM, its chain behind it), for mutual TLS; empty: none."""
    ssl_key_location: str = ""
    """File of the certificate's private key (PEM)."""
    ssl_key_password: SecretStr = SecretStr("")
    """Password of the private key, empty for none."""
    start_timeout_s: Seconds = 10.0
    """How long the worker waits for the broker at start before it gives up."""
    session_timeout_ms: Annotated[int, Field(ge=1000, le=3_600_000)] = 45_000
    """After how long without a heartbeat a worker's partitions go to others."""
    max_poll_interval_ms: Annotated[int, Field(ge=1000, le=86_400_000)] = 120_000
    """Longest time without a poll, and of a rebalance's wait for a member; at least `session_timeout_ms`."""
    delivery_timeout_ms: Annotated[int, Field(ge=1000, le=2_147_483_647)] = 120_000
    """How long a decision may take to be acknowledged before the worker stops uncommitted."""
    linger_ms: Annotated[int, Field(ge=0, le=900)] = 1
    """How long the producer waits to fill a batch."""
    delivery: Literal["at-least-once", "exactly-once"] = "at-least-once"
    """`exactly-once`: decisions and offsets go together, a transaction per `stream.commit_interval_ms`."""
    group_protocol: Literal["classic", "consumer"] = "classic"
    """`consumer` (KIP-848): the broker divides the partitions, and `session_timeout_ms` is the broker's."""
    group_instance_id: str = ""
    """Name of this worker that a restart keeps, unique in its group (static membership); empty: none."""
    min_partitions: Positive = 1
    """Fewest partitions of the events topic with which a worker starts; more workers than these are idle."""
    events_timestamps: Literal["broker", "any"] = "broker"
    """`broker`: refuse an events topic whose timestamps are the senders', since deadlines count from them."""

    @model_validator(mode="after")
    def _polls_within_a_session(self) -> KafkaSettings:
        # librdkafka refuses the opposite, for the classic protocol only.
        if self.group_protocol == "classic" and self.max_poll_interval_ms < self.session_timeout_ms:
            raise ValueError(
                f"RSAFE_KAFKA__MAX_POLL_INTERVAL_MS: expected at least RSAFE_KAFKA__SESSION_TIMEOUT_MS, "
                f"which is {self.session_timeout_ms}"
            )
        return self


class RedisSettings(_Group):
    url: SecretStr = SecretStr("")
    """`redis://…` or `rediss://…`; empty: no shared verdict cache. Commas stand between several hosts."""
    topology: Literal["standalone", "cluster", "sentinel"] = "standalone"
    """What stands at `url`: one server, nodes of a Redis Cluster, or sentinels."""
    sentinel_service: str = ""
    """Name under which the sentinels know the master; with `sentinel` only."""
    sentinel_username: str = ""
    """User at the sentinels, where they ask for one; that of the servers is `username`."""
    sentinel_password: SecretStr = SecretStr("")
    """Password at the sentinels, where they ask for one."""
    username: str = ""
    """ACL user of the servers; empty: the one in the URL, else Redis's default user."""
    password: SecretStr = SecretStr("")
    """Password; empty: the one in the URL, if any."""
    ssl_ca_location: str = ""
    """File of the certificate authorities (PEM) for `rediss://`, empty for the system's."""
    ssl_certificate_location: str = ""
    """File of this client's certificate (PEM, its chain behind it), for mutual TLS; empty: none."""
    ssl_key_location: str = ""
    """File of the certificate's private key (PEM)."""
    ssl_key_password: SecretStr = SecretStr("")
    """Password of the private key, empty for none."""
    timeout_ms: Positive = 250
    """Longest wait for one round trip, its connection included; over it is a miss."""
    max_connections: Annotated[int, Field(ge=3)] = 8
    """Connections of one worker to each server; reading, writing and leases go at the same time."""
    breaker_failures: Positive = 3
    """Failures in a row after which a server is left alone."""
    breaker_reset_s: Seconds = 5.0
    """How long a server is left alone before one try."""

    @model_validator(mode="after")
    def _topology_fits(self) -> RedisSettings:
        if self.topology != "standalone" and not self.url.get_secret_value():
            raise ValueError(f"RSAFE_REDIS__URL: expected hosts with RSAFE_REDIS__TOPOLOGY={self.topology}")
        if self.topology == "sentinel" and not self.sentinel_service:
            raise ValueError(
                "RSAFE_REDIS__SENTINEL_SERVICE: expected a name with RSAFE_REDIS__TOPOLOGY=sentinel"
            )
        if self.topology != "sentinel":
            for name in ("sentinel_service", "sentinel_username", "sentinel_password"):
                if getattr(self, name) not in ("", SecretStr("")):
                    raise ValueError(
                        f"RSAFE_REDIS__{name.upper()}: expected nothing unless RSAFE_REDIS__TOPOLOGY=sentinel"
                    )
        return self


class GuardSettings(_Group):
    engine: Literal["vllm", "remote", "scripted"] = "vllm"
    """`vllm`: in the worker; `remote`: servers at `endpoints`; `scripted`: a stand-in; decisions say so."""
    endpoints: str = ""
    """Addresses of `vllm serve`, comma-separated, such as `http://host:8000`; with `remote` only."""
    endpoint_addresses: Literal["one", "all"] = "one"
    """`all`: a host name of `endpoints` that resolves to many addresses is as many servers."""
    endpoint_model: str = ""
    """Name of the model at the servers, by your word of this checkpoint's weights; empty: their digest."""
    endpoint_api_key: SecretStr = SecretStr("")
    """Key for the servers (`vllm serve --api-key`), and the one that `rsafe serve-guard` sets."""
    endpoint_ssl_ca_location: str = ""
    """File of the certificate authorities (PEM) for `https://`, empty for the system's."""
    endpoint_ssl_certificate_location: str = ""
    """File of this client's certificate (PEM, its chain behind it), for mutual TLS; empty: none."""
    endpoint_ssl_key_location: str = ""
    """File of the certificate's private key (PEM)."""
    endpoint_ssl_key_password: SecretStr = SecretStr("")
    """Password of the private key, empty for none."""
    endpoint_max_connections: Positive = 256
    """Connections of one worker to each server; a call takes one."""
    endpoint_health_interval_ms: Annotated[int, Field(ge=50, le=60_000)] = 2_000
    """How often a server's health is asked for, and how long its answer may take."""
    endpoint_failures: Positive = 3
    """Failures in a row after which a server gets no calls; where nobody answers, one suffices."""
    endpoint_back_off_ms: Annotated[int, Field(ge=50, le=60_000)] = 1_000
    """Pause before a server that gets no calls is looked at again; doubled each time, up to 16 times."""
    checkpoint: str = "tiny"
    """Folder in the Hugging Face layout, or `tiny` for the checkpoint in this package."""
    checkpoint_keys: str = ""
    """Files of public keys (PEM), comma-separated: only a checkpoint that one of them signed; empty: any."""
    checkpoint_digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Digest of the only checkpoint that is loaded, as `rsafe checkpoint show` says it; empty: any."""
    calibration: Literal["checkpoint", "off"] = "checkpoint"
    """`checkpoint`: scores are read by its `calibration.json`, where it has one; `off`: scores stay raw."""
    template: str = ""
    """Prompt template: a built-in name or a file; empty: the checkpoint's own, else `rsafe-instruct-1`."""
    profile: str = ""
    """Profile of a folder whose manifest names none, such as `llama-guard-3`; empty: `rsafe-boxed-1`."""
    think_budget_tokens: Positive = 512
    """Longest rationale; then the think part is closed by force and the verdict asked for."""
    answer_tokens: Positive = 32
    """Room for the verdict and the codes after the rationale."""
    category_scores: Literal["on", "off"] = "on"
    """Whether an `unsafe` verdict gets a score for each category of its policy: one more short call."""
    call_timeout_ms: Positive = 30_000
    """Longest judgement, retries included, else `timed_out`; `hang_timeout_ms` and two seconds, or more."""
    max_attempts: Positive = 2
    """Calls of the engine for one judgement before it is `unjudged: engine_failed`."""
    hang_timeout_ms: Annotated[int, Field(ge=100)] = 20_000
    """Silence after which the engine's process is ended and started again; above its longest single step."""
    start_timeout_s: Seconds = 600.0
    """How long the engine may take from its start to its first answer."""
    max_model_len: Positive | None = None
    """Longest prompt and answer in tokens; default: the checkpoint's."""
    max_text_windows: Annotated[int, Field(ge=1, le=256)] = 16
    """Most text windows in which a message is judged that does not fit; beyond: `on_unjudged`; 1: none."""
    text_window_overlap_tokens: Positive = 128
    """Tokens that neighbouring text windows share: whatever is no longer stands whole in one of them."""
    max_concurrency: Positive = 256
    """Sequences that vLLM runs at a time."""
    load_format: Literal["auto", "safetensors", "dummy"] = "auto"
    """vLLM's load format; `dummy` makes random weights, for load tests of large shapes."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the weights in vLLM."""
    cpu_kv_cache_gib: Positive = 1
    """Size of vLLM's KV cache on the CPU."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the GPU's memory that vLLM takes."""
    tensor_parallel_size: Positive = 1
    """Over how many GPUs vLLM divides each matrix of the model."""
    data_parallel_size: Positive = 1
    """How many copies of the model vLLM runs, on GPUs of their own; they share the calls."""
    quantization: Annotated[str, Field(pattern=r"^[a-z0-9_.-]*$")] = ""
    """How vLLM rounds the weights as it loads them, by its name, such as `fp8`; empty: as they are stored."""
    scripted_delay_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long the scripted engine takes for an answer."""

    @model_validator(mode="after")
    def _hangs_are_noticed_first(self) -> GuardSettings:
        # A call that began in a hang is then ended by the death of the engine, and not by its own time-out.
        least = self.hang_timeout_ms + _HANG_MARGIN_MS
        if self.call_timeout_ms < least:
            raise ValueError(
                f"RSAFE_GUARD__CALL_TIMEOUT_MS: expected at least RSAFE_GUARD__HANG_TIMEOUT_MS and "
                f"{_HANG_MARGIN_MS} more, which is {least}"
            )
        return self

    @model_validator(mode="after")
    def _servers_are_named(self) -> GuardSettings:
        try:
            found = endpoint_urls(self.endpoints)
        except ValueError as error:
            raise ValueError(f"RSAFE_GUARD__ENDPOINTS: {error}") from error
        if self.engine == "remote" and not found:
            raise ValueError(
                "RSAFE_GUARD__ENDPOINTS: expected addresses such as http://host:8000, comma-separated, with "
                "RSAFE_GUARD__ENGINE=remote"
            )
        if self.engine != "remote" and self.endpoints:
            raise ValueError("RSAFE_GUARD__ENDPOINTS: expected nothing unless RSAFE_GUARD__ENGINE=remote")
        key = self.endpoint_api_key.get_secret_value()
        if not (key.isascii() and key.isprintable()):
            # Not repeated, and refused here: in a request it would be an error that shows it.
            raise ValueError("RSAFE_GUARD__ENDPOINT_API_KEY: expected printable ASCII characters")
        return self

    @model_validator(mode="after")
    def _keys_are_named(self) -> GuardSettings:
        # A variable that a template left empty must not read like "any checkpoint will do".
        if self.checkpoint_keys and not self.checkpoint_key_files:
            raise ValueError(
                "RSAFE_GUARD__CHECKPOINT_KEYS: expected names of files, comma-separated, or nothing at all"
            )
        return self

    @property
    def checkpoint_key_files(self) -> list[str]:
        """The names in `checkpoint_keys`, in its order."""
        return [name.strip() for name in self.checkpoint_keys.split(",") if name.strip()]

    @model_validator(mode="after")
    def _windows_come_forward(self) -> GuardSettings:
        # Not for the default: where a model is that short, a message that does not fit is not judged.
        chosen = "text_window_overlap_tokens" in self.model_fields_set and self.max_text_windows > 1
        length = self.max_model_len
        if chosen and length is not None and 2 * self.text_window_overlap_tokens >= length:
            raise ValueError(
                f"RSAFE_GUARD__TEXT_WINDOW_OVERLAP_TOKENS: expected less than half of "
                f"RSAFE_GUARD__MAX_MODEL_LEN, which is {length}"
            )
        return self


class PoliciesSettings(_Group):
    source: Literal["files", "topic"] = "files"
    """Where policies come from: files, read at the start; or `kafka.policies_topic`, which is followed."""
    path: str = ""
    """Folder or file of policies (YAML); empty: the packs in this package. Not with the source `topic`."""
    default: str = "community"
    """Id of the policy for tenants without one; empty: such events are dead letters."""
    unknown: Literal["dead_letter", "default"] = "dead_letter"
    """What becomes of an event that names a policy that is not loaded."""

    @model_validator(mode="after")
    def _one_source(self) -> PoliciesSettings:
        if self.source == "topic" and self.path:
            raise ValueError(
                "RSAFE_POLICIES__PATH: expected none where RSAFE_POLICIES__SOURCE is `topic`; "
                "`rsafe policy publish` brings policies of files onto the topic"
            )
        return self


class LimitsSettings(_Group):
    event_bytes: Positive = 1_000_000
    """Largest record."""
    text_chars: Positive = 32_768
    """Longest text of a message or of a turn, in characters."""
    context_turns: Annotated[int, Field(ge=0)] = 64
    """Most turns of context."""
    context_chars: Annotated[int, Field(ge=0)] = 131_072
    """Longest context, all turns together, in characters."""


class CacheSettings(_Group):
    scope: Literal["tenant", "shared"] = "tenant"
    """Whether tenants with equal policies share verdicts."""
    ttl_s: Annotated[int, Field(ge=0)] = 86_400
    """How long a verdict is kept, unless its policy says otherwise; 0: not at all."""
    ttl_jitter: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share by which lifetimes in Redis vary, so that what was kept together does not expire together."""
    local_bytes: Annotated[int, Field(ge=0)] = 33_554_432
    """Size of the cache in the process, in front of Redis; 0: none."""
    lease_ms: Annotated[int, Field(ge=0)] = 0
    """How long other workers wait for the answer to a question that one asks already; 0: each asks itself."""


class StreamSettings(_Group):
    batch_records: Positive = 500
    """Most records that are taken together."""
    poll_ms: Positive = 20
    """Longest wait for a first record. What has come by then is taken at once, however little it is."""
    in_flight_records: Positive = 20_000
    """Most records read and not yet committed, in all: what is read again after a crash."""
    in_flight_records_per_partition: Positive = 10_000
    """Most records read and not yet committed, per partition."""
    in_flight_bytes: Positive = 67_108_864
    """Most bytes of records read and not yet committed, in all; a batch may pass it."""
    in_flight_bytes_per_partition: Positive = 33_554_432
    """Most bytes of records read and not yet committed, per partition; a batch may pass it."""
    in_flight_tokens: Positive = 262_144
    """Most prompt tokens of questions not yet answered, in all, estimated; a batch may pass it."""
    in_flight_tokens_per_partition: Positive = 196_608
    """Most prompt tokens of questions not yet answered, per partition; a batch may pass it."""
    commit_interval_ms: Positive = 500
    """How often the finished prefix is committed."""
    drain_s: Seconds = 20.0
    """How long in-flight work may take to finish at SIGTERM or when partitions are revoked."""


class DecisionsSettings(_Group):
    rationale: Literal["masked", "off", "full"] = "masked"
    """`masked` blanks spans shared with the input, in the cache too; `full` may repeat message text."""


class SecretsSettings(_Group):
    content_key: SecretStr = SecretStr("")
    """Key of content MACs, cache keys and prompt nonces; empty: a development key that everybody knows."""
    watch_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    """How often the files of passwords and certificates are looked at for a change; 0: never."""


class ConductSettings(_Group):
    group_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "rsafe-conduct"
    """Consumer group of `rsafe conduct`."""
    entries_topic: NonEmpty = "moderation.conduct"
    """Topic by which decisions come together by author; its partitions are as many as the state topic's."""
    state_topic: NonEmpty = "moderation.conduct-state"
    """Changelog of what is remembered; compacted."""
    state_folder: NonEmpty = "conduct-state"
    """Folder of the store of one process; made anew from the state topic where it is empty."""
    allowed_lateness_s: Annotated[int, Field(ge=0, le=2_592_000)] = 3_600
    """How much older than the newest decision of its author one may be and still count."""
    sweep_s: Seconds = 300.0
    """How often what has expired is looked for and deleted."""


class HealthSettings(_Group):
    host: str = "127.0.0.1"
    """Address of `/health/live`, `/health/ready` and `/metrics`."""
    port: Port = 8080
    """Port; 0 takes a free one."""


class LogSettings(_Group):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe line that is written."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or text for people."""


class TracingSettings(_Group):
    export: Literal["off", "http", "grpc"] = "off"
    """Whether spans go to a collector (OTLP), and how."""
    endpoint: str = ""
    """Address of the collector, such as `http://collector:4318`; empty: what `OTEL_EXPORTER_OTLP_…` says."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the events without a `traceparent` that are traced; of others their `sampled` flag decides."""
    queue_spans: Annotated[int, Field(ge=1, le=1_000_000)] = 8_192
    """Most spans that wait to be sent; more are dropped and counted."""


class Settings(_Group):
    """All settings. `Settings()` is a valid configuration of a local worker."""

    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    guard: GuardSettings = GuardSettings()
    policies: PoliciesSettings = PoliciesSettings()
    limits: LimitsSettings = LimitsSettings()
    cache: CacheSettings = CacheSettings()
    stream: StreamSettings = StreamSettings()
    decisions: DecisionsSettings = DecisionsSettings()
    conduct: ConductSettings = ConductSettings()
    secrets: SecretsSettings = SecretsSettings()
    health: HealthSettings = HealthSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    @model_validator(mode="after")
    def _drains_within_a_poll(self) -> Settings:
        # A drain runs in a callback of the rebalance, where nothing is polled: beyond the interval the
        # partitions go to others while their work is still being finished. The other half is for what
        # follows a drain: deliveries, and the last commit.
        longest_s = self.kafka.max_poll_interval_ms / 2000
        if self.stream.drain_s > longest_s:
            raise ValueError(
                f"RSAFE_STREAM__DRAIN_S: expected at most half of RSAFE_KAFKA__MAX_POLL_INTERVAL_MS, which "
                f"is {longest_s:g} s"
            )
        return self


class SettingField(BaseModel):
    """One setting, for the docs table and for tests."""

    variable: str
    path: tuple[str, str]
    type: str
    default: Any
    description: str
    secret: bool


def setting_fields() -> list[SettingField]:
    """Every setting, in declaration order."""
    return list(_fields())


def _fields() -> Iterator[SettingField]:
    defaults = Settings()
    for group, group_field in Settings.model_fields.items():
        model = group_field.annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        schema = model.model_json_schema()["properties"]
        for name, field in model.model_fields.items():
            value = getattr(getattr(defaults, group), name)
            secret = isinstance(value, SecretStr)
            yield SettingField(
                variable=f"{PREFIX}{group}__{name}".upper(),
                path=(group, name),
                type=_type_text(schema[name]),
                default="" if secret else value,
                description=field.description or "",
                secret=secret,
            )


def _type_text(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(value) or '""' for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(_type_text(part) for part in schema["anyOf"])
    text = str(schema.get("type", "string"))
    if schema.get("minLength"):
        text += ", not empty"
    low, high = schema.get("minimum"), schema.get("maximum")
    over = schema.get("exclusiveMinimum")
    if over is not None:
        text += f" > {over}"
    if low is not None:
        text += f" ≥ {low}"
    if high is not None:
        text += f" ≤ {high}"
    return text


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings in force. Raises `SettingsError` naming the variable or field and what was expected."""
    environment = os.environ if environment is None else environment
    path = environment.get(FILE_VARIABLE)
    tree = read_tree(FILE_VARIABLE, path) if path else {}
    known = {field.variable: field for field in _fields()}
    secrets = {f"{name}_FILE": field for name, field in known.items() if field.secret}
    for name, field in secrets.items():
        if field.path[1] in tree.get(field.path[0], {}):
            raise SettingsError(
                f"{FILE_VARIABLE}: {'.'.join(field.path)}: a secret does not stand in the settings file; "
                f"expected {field.variable}, or {name} with the name of a file"
            )
    for variable, value in environment.items():
        if not variable.upper().startswith(PREFIX) or variable in FOREIGN_VARIABLES:
            continue
        if variable in known:
            group, name = known[variable].path
        elif variable in secrets:
            field = secrets[variable]
            if field.variable in environment:
                raise SettingsError(f"{field.variable} and {variable} are both set; expected one")
            (group, name), value = field.path, read_secret(variable, value)
        else:
            raise SettingsError(unknown(variable, [*known, *secrets], PREFIX))
        tree.setdefault(group, {})[name] = value
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        types = {field.path: (field.variable, field.type.replace(" | ", " or ")) for field in known.values()}
        raise SettingsError(explain(error, types)) from error


def secret_files(environment: Mapping[str, str] | None = None) -> dict[tuple[str, str], tuple[str, str]]:
    """Variable and file, by the path of each secret that comes from a file."""
    environment = os.environ if environment is None else environment
    named = {field.path: f"{field.variable}_FILE" for field in _fields() if field.secret}
    return {path: (name, environment[name]) for path, name in named.items() if name in environment}


def fault_hooks(environment: Mapping[str, str] | None = None) -> bool:
    """Whether messages may break the guard, for tests. Raises `SettingsError` for anything but the word."""
    value = (os.environ if environment is None else environment).get(FAULTS_VARIABLE, "")
    if value not in ("", FAULTS_WORD):
        raise SettingsError(f"{FAULTS_VARIABLE}: for tests only; expected it unset, or {FAULTS_WORD!r}")
    return value == FAULTS_WORD
