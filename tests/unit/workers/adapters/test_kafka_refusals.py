"""One sentence for each way in which brokers turn a client away."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError

from workers.adapters import kafka_refusals as module
from workers.adapters.kafka_refusals import hint, look_for_refusal, refusal

PLAIN: dict[str, Any] = {"bootstrap.servers": "a:1,b", "security.protocol": "PLAINTEXT"}
TLS = PLAIN | {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"}
AWAY = KafkaError(KafkaError._TRANSPORT, "connection refused")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The servers that were asked to shake hands; the second one says why it would not."""
    found: list[tuple[str, int]] = []

    def ask_why(host: str, port: int, files: Any, timeout_s: float) -> str | None:
        found.append((host, port))
        return "for a reason" if host == "b" else None

    monkeypatch.setattr(module, "ask_why", ask_why)
    monkeypatch.setattr(module, "speaks_tls", lambda host, port, timeout_s: host == "a")
    return found


def test_a_refused_login_is_said_before_anything_is_asked(asked: list[Any]) -> None:
    error = KafkaError(KafkaError._AUTHENTICATION, "Authentication failed for user me with hunter2")
    text = refusal(TLS, [AWAY, error]) or ""
    assert text.startswith(
        "RSAFE_KAFKA__SASL_USERNAME: the broker at a:1,b refuses this user or its password"
    )
    assert "hunter2" not in text
    assert asked == []


def test_a_mechanism_that_is_not_offered_is_another_matter() -> None:
    error = KafkaError(KafkaError._AUTHENTICATION, "Broker: Unsupported SASL mechanism: offers PLAIN")
    assert (refusal(TLS, [error]) or "").startswith("RSAFE_KAFKA__SASL_MECHANISM: ")


def test_servers_are_asked_in_turn_when_tls_may_be_the_reason(asked: list[Any]) -> None:
    assert refusal(TLS, [AWAY]) == "for a reason"
    assert asked == [("a", 1), ("b", 9092)]


@pytest.mark.parametrize("servers", ["[::1]:9093", "SASL_SSL://[::1]:9093"])
def test_addresses_may_be_written_in_other_ways(asked: list[Any], servers: str) -> None:
    assert refusal(TLS | {"bootstrap.servers": servers}, [AWAY]) is None
    assert asked == [("::1", 9093)]


def test_nothing_is_asked_without_an_error_or_without_tls(asked: list[Any]) -> None:
    assert refusal(TLS, []) is None
    assert refusal(PLAIN, [AWAY]) is None
    assert look_for_refusal(PLAIN) is None
    assert asked == []


def test_another_protocol_than_the_listeners_is_hinted_at(asked: list[Any]) -> None:
    broken = KafkaError(KafkaError._TRANSPORT, "SSL handshake failed: Disconnected")
    assert hint(TLS, [broken]).endswith("does not speak TLS, and RSAFE_KAFKA__SECURITY_PROTOCOL is SASL_SSL")
    assert hint(TLS, [AWAY]) == ""
    assert hint(PLAIN, []).endswith("the port speaks TLS, and RSAFE_KAFKA__SECURITY_PROTOCOL is PLAINTEXT")
    assert hint(PLAIN | {"bootstrap.servers": "b:2"}, []) == ""
