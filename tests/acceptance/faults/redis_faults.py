"""Faults of Redis: each must be a miss, and nothing else.

Before each of them the worker is seen to keep verdicts in a Redis that was emptied, and after those that make
Redis fail its count of failures must have grown: a worker that does not use Redis would pass otherwise.
"""

from __future__ import annotations

import itertools
import random
import time
from typing import Any, Final

import redis

from tests.acceptance.faults import own_word, server_faults
from tests.acceptance.faults.server_faults import MOMENT_S, Fault
from tests.acceptance.faults.site import Site
from workers.adapters.embedded_server import ServerProcess

# Long enough for the circuit breaker to open (3 failures) and to try again (5 s).
_TROUBLE_S: Final = (4.0, 8.0)
_SHORTEST_FREEZE_S: Final = 6.0
_TIMEOUT_S: Final = 10.0
_PASSWORD: Final = "another-one"
_TTL_MS: Final = 60_000
# Verdicts that the worker keeps anew in a second or so.
_KEPT: Final = 10
_KEPT_S: Final = 30.0
_ANSWER_S: Final = 10.0


def _redis(site: Site) -> ServerProcess:
    return site.stack.redis


def _trouble_s(site: Site, rng: random.Random) -> float:
    least, most = _TROUBLE_S
    return least if site.short else rng.uniform(least, most)


def failing(fault: Fault) -> Fault:
    """The fault, which the worker must have met: it counts failures."""

    def checked(site: Site, rng: random.Random) -> None:
        with _client(site) as client:
            assert_used(site, client)
        before = failures(site)
        fault(site, rng)
        # A lookup that began in it may end behind it.
        site.until(
            lambda: failures(site) > before,
            timeout_s=_ANSWER_S,
            awaited="failure of its cache that the worker counts",
        )

    return checked


def assert_used(site: Site, client: Any) -> None:
    """Empty Redis and wait for keys, which the worker's are then. Raises AssertionError if none come."""
    client.flushall()
    site.until(
        lambda: client.dbsize() >= _KEPT, timeout_s=_KEPT_S, awaited="verdicts that the worker keeps in Redis"
    )


def failures(site: Site) -> float:
    """The worker's own count."""
    (worker,) = site.workers
    found: list[float] = []

    def told() -> bool:
        site.assert_alive()
        found[:] = own_word.samples(worker, "rsafe_cache_failures_total") or []
        return bool(found)

    site.until(told, timeout_s=_ANSWER_S, awaited="count of the worker's cache failures")
    return sum(found)


killed: Final = failing(server_faults.killed(_redis, _trouble_s))
"""SIGKILL, and some seconds later another one on the same port, empty."""


def frozen(freeze_s: float) -> Fault:
    """SIGSTOP for so long."""
    return failing(server_faults.frozen(_redis, freeze_s, _SHORTEST_FREEZE_S))


def _out_of_memory(site: Site, rng: random.Random) -> None:
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


out_of_memory: Final = failing(_out_of_memory)


def flushed(site: Site, rng: random.Random) -> None:
    """FLUSHALL, three times, each time of what the worker kept since."""
    with _client(site) as client:
        site.begins()
        for _ in range(3):
            assert_used(site, client)
            time.sleep(rng.uniform(*MOMENT_S))
        client.flushall()
    site.ends()


def _password_changed(site: Site, rng: random.Random) -> None:
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


password_changed: Final = failing(_password_changed)


def garbage(site: Site, rng: random.Random) -> None:
    """Under every key that is there, what no worker of this version wrote; several times over."""
    with _client(site, single=False) as client:
        assert_used(site, client)
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
    with client.pipeline() as together:  # the worker may keep a verdict there in between
        together.delete(key).rpush(key, b"not a verdict").pexpire(key, _TTL_MS)
        together.execute()


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
