"""The only module that imports Faust: its application object, with our settings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer

from workers.adapters.kafka_options import client_options, tls_files
from workers.adapters.tls import client_context
from workers.conduct.bounds import MOST_BYTES
from workers.settings import KafkaSettings, Settings

_RAW: Final = {"key_serializer": "raw", "value_serializer": "raw"}


def faust_app(settings: Settings) -> Any:
    """The app, without agents. Raises `SettingsError` where the security settings do not fit together."""
    kafka, conduct = settings.kafka, settings.conduct
    client_options(kafka)
    # Their lines may show a record, and a record that is no decision may hold anything. What matters of them
    # is raised as an error.
    for name in ("faust", "mode"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    app = faust.App(
        conduct.group_id,
        broker=[f"kafka://{one.strip()}" for one in kafka.bootstrap_servers.split(",")],
        broker_client_id=kafka.client_id,
        broker_credentials=_credentials(kafka),
        broker_session_timeout=kafka.session_timeout_ms / 1000,
        broker_heartbeat_interval=min(3.0, kafka.session_timeout_ms / 3000),
        broker_max_poll_interval=kafka.max_poll_interval_ms / 1000,
        producer_acks=-1,
        producer_max_request_size=MOST_BYTES,
        producer_compression_type="lz4",
        producer_linger_ms=0,
        producer_request_timeout=kafka.delivery_timeout_ms / 1000,
        consumer_auto_offset_reset="earliest",
        store="rocksdb://",
        datadir=str(Path(conduct.state_folder).resolve()),
        table_standby_replicas=0,
        # Topics are made by `rsafe topics create`, so that nobody's defaults decide.
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        web_enabled=False,
        autodiscover=False,
        # The logging of the process is ours.
        logging_config={"version": 1, "incremental": True},
    )
    app.transport.Consumer = _Consumer
    return app


class _Thread(AIOKafkaConsumerThread):  # type: ignore[misc]
    def _create_worker_consumer(self, transport: Any) -> Any:
        """Faust reads committed records only where it writes transactions itself. Workers in the mode
        `exactly-once` write them, and what they aborted is no decision."""
        made = super()._create_worker_consumer(transport)
        made._isolation_level = "read_committed"
        return made


class _Consumer(Consumer):  # type: ignore[misc]
    def _new_consumer_thread(self) -> Any:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


def _credentials(kafka: KafkaSettings) -> Any:
    context = client_context(tls_files(kafka)) if kafka.security_protocol.endswith("SSL") else None
    if kafka.security_protocol.startswith("SASL_"):
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def raw_topic(app: Any, name: str) -> Any:
    """Raw: Faust's own decoding drops what it cannot read. Not acknowledged by Faust: see `app`."""
    return app.topic(name, acks=False, allow_empty=True, **_RAW)


def changelog(app: Any, name: str) -> Any:
    """The changelog of the table."""
    # The size of the buffer is that of Faust's own changelog topics.
    return app.topic(
        name, acks=False, internal=True, compacting=True, allow_empty=True, maxsize=131_072, **_RAW
    )
