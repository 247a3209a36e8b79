"""What brokers, Redis servers and vLLM servers say of themselves, as plain values.

The adapters fill these; the checks only read them, so that every rule can be tried without a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """One topic. With `trouble` nothing else is known."""

    trouble: str = ""
    """`absent`, `forbidden`, or the name of the broker's error; empty: it was described."""
    partitions: int = 0
    copies: int = 0
    """Fewest replicas of a partition."""
    without_leader: int = 0
    """Partitions that nobody can read or write now."""
    behind: int = 0
    """Partitions of which a copy is not in sync."""
    operations: frozenset[str] | None = None
    """What this user may do, as `kafka-acls` spells it; None: the broker does not say."""
    config: Mapping[str, str] | None = None
    """None: this user may not ask."""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """The worker's group. Absent until a first worker has joined."""

    trouble: str = ""
    """`forbidden`, or the name of the broker's error."""
    members: int = 0
    protocol: Literal["classic", "consumer", ""] = ""
    operations: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class KafkaFacts:
    """What the brokers said, all of it within `kafka.start_timeout_s`."""

    brokers: int
    cluster_id: str
    topics: Mapping[str, TopicFacts]
    group: GroupFacts
    ahead_ms: float | None = None
    """By how much the newest record of a topic with the broker's clock is later than this clock; negative:
    earlier, which says nothing. None: no such record."""
    transactions: str | None = None
    """Why a transaction cannot be had; empty: it can; None: not tried."""


@dataclass(frozen=True, slots=True)
class RedisServerFacts:
    """One server. None: this user may not ask."""

    name: str
    version: str | None = None
    used_bytes: int | None = None
    limit_bytes: int | None = None
    """0: no limit."""
    when_full: str | None = None
    """Its `maxmemory-policy`."""
    clock_off_ms: float | None = None
    """Its clock less this one, as of the middle of the round trip."""
    clock_unsure_ms: float = 0.0
    """By how much that may be wrong either way: half the round trip."""


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """The servers that answered, and what the others said. Refusals are errors and not facts."""

    servers: tuple[RedisServerFacts, ...]
    silent: int = 0
    errors: tuple[str, ...] = field(default=())
    """Names of errors that waiting may mend, such as `ReadOnlyError`."""
