"""Address and security of the brokers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from pydantic import SecretStr

from tests.certificates import Authority
from workers.adapters.kafka_options import (
    client_options,
    consumer_options,
    producer_options,
    transaction_options,
    transactional_id,
)
from workers.errors import SettingsError
from workers.settings import KafkaSettings


def test_a_plain_broker_needs_only_its_address() -> None:
    options = client_options(KafkaSettings(bootstrap_servers="a:1,b:2", client_id="me"))
    assert options["bootstrap.servers"] == "a:1,b:2"
    assert options["client.id"] == "me"
    assert options["security.protocol"] == "PLAINTEXT"
    assert not any(name.startswith(("sasl", "ssl")) for name in options)


def test_security_is_passed_on(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "a")
    mine = authority.issue("me", key_password="key-password")
    options = client_options(
        KafkaSettings(
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="me",
            sasl_password=SecretStr("hidden"),
            ssl_ca_location=str(authority.file),
            ssl_certificate_location=str(mine.certificate),
            ssl_key_location=str(mine.key),
            ssl_key_password=SecretStr("key-password"),
        )
    )
    Consumer(options | {"group.id": "g", "bootstrap.servers": "127.0.0.1:1", "log_level": 0}).close()
    assert {name: options[name] for name in options if name.startswith(("security", "sasl", "ssl"))} == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "me",
        "sasl.password": "hidden",
        "ssl.ca.location": str(authority.file),
        "ssl.certificate.location": str(mine.certificate),
        "ssl.key.location": str(mine.key),
        "ssl.key.password": "key-password",
        "ssl.endpoint.identification.algorithm": "https",
    }


def test_host_names_are_looked_at_whatever_else_is_set() -> None:
    options = client_options(KafkaSettings(security_protocol="SSL"))
    assert {name: options[name] for name in options if name.startswith("ssl")} == {
        "ssl.endpoint.identification.algorithm": "https"
    }


@pytest.mark.parametrize(
    ("fields", "variable"),
    [
        ({"security_protocol": "SASL_SSL"}, "RSAFE_KAFKA__SASL_MECHANISM"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "RSAFE_KAFKA__SASL_USERNAME"),
        ({"sasl_mechanism": "PLAIN"}, "RSAFE_KAFKA__SECURITY_PROTOCOL"),
        ({"ssl_ca_location": "/ca.pem"}, "RSAFE_KAFKA__SECURITY_PROTOCOL"),
        ({"security_protocol": "SSL", "ssl_key_location": "/k"}, "RSAFE_KAFKA__SSL_CERTIFICATE_LOCATION"),
        ({"security_protocol": "SSL", "ssl_certificate_location": "/c"}, "RSAFE_KAFKA__SSL_KEY_LOCATION"),
        ({"security_protocol": "SSL", "ssl_ca_location": "/absent"}, "RSAFE_KAFKA__SSL_CA_LOCATION"),
    ],
)
def test_settings_that_do_not_fit_together_are_named(fields: dict[str, Any], variable: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}: "):
        client_options(KafkaSettings(**fields))


def test_a_classic_member_has_its_session_and_divides_partitions_itself() -> None:
    options = consumer_options(KafkaSettings(session_timeout_ms=7000))
    assert options["group.protocol"] == "classic"
    assert options["partition.assignment.strategy"] == "cooperative-sticky"
    assert options["session.timeout.ms"] == 7000
    assert "group.instance.id" not in options


def test_with_the_consumer_protocol_the_broker_has_both() -> None:
    options = consumer_options(KafkaSettings(group_protocol="consumer", group_instance_id="worker-0"))
    assert options["group.protocol"] == "consumer"
    assert options["group.instance.id"] == "worker-0"
    assert not {"partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"} & set(options)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_the_client_library_takes_the_options_of_a_member(protocol: str) -> None:
    options = consumer_options(KafkaSettings.model_validate({"group_protocol": protocol}))
    Consumer(options | {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}).close()


@pytest.mark.parametrize(
    ("topic_bytes", "batch"), [(None, 998_976), (2_000, 976), (50, 1), (5_000_000, 1_000_000)]
)
def test_a_batch_stays_below_what_its_topic_takes(topic_bytes: int | None, batch: int) -> None:
    assert producer_options(KafkaSettings(), topic_bytes)["batch.size"] == batch


def test_a_transactional_id_begins_with_its_group_and_is_kept_by_static_members() -> None:
    assert transactional_id(KafkaSettings(group_id="g"), "random") == "g-random"
    assert transactional_id(KafkaSettings(group_id="g", group_instance_id="w-0"), "random") == "g-w-0"


def test_the_client_library_takes_the_options_of_a_transactional_producer() -> None:
    options = transaction_options(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "x", 2_000)
    Producer(options | {"log_level": 0})
    assert "delivery.timeout.ms" not in options
