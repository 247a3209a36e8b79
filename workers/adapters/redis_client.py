"""Builds connections to Redis from the settings, for one server, a cluster and sentinels alike.

Credentials and TLS stand in the URL and go to every server, whichever the topology. Commands are packed by
`workers.adapters.redis_server`; here connections are made and nothing is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import parse_url
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

from workers.errors import SettingsError
from workers.settings import RedisSettings

REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_MALFORMED: Final = "RSAFE_REDIS__URL: expected redis://, rediss:// or unix://, with a host"


class Host(NamedTuple):
    """Where a server listens."""

    name: str
    port: int


class RedisAddress(NamedTuple):
    """What the URL says. `options`: of every connection, credentials and TLS included."""

    scheme: str
    hosts: tuple[Host, ...]
    options: Mapping[str, Any]


def read_address(settings: RedisSettings) -> RedisAddress:
    """The URL, taken apart. Raises `SettingsError`, which does not repeat it."""
    url, topology = settings.url.get_secret_value(), settings.topology
    try:
        parts = urlsplit(url)
        user, at, places = parts.netloc.rpartition("@")
        port = SENTINEL_PORT if topology == "sentinel" else REDIS_PORT
        hosts, options = list[Host](), dict[str, Any]()
        for place in places.split(","):
            if "," in places and not place.strip():
                raise ValueError("a host is empty")  # noqa: TRY301 - told in the one sentence below
            options = dict(parse_url(parts._replace(netloc=f"{user}{at}{place}").geturl()))
            host = Host(options.pop("host", "localhost"), options.pop("port", port))
            hosts.append(host)
    except ValueError as error:
        raise SettingsError(_MALFORMED) from error
    options.pop("connection_class", None)
    if topology != "standalone" and parts.scheme == "unix":
        raise SettingsError(
            f"RSAFE_REDIS__URL: expected redis:// or rediss:// with RSAFE_REDIS__TOPOLOGY={topology}"
        )
    if topology == "standalone" and len(hosts) > 1:
        raise SettingsError("RSAFE_REDIS__URL: expected one host with RSAFE_REDIS__TOPOLOGY=standalone")
    if topology == "cluster" and options.get("db"):
        raise SettingsError("RSAFE_REDIS__URL: expected database 0, the only one of a cluster")
    return RedisAddress(parts.scheme, tuple(hosts), options)


def make_pool(settings: RedisSettings, address: RedisAddress, host: Host | None = None) -> Any:
    """A pool of connections to one server, none made yet; None: the one that the URL names, or the master."""
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
                    raise answer from None
            raise

    async def aclose(self) -> None:
        if self._search is not None:
            self._search.cancel()
            await asyncio.gather(self._search, return_exceptions=True)
        await super().aclose()


class _MasterPool(SentinelConnectionPool):
    """Connections to whatever server is the master when they are made."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()
