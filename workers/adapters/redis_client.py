"""Builds the client of Redis from the settings: address, connections, how they are packed."""

from __future__ import annotations

from typing import Any

import hiredis
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from workers.errors import SettingsError
from workers.settings import RedisSettings


class PackedInC:
    """Packs commands with hiredis: redis-py's asyncio connections do it in Python even so."""

    def pack_command(self, *args: Any) -> list[bytes]:
        name = args[0] if isinstance(args[0], bytes) else str(args[0]).encode()
        return [hiredis.pack_command((*name.split(), *args[1:]))]


class _Tcp(PackedInC, Connection):
    pass


class _Tls(PackedInC, SSLConnection):
    pass


class _Unix(PackedInC, UnixDomainSocketConnection):
    pass


def make_client(settings: RedisSettings) -> Any:
    """The asyncio client that the settings describe, not connected. Raises `SettingsError`."""
    url = settings.url.get_secret_value()
    kinds = {"redis": _Tcp, "rediss": _Tls, "unix": _Unix}
    try:
        pool = ConnectionPool.from_url(
            url,
            max_connections=settings.max_connections,
            socket_connect_timeout=settings.timeout_ms / 1000,
            retry=Retry(NoBackoff(), 0),  # the breaker decides when to try again
            protocol=2,
        )
    except ValueError as error:
        raise SettingsError(
            "RSAFE_REDIS__URL: expected redis://, rediss:// or unix://, with a host"
        ) from error
    pool.connection_class = kinds[url.partition("://")[0]]
    return Redis.from_pool(pool)  # which closes the pool with the client
