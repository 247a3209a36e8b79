"""Settings that are allowed and ask for trouble. Contradictions are refused where settings are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from workers.doctor.findings import Finding, not_checked, ok, problem, warning
from workers.settings import FAULTS_VARIABLE, Settings

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# A key of HMAC-SHA-256 shorter than this is weaker than what it keys, in characters.
_SHORT_KEY: Final = 16
# Set by Kubernetes in every container.
_IN_KUBERNETES: Final = "KUBERNETES_SERVICE_HOST"


def settings_findings(
    settings: Settings, environment: Mapping[str, str], *, faults: bool
) -> Iterator[Finding]:
    """Warnings about the settings in force. `faults`: messages may break the guard, for tests."""
    found = [
        *_content_key(settings),
        *_links(settings),
        *_engine(settings),
        *_cache(settings),
        *_run(settings, environment, faults=faults),
    ]
    yield ok("settings", "they can be read, and none contradicts another")
    yield from found


def _content_key(settings: Settings) -> Iterator[Finding]:
    key = settings.secrets.content_key.get_secret_value()
    if not key:
        yield warning(
            "settings",
            "RSAFE_SECRETS__CONTENT_KEY is not set: content MACs, cache keys and prompt marks are made with "
            "a development key that everybody knows",
            "set it, or RSAFE_SECRETS__CONTENT_KEY_FILE, to the same random value for all workers",
        )
    elif len(key) < _SHORT_KEY:
        yield warning(
            "settings",
            f"RSAFE_SECRETS__CONTENT_KEY has fewer than {_SHORT_KEY} characters",
            "set a random one, such as `openssl rand -hex 32` makes",
        )


def _links(settings: Settings) -> Iterator[Finding]:
    kafka = settings.kafka
    if not kafka.security_protocol.endswith("SSL") and _away(kafka.bootstrap_servers):
        what = "messages" if kafka.security_protocol == "PLAINTEXT" else "messages and the password"
        yield warning(
            "settings",
            f"RSAFE_KAFKA__SECURITY_PROTOCOL is {kafka.security_protocol}: {what} can be read on the way",
            "set SSL or SASL_SSL, unless the network encrypts by itself",
        )
    url = settings.redis.url.get_secret_value()
    if url.startswith("redis://") and _away(url.partition("://")[2].rpartition("@")[2].partition("/")[0]):
        yield warning(
            "settings",
            "RSAFE_REDIS__URL begins with redis://: passwords and verdicts can be read on the way",
            "use rediss://, unless the network encrypts by itself",
        )
    plain = [one.strip() for one in settings.guard.endpoints.split(",") if one.strip().startswith("http://")]
    if any((urlsplit(one).hostname or "") not in _LOOPBACK for one in plain):
        yield warning(
            "settings",
            "RSAFE_GUARD__ENDPOINTS has addresses with http://: prompts, which hold messages, can be read on "
            "the way",
            "use https://, unless the network encrypts by itself",
        )


def _engine(settings: Settings) -> Iterator[Finding]:
    guard = settings.guard
    if guard.engine == "scripted":
        yield warning(
            "settings",
            "RSAFE_GUARD__ENGINE is `scripted`: no model judges, and decisions say so",
            "set `vllm` or `remote` where decisions matter",
        )
    if guard.load_format == "dummy" and guard.engine != "scripted":
        yield warning(
            "settings",
            "RSAFE_GUARD__LOAD_FORMAT is `dummy`: the weights are random",
            "set `auto` where decisions matter",
        )
    if guard.checkpoint == "tiny" and guard.engine != "scripted":
        yield warning(
            "settings",
            "RSAFE_GUARD__CHECKPOINT is `tiny`, a small model for trials",
            "name the folder of a guard of your own where decisions matter",
        )


def _cache(settings: Settings) -> Iterator[Finding]:
    redis, cache = bool(settings.redis.url.get_secret_value()), settings.cache
    if cache.lease_ms and not redis:
        yield problem(
            "settings",
            "RSAFE_CACHE__LEASE_MS is set and RSAFE_REDIS__URL is not: leases are taken in Redis",
            "set RSAFE_REDIS__URL, or RSAFE_CACHE__LEASE_MS=0",
        )
    if redis and not cache.ttl_s:
        yield warning(
            "settings",
            "RSAFE_CACHE__TTL_S is 0: nothing is remembered in Redis unless a policy says so",
            "set a lifetime, or leave RSAFE_REDIS__URL empty",
        )


def _run(settings: Settings, environment: Mapping[str, str], *, faults: bool) -> Iterator[Finding]:
    if faults:
        yield warning(
            "settings",
            f"{FAULTS_VARIABLE} is set: messages may break the guard",
            "unset it; it is for tests",
        )
    if settings.decisions.rationale == "full":
        yield warning(
            "settings",
            "RSAFE_DECISIONS__RATIONALE is `full`: rationales in Redis and on the topic may repeat messages",
            "set `masked`, unless their readers may read messages",
        )
    if environment.get(_IN_KUBERNETES) and settings.health.host in _LOOPBACK:
        yield warning(
            "settings",
            f"RSAFE_HEALTH__HOST is {settings.health.host}: probes and Prometheus do not reach the worker in "
            "a pod",
            "set RSAFE_HEALTH__HOST=0.0.0.0",
        )
    if not settings.guard.checkpoint_keys:
        yield not_checked(
            "settings",
            "RSAFE_GUARD__CHECKPOINT_KEYS is empty: a checkpoint need not be signed",
            "name the public keys that you trust, if yours are signed",
        )


def _away(hosts: str) -> bool:
    """Whether one of `host:port, …` is another machine."""
    names = [one.strip().rpartition("://")[2] for one in hosts.split(",") if one.strip()]
    return any((name.rpartition(":")[0] or name).strip("[]") not in _LOOPBACK for name in names)
