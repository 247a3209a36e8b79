"""Connections to Redis: what each of them is given, whichever the topology."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import SSLConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection

from tests.certificates import Authority
from workers.adapters.redis_address import Host
from workers.adapters.redis_client import make_pool
from workers.adapters.redis_security import secured_address
from workers.settings import RedisSettings

SENTINEL = {"topology": "sentinel", "sentinel_service": "verdicts"}
TOPOLOGIES: list[tuple[dict[str, Any], Host | None]] = [
    ({}, None),
    ({"topology": "cluster"}, Host("b", 2)),
    (SENTINEL, None),
]


def settings_of(url: str, **changes: Any) -> RedisSettings:
    return RedisSettings(url=SecretStr(url), **changes)


async def test_tls_goes_to_every_server_whatever_the_topology() -> None:
    url = "rediss://user:word@a:1?ssl_ca_certs=/ca.pem"
    for changes, host in (({}, None), ({"topology": "cluster"}, Host("b", 2))):
        settings = settings_of(url, **changes)
        pool = make_pool(settings, secured_address(settings), host)
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
    pool = make_pool(settings, secured_address(settings))
    assert pool.connection_class is SentinelManagedSSLConnection
    assert pool.connection_kwargs["password"] == "word"
    (sentinel,) = pool.sentinel_manager.sentinels
    asked = sentinel.connection_pool.connection_kwargs
    assert (asked["username"], asked["password"], asked["ssl_ca_certs"]) == ("watcher", "other", "/ca.pem")
    assert sentinel.connection_pool.connection_class is SSLConnection
    await pool.aclose()


@pytest.mark.parametrize(("topology", "host"), TOPOLOGIES)
async def test_user_password_and_certificates_of_the_settings_go_to_every_server(
    tmp_path: Path, topology: dict[str, Any], host: Host | None
) -> None:
    authority = Authority(tmp_path, "a")
    mine = authority.issue("me")
    settings = settings_of(
        "rediss://a:1",
        username="me",
        password=SecretStr("word"),
        ssl_ca_location=str(authority.file),
        ssl_certificate_location=str(mine.certificate),
        ssl_key_location=str(mine.key),
        **topology,
    )
    pool = make_pool(settings, secured_address(settings), host)
    files = {
        "ssl_ca_certs": str(authority.file),
        "ssl_certfile": str(mine.certificate),
        "ssl_keyfile": str(mine.key),
        "ssl_password": "",
    }
    assert pool.connection_kwargs.items() >= (files | {"username": "me", "password": "word"}).items()
    if topology is SENTINEL:
        # Their user is another one, here none.
        (sentinel,) = pool.sentinel_manager.sentinels
        asked = sentinel.connection_pool.connection_kwargs
        assert asked.items() >= (files | {"username": None, "password": None}).items()
    await pool.aclose()


@pytest.mark.parametrize(("topology", "host"), TOPOLOGIES)
async def test_no_connection_names_the_library_to_the_server(
    topology: dict[str, Any], host: Host | None
) -> None:
    settings = settings_of("redis://a:1", **topology)
    pool = make_pool(settings, secured_address(settings), host)
    made = [pool.make_connection()]
    if topology is SENTINEL:
        made += [one.connection_pool.make_connection() for one in pool.sentinel_manager.sentinels]
    assert [connection.driver_info for connection in made] == [None] * len(made)
    await pool.aclose()
