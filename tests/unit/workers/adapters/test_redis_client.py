from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import SSLConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection

from workers.adapters.redis_client import Host, make_pool, read_address
from workers.errors import SettingsError
from workers.settings import RedisSettings

SENTINEL = {"topology": "sentinel", "sentinel_service": "verdicts"}


def settings_of(url: str, **changes: Any) -> RedisSettings:
    return RedisSettings(url=SecretStr(url), **changes)


@pytest.mark.parametrize(
    ("url", "changes", "hosts"),
    [
        ("redis://cache", {}, [Host("cache", 6379)]),
        ("redis://u:p,w@cache:7000/2", {}, [Host("cache", 7000)]),
        ("redis://a:7000,b,[::1]:7002", {"topology": "cluster"}, [("a", 7000), ("b", 6379), ("::1", 7002)]),
        ("rediss://a,b:1/3", SENTINEL, [("a", 26379), ("b", 1)]),
    ],
)
def test_hosts_stand_with_commas_between(
    url: str, changes: dict[str, Any], hosts: list[tuple[str, int]]
) -> None:
    assert list(read_address(settings_of(url, **changes)).hosts) == hosts


def test_credentials_database_and_options_are_those_of_every_connection() -> None:
    url = "rediss://user:p%40ss@a,b/3?ssl_ca_certs=/ca.pem&client_name=x"
    assert read_address(settings_of(url, **SENTINEL)).options == {
        "username": "user",
        "password": "p@ss",
        "db": 3,
        "ssl_ca_certs": "/ca.pem",
        "client_name": "x",
    }


@pytest.mark.parametrize(
    ("url", "changes", "sentence"),
    [
        ("redis://a,b", {}, "expected one host"),
        ("redis://a,,b", {"topology": "cluster"}, "expected redis://"),
        ("redis://a,b:x", {"topology": "cluster"}, "expected redis://"),
        ("redis://a/1", {"topology": "cluster"}, "expected database 0"),
        ("unix:///run/secret", {"topology": "cluster"}, "expected redis:// or rediss://"),
        ("unix:///run/secret", SENTINEL, "expected redis:// or rediss://"),
        ("http://a,secret", SENTINEL, "expected redis://"),
    ],
)
def test_what_does_not_fit_is_one_sentence(url: str, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=f"^RSAFE_REDIS__URL: {sentence}") as refused:
        read_address(settings_of(url, **changes))
    assert "secret" not in str(refused.value)


async def test_tls_goes_to_every_server_whatever_the_topology() -> None:
    url = "rediss://user:word@a:1?ssl_ca_certs=/ca.pem"
    for changes, host in (({}, None), ({"topology": "cluster"}, Host("b", 2))):
        settings = settings_of(url, **changes)
        pool = make_pool(settings, read_address(settings), host)
        assert pool.connection_class is SSLConnection
        assert pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"
        assert pool.connection_kwargs["password"] == "word"
        assert (pool.connection_kwargs["host"], pool.connection_kwargs["port"]) == (host or Host("a", 1))


async def test_sentinels_have_credentials_of_their_own() -> None:
    settings = settings_of(
        "rediss://user:word@a:1?ssl_ca_certs=/ca.pem",
        **SENTINEL,
        sentinel_username="watcher",
        sentinel_password=SecretStr("other"),
    )
    pool = make_pool(settings, read_address(settings))
    assert pool.connection_class is SentinelManagedSSLConnection
    assert pool.connection_kwargs["password"] == "word"
    (sentinel,) = pool.sentinel_manager.sentinels
    asked = sentinel.connection_pool.connection_kwargs
    assert (asked["username"], asked["password"], asked["ssl_ca_certs"]) == ("watcher", "other", "/ca.pem")
    assert sentinel.connection_pool.connection_class is SSLConnection
    await pool.aclose()
