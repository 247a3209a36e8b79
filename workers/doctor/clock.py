"""This machine's clock beside the brokers' and Redis's.

A worker learns the brokers' time from its own records, so a wrong clock is a warning: decisions do not depend
on it, while logs, metrics and certificates do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from workers.doctor.facts import KafkaFacts, RedisFacts
from workers.doctor.findings import Finding, not_checked, ok, warning

# Clocks that are kept by NTP part by milliseconds; beyond this one of them is not kept.
APART_MS: Final = 2_000.0
_MEND: Final = "set the clock by NTP here and there"


def clock_findings(kafka: KafkaFacts | None, redis: RedisFacts | None) -> Iterator[Finding]:
    """A line for each clock that this one can be compared with."""
    found = [*_of_kafka(kafka), *_of_redis(redis)]
    yield from found
    if not found:
        yield not_checked("clock", "no broker and no Redis has told the time")


def _of_kafka(facts: KafkaFacts | None) -> Iterator[Finding]:
    if facts is None or facts.ahead_ms is None:
        return
    if facts.ahead_ms > APART_MS:
        ahead = f"{facts.ahead_ms / 1000:,.1f} s"
        yield warning("clock", f"a record was stamped by a broker {ahead} ahead of this clock", _MEND)
    else:
        yield ok("clock", "no record was stamped by a broker ahead of this clock")


def _of_redis(facts: RedisFacts | None) -> Iterator[Finding]:
    for server in () if facts is None else facts.servers:
        if server.clock_off_ms is None:
            continue
        apart = f"{abs(server.clock_off_ms) / 1000:,.1f} s"
        if abs(server.clock_off_ms) + server.clock_unsure_ms <= APART_MS:
            yield ok("clock", f"{server.name} and this clock are {apart} apart")
        elif abs(server.clock_off_ms) - server.clock_unsure_ms > APART_MS:
            side = "ahead of" if server.clock_off_ms > 0 else "behind"
            yield warning("clock", f"{server.name} is {apart} {side} this clock", _MEND)
        else:
            unsure = f"{server.clock_unsure_ms / 1000:,.1f} s"
            yield not_checked("clock", f"{server.name}: {apart} apart, give or take {unsure}: a slow answer")
