"""Faults of Redis: each must be a miss, and nothing else."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any, Final

import redis

from tests.acceptance.faults import server_faults
from tests.acceptance.faults.server_faults import MOMENT_S, Fault
from tests.acceptance.faults.site import Site
from workers.adapters.embedded_server import ServerProcess

# Long enough for the circuit breaker to open (3 failures) and to try again (5 s).
_TROUBLE_S: Final = (4.0, 8.0)
_SHORTEST_FREEZE_S: Final = 6.0
_TIMEOUT_S: Final = 10.0
_PASSWORD: Final = "another-one"
_TTL_MS: Final = 60_000


def _redis(site: Site) -> ServerProcess:
    return site.stack.redis


def _trouble_s(site: Site, rng: random.Random) -> float:
    least, most = _TROUBLE_S
    return least if site.short else rng.uniform(least, most)


killed: Final = server_faults.killed(_redis, _trouble_s)
"""SIGKILL, and some seconds later another one on the same port, empty."""


def frozen(freeze_s: float) -> Fault:
    """SIGSTOP for so long."""
    return server_faults.frozen(_redis, freeze_s, _SHORTEST_FREEZE_S)


def out_of_memory(site: Site, rng: random.Random) -> None:
    """Every write is refused for some seconds."""
    time.sleep(rng.uniform(*MOMENT_S))
    client = _client(site)
    before = {name: client.config_get(name)[name] for name in ("maxmemory", "maxmemory-policy")}
    site.begins()
    try:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        _assert_refused(client)
        time.sleep(_trouble_s(site, rng))
    finally:
        for name, value in before.items():
            client.config_set(name, value)
        client.close()
    site.ends()


def flushed(site: Site, rng: random.Random) -> None:
    """FLUSHALL, three times."""
    with _client(site) as client:
        for number in range(3):
            time.sleep(rng.uniform(*MOMENT_S))
            if not number:
                site.begins()
            client.flushall()
    site.ends()


def password_changed(site: Site, rng: random.Random) -> None:
    """Redis asks for a password that the worker does not have, for some seconds; connections are cut."""
    time.sleep(rng.uniform(*MOMENT_S))
    client = _client(site)
    site.begins()
    try:
        client.config_set("requirepass", _PASSWORD)
        client.execute_command("AUTH", _PASSWORD)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(_trouble_s(site, rng))
    finally:
        client.config_set("requirepass", "")
        client.close()
    site.ends()


def garbage(site: Site, rng: random.Random) -> None:
    """Under every key that is there, what no worker of this version wrote; several times over."""
    with _client(site, single=False) as client:
        site.begins()
        for _ in range(3):
            time.sleep(rng.uniform(*MOMENT_S))
            for key, make in zip(list(client.scan_iter(count=500)), itertools.cycle(_SPOILERS), strict=False):
                make(client, key, rng)
    site.ends()


def _noise(client: Any, key: bytes, rng: random.Random) -> None:
    client.set(key, rng.randbytes(rng.randrange(300)), px=_TTL_MS)


def _noise_of_our_format(client: Any, key: bytes, rng: random.Random) -> None:
    client.set(key, b"\x01" + rng.randbytes(rng.randrange(300)), px=_TTL_MS)


def _of_another_version(client: Any, key: bytes, rng: random.Random) -> None:
    try:
        value = client.get(key)
    except redis.ResponseError:  # a list of an earlier round
        value = None
    client.set(key, bytes([rng.randrange(2, 256)]) + (value or b"\x01")[1:], px=_TTL_MS)


def _cut_off(client: Any, key: bytes, rng: random.Random) -> None:
    try:
        value = client.get(key) or b""
    except redis.ResponseError:
        value = b"\x01"
    client.set(key, value[: rng.randrange(len(value) + 1)], px=_TTL_MS)


def _of_another_type(client: Any, key: bytes, rng: random.Random) -> None:
    client.delete(key)
    client.rpush(key, b"not a verdict")
    client.pexpire(key, _TTL_MS)


def _huge(client: Any, key: bytes, rng: random.Random) -> None:
    client.set(key, b"\x01" + b"\x91" * 1_000_000, px=_TTL_MS)


_SPOILERS: Final = (_noise, _noise_of_our_format, _of_another_version, _cut_off, _of_another_type, _huge)


def _client(site: Site, *, single: bool = True) -> Any:
    return redis.Redis.from_url(
        site.stack.addresses.redis_url, single_connection_client=single, socket_timeout=_TIMEOUT_S
    )


def _assert_refused(client: Any) -> None:
    try:
        client.set("fault-probe", "x")
    except redis.ResponseError:
        return
    raise AssertionError("Redis took a write with no memory left")
