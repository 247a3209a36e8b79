"""Addresses of the parts of a stack."""

from __future__ import annotations

import socket

import pytest

from workers.adapters.embedded_addresses import FIELDS, SERVERS, Addresses, broker_accepts
from workers.adapters.embedded_redis import redis_answers
from workers.adapters.embedded_server import LOOPBACK, free_port
from workers.errors import StartError
from workers.settings import load_settings


def test_the_variables_are_settings_of_the_worker() -> None:
    settings = load_settings(Addresses("127.0.0.1:1", "redis://127.0.0.1:2/0").environment())
    assert settings.kafka.bootstrap_servers == "127.0.0.1:1"
    assert settings.redis.url.get_secret_value() == "redis://127.0.0.1:2/0"


def test_a_part_that_is_not_there_has_no_variable() -> None:
    assert Addresses("127.0.0.1:1").environment() == {"RSAFE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}


def test_every_server_has_an_address() -> None:
    assert set(SERVERS) == set(FIELDS)
    for name, server in SERVERS.items():
        assert Addresses().with_part(name, server.address_at(5)).of(name) == server.address_at(5)


def test_a_broker_accepts_if_one_of_its_addresses_does() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        for text in (
            f"{LOOPBACK}:{port}",
            f"PLAINTEXT://{LOOPBACK}:{port}",
            f"nowhere.invalid:1, {LOOPBACK}:{port}",
        ):
            assert broker_accepts(text), text


@pytest.mark.parametrize("text", ["", ":", "host:port", f"{LOOPBACK}:99999", "[::1]:x"])
def test_what_is_no_address_is_no_broker(text: str) -> None:
    assert not broker_accepts(text)


def test_an_address_where_nobody_listens_is_no_broker() -> None:
    assert not broker_accepts(f"{LOOPBACK}:{free_port()}")


def test_a_redis_that_is_not_there_does_not_answer() -> None:
    assert not redis_answers(f"redis://{LOOPBACK}:{free_port()}/0")


def test_an_address_that_is_none_of_a_redis_is_an_error() -> None:
    with pytest.raises(StartError, match="not an address of a Redis"):
        redis_answers("http://cache")
