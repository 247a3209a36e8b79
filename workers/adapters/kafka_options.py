"""Options of librdkafka that the clients of the record path share."""

from __future__ import annotations

import logging
from typing import Any, Final

from schemas.keys import PARTITIONER
from workers.adapters.tls import TlsFiles, client_context
from workers.errors import SettingsError
from workers.settings import KafkaSettings

Option = str | int | float | bool

# librdkafka waits up to 30 s for a TCP connection, longer than a person waits for an error.
CONNECTION_SETUP_TIMEOUT_MS: Final = 10_000
# librdkafka's default.
_HEARTBEAT_MS: Final = 3_000
# librdkafka stops fetching for so long when its queue is full; its default of a second starves a fast worker.
_FETCH_BACKOFF_MS: Final = 50
# Records that wait in the client, per partition, and their bytes in all: about a second of a fast worker. The
# client counts no headers among the bytes, so that for records of many headers the number is what bounds.
_PREFETCH_RECORDS: Final = 5_000
_PREFETCH_KIB: Final = 32_768
# Of the client: far above any topic, so that the topic's own limit decides.
_LARGEST_MESSAGE_BYTES: Final = 100_000_000
# After so long without a trace a topic counts as deleted. librdkafka's 30 s are made for topics that are
# new, and longer than a transaction may last: its outcomes would time out and never say why.
_TOPIC_GONE_MS: Final = 5_000
# Overhead of a batch beside its records, generously.
_BATCH_OVERHEAD_BYTES: Final = 1_024
_BATCH_BYTES: Final = 1_000_000
# The coordinator aborts what takes longer: readers wait no longer than this for a worker that was killed.
_TRANSACTION_TIMEOUT_MS: Final = 10_000
# A transaction begins while the marks of the one before are written, and is told to come again; librdkafka's
# default of 100 ms between tries would be most of the time of a transaction.
_RETRY_BACKOFF_MS: Final = 5
LOGGER: Final = logging.getLogger("rsafe.kafka")


def client_options(kafka: KafkaSettings) -> dict[str, Option]:
    """Options of librdkafka: which brokers are spoken to, and how; consumers and producers add theirs.

    Raises `SettingsError` naming the variable when the security settings do not fit together, or a file of
    certificates cannot be used.
    """
    options: dict[str, Option] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": kafka.client_id,
        "security.protocol": kafka.security_protocol,
        "socket.connection.setup.timeout.ms": CONNECTION_SETUP_TIMEOUT_MS,
        # A broker closes idle connections; that is no error worth a line.
        "log.connection.close": False,
    }
    if kafka.security_protocol.startswith("SASL_"):
        if not kafka.sasl_mechanism:
            raise SettingsError(
                f"RSAFE_KAFKA__SASL_MECHANISM: expected a mechanism, since RSAFE_KAFKA__SECURITY_PROTOCOL is "
                f"{kafka.security_protocol}"
            )
        if not kafka.sasl_username:
            raise SettingsError("RSAFE_KAFKA__SASL_USERNAME: expected a user for the SASL mechanism")
        options["sasl.mechanism"] = kafka.sasl_mechanism
        options["sasl.username"] = kafka.sasl_username
        options["sasl.password"] = kafka.sasl_password.get_secret_value()
    elif kafka.sasl_mechanism:
        raise SettingsError(
            "RSAFE_KAFKA__SECURITY_PROTOCOL: expected SASL_PLAINTEXT or SASL_SSL, since "
            "RSAFE_KAFKA__SASL_MECHANISM is set"
        )
    return options | _tls_options(kafka)


def tls_files(kafka: KafkaSettings) -> TlsFiles:
    """The certificates of the link to the brokers."""
    return TlsFiles.of("RSAFE_KAFKA__", kafka)


def _tls_options(kafka: KafkaSettings) -> dict[str, Option]:
    files = tls_files(kafka)
    if not kafka.security_protocol.endswith("SSL"):
        if files.any:
            raise SettingsError(
                "RSAFE_KAFKA__SECURITY_PROTOCOL: expected SSL or SASL_SSL, since files of certificates "
                "are set (RSAFE_KAFKA__SSL_…)"
            )
        return {}
    client_context(files)
    options = {
        # The default, and never a choice: without it any certificate of the authority would do.
        "ssl.endpoint.identification.algorithm": "https",
        "ssl.ca.location": files.ca,
        "ssl.certificate.location": files.certificate,
        "ssl.key.location": files.key,
        "ssl.key.password": files.key_password.get_secret_value(),
    }
    return {name: value for name, value in options.items() if value}


def consumer_options(kafka: KafkaSettings) -> dict[str, Any]:
    """A member of the worker's group that commits by itself.

    With `group_protocol: consumer` the broker has the session timeout and divides the partitions, and
    librdkafka refuses a client that sets either.
    """
    options: dict[str, Any] = client_options(kafka) | {
        "group.id": kafka.group_id,
        "group.protocol": kafka.group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        # Of committed offsets too: a former owner's transaction is waited for before they are believed.
        "isolation.level": "read_committed",
        "max.poll.interval.ms": kafka.max_poll_interval_ms,
        "fetch.queue.backoff.ms": _FETCH_BACKOFF_MS,
        "queued.min.messages": _PREFETCH_RECORDS,
        "queued.max.messages.kbytes": _PREFETCH_KIB,
        "logger": LOGGER,
    }
    if kafka.group_protocol == "classic":
        options["partition.assignment.strategy"] = "cooperative-sticky"
        options["session.timeout.ms"] = kafka.session_timeout_ms
        # A third of the session, as Kafka advises: with the client's default a short session would expire.
        options["heartbeat.interval.ms"] = min(_HEARTBEAT_MS, kafka.session_timeout_ms // 3)
    if kafka.group_instance_id:
        options["group.instance.id"] = kafka.group_instance_id
    return options


def producer_options(kafka: KafkaSettings, topic_bytes: int | None) -> dict[str, Any]:
    """An idempotent producer of outcomes. `topic_bytes`: the largest batch that the decisions topic takes.

    A batch that its topic refuses as too large takes all its records with it, so batches stay below.
    """
    batch = min(_BATCH_BYTES, (topic_bytes or _BATCH_BYTES) - _BATCH_OVERHEAD_BYTES)
    return client_options(kafka) | {
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": kafka.linger_ms,
        "batch.size": max(1, batch),
        "message.max.bytes": _LARGEST_MESSAGE_BYTES,
        "topic.metadata.propagation.max.ms": _TOPIC_GONE_MS,
        # A topic that is deleted must not come back with the broker's defaults.
        "allow.auto.create.topics": False,
        "partitioner": PARTITIONER,
        "logger": LOGGER,
    }


def transactional_id(kafka: KafkaSettings, worker: str) -> str:
    """The id under which a worker's transactions run; with its group first, so that one ACL covers a group.

    A static member keeps its id: its next start ends at once what it left open when it was killed. Others
    have a new one (`worker`, random), and what they left open is ended by the broker after ten seconds.
    Neither guards against a worker that lost its partitions: its group's coordinator does, by its membership.
    """
    return f"{kafka.group_id}-{kafka.group_instance_id or worker}"


def transaction_options(kafka: KafkaSettings, transactional: str, topic_bytes: int | None) -> dict[str, Any]:
    """Options of a transactional producer; a delivery may take as long as its transaction."""
    return producer_options(kafka, topic_bytes) | {
        "transactional.id": transactional,
        "transaction.timeout.ms": _TRANSACTION_TIMEOUT_MS,
        "retry.backoff.ms": _RETRY_BACKOFF_MS,
    }
