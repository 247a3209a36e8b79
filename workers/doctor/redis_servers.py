"""The shared verdict cache: whether it answers, remembers, and what it does when it is full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from workers.doctor.facts import RedisFacts, RedisServerFacts
from workers.doctor.findings import Finding, not_checked, ok, problem, warning

_MIB: Final = 2**20
# Above this share a server that evicts nothing is about to refuse verdicts.
_FULL: Final = 0.9


def redis_findings(facts: RedisFacts) -> Iterator[Finding]:
    """One line for the servers together, and lines for what is amiss at each."""
    found, silent = len(facts.servers), facts.silent
    if silent:
        yield problem(
            "redis",
            f"{silent} of {found + silent} servers do not answer",
            "bring them back; until then their verdicts are asked anew (a worker starts all the same)",
        )
    for name in sorted(set(facts.errors)):
        if name == "ReadOnlyError":
            yield warning(
                "redis", "a server is read-only: it remembers nothing", "name the master in RSAFE_REDIS__URL"
            )
        elif name == "OutOfMemoryError":
            yield warning(
                "redis", "a server is full: it remembers nothing new", "set maxmemory-policy allkeys-lru"
            )
        elif not silent:
            yield warning("redis", f"a server answered with {name}", "look at its log")
    if found:
        yield ok(
            "redis",
            f"{found} {'server' if found == 1 else 'servers'}, and this user may do what a worker does",
        )
    for server in facts.servers:
        yield from _server(server)


def _server(server: RedisServerFacts) -> Iterator[Finding]:
    if server.limit_bytes is None or server.when_full is None:
        yield not_checked(
            "redis",
            f"{server.name}: memory and eviction, since this user may not run INFO (a worker needs it not)",
            "grant +info to see them, or run `rsafe cache stats` as another user",
        )
        return
    used = (server.used_bytes or 0) / _MIB
    if server.limit_bytes == 0:
        yield warning(
            "redis",
            f"{server.name}: it has no maxmemory and may fill its machine ({used:,.0f} MiB in use)",
            "set maxmemory, and maxmemory-policy allkeys-lru",
        )
        return
    limit = server.limit_bytes / _MIB
    state = (
        f"{server.name}: Redis {server.version or '?'}, {used:,.0f} of {limit:,.0f} MiB, {server.when_full}"
    )
    if server.when_full != "noeviction":
        yield ok("redis", state)
        return
    full = used > _FULL * limit
    yield warning(
        "redis",
        f"{state}: {'nearly full' if full else 'when it is full'}, it refuses new verdicts",
        "set maxmemory-policy allkeys-lru",
    )
