"""Builds connections to Redis from the settings, for one server, a cluster and sentinels alike.

Credentials and certificates go to every server, whichever the topology; sentinels get the certificates, and
credentials of their own. Commands are packed by `workers.adapters.redis_server`; here connections are made
and nothing is sent.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from workers.adapters.redis_address import Host, RedisAddress
from workers.adapters.redis_security import RefusedBySentinel
from workers.settings import RedisSettings


def make_pool(settings: RedisSettings, address: RedisAddress, host: Host | None = None) -> Any:
    """A pool of connections to one server, none made yet; None: the one that the URL names, or the master.

    `address` as `secured_address` gives it.
    """
    options = {**address.options, **_limits(settings), "max_connections": settings.max_connections}
    tls = address.scheme == "rediss"
    if address.scheme == "unix":
        return ConnectionPool(connection_class=UnixDomainSocketConnection, **options)
    if host is None and settings.topology == "sentinel":
        managed: Any = _MasterPool
        asked: Any = _Sentinels
        sentinels = asked(address.hosts, sentinel_kwargs=_of_sentinels(settings, address))
        connections = SentinelManagedSSLConnection if tls else SentinelManagedConnection
        return managed(settings.sentinel_service, sentinels, connection_class=connections, **options)
    host = host or address.hosts[0]
    return ConnectionPool(
        connection_class=SSLConnection if tls else Connection, host=host.name, port=host.port, **options
    )


def _limits(settings: RedisSettings) -> dict[str, Any]:
    return {
        # One round trip is bounded as a whole, connection included; a limit for each answer would be another.
        "socket_timeout": None,
        "socket_connect_timeout": settings.timeout_ms / 1000,
        "retry": Retry(NoBackoff(), 0),  # the breaker decides when to try again
        "protocol": 2,
        # No `CLIENT SETINFO`: it names the library to the server, and a limited user may not run it.
        "driver_info": None,
    }


def _of_sentinels(settings: RedisSettings, address: RedisAddress) -> dict[str, Any]:
    tls = {name: value for name, value in address.options.items() if name.startswith("ssl_")}
    return {
        **_limits(settings),
        "socket_timeout": settings.timeout_ms / 1000,  # of each sentinel: the next one is asked then
        "username": settings.sentinel_username or None,
        "password": settings.sentinel_password.get_secret_value() or None,
        **({"ssl": True, **tls} if address.scheme == "rediss" else {}),
    }


class _Sentinels(Sentinel):
    """Looks for the master in a task of its own.

    A batch that gives up meanwhile does not end the search, or a sentinel that hangs would hide the others.
    """

    _search: asyncio.Task[Any] | None = None

    async def discover_master(self, service_name: str) -> Any:
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._find(service_name))
            self._search.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._search)

    async def _find(self, service_name: str) -> Any:
        try:
            return await super().discover_master(service_name)
        except MasterNotFoundError:
            # Which does not say that they refuse the password.
            pings = await asyncio.gather(*(one.ping() for one in self.sentinels), return_exceptions=True)
            for answer in pings:
                if isinstance(answer, AuthenticationError):
                    raise RefusedBySentinel(str(answer)) from answer
            raise

    async def aclose(self) -> None:
        if self._search is not None:
            self._search.cancel()
            await asyncio.gather(self._search, return_exceptions=True)
        await super().aclose()


class _MasterPool(SentinelConnectionPool):
    """Connections to whatever server is the master when they are made."""

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            await self.sentinel_manager.aclose()
