"""What the URL of Redis says: the one place where it is taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio.connection import parse_url

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
    """Where Redis is. `options`: of every connection to a server, database and credentials included."""

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
