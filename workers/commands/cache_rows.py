"""What `rsafe cache` shows, as lines and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.event import Event
from workers.adapters.redis_entries import Memory
from workers.moderation.normalise_event import as_read
from workers.moderation.outcome import ChosenPolicy
from workers.moderation.recall_verdict import masked, read_key
from workers.ports import CachedVerdict


def report(
    event: Event, chosen: ChosenPolicy, key: str, remembered: CachedVerdict | None, left_s: int | None
) -> dict[str, Any]:
    """What is told of an event's entry; no word of the message is in it."""
    segments = read_key(key)
    assert segments is not None
    row: dict[str, Any] = {
        "key": key,
        "policy": chosen.used.id,
        "policy_version": chosen.used.version,
        "judgement_hash": segments.judgement_hash,
        "weights_digest": segments.weights_digest,
        "mode": chosen.policy.mode,
        "role": segments.role,
        "judged": event.message.role in chosen.surfaces,
        "remembered": remembered is not None,
    }
    if remembered is not None:
        verdict = msgspec.structs.replace(
            remembered.verdict, rationale=masked(event, as_read(event), remembered.verdict.rationale)
        )
        row |= {
            "verdict": msgspec.to_builtins(verdict),
            "origin_decision": remembered.origin_decision,
            "kept_at": datetime.fromtimestamp(remembered.kept_at_ms / 1000, UTC).isoformat("T", "seconds"),
            "expires_in_s": left_s,
            "model": remembered.model,
            "checkpoint_digest": remembered.checkpoint_digest,
            "verified": remembered.verified,
            "engine_version": remembered.engine_version,
        }
    return row


def lines(row: Mapping[str, Any]) -> Iterator[str]:
    """The same for people."""
    verdict = row.get("verdict")
    for name, value in row.items():
        if name != "verdict":
            yield f"{name.replace('_', ' ')}: {_word(value)}"
    if verdict is not None:
        for name in ("label", "score", "codes", "rationale"):
            yield f"{name}: {_word(verdict[name])}"


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)


def stats_lines(
    found: Mapping[tuple[str, str], list[int]], names: Mapping[str, list[str]], memory: Iterable[Memory]
) -> Iterator[str]:
    """Entries and bytes by judgement hash and weights digest, and what the servers say of themselves.

    `names`: of the policies that are loaded, by judgement hash.
    """
    entries, size = (sum(counts[number] for counts in found.values()) for number in range(2))
    yield f"verdicts: {entries} entries, {_bytes(size)}"
    for (judgement, weights), (count, taken) in sorted(found.items(), key=lambda item: -item[1][1]):
        if not judgement:
            yield f"keys of another form: {count} entries, {_bytes(taken)}"
            continue
        policies = ", ".join(names.get(judgement, ())) or "no loaded policy"
        yield f"{policies}: {count} entries, {_bytes(taken)}"
        yield f"  judgement hash {judgement}"
        yield f"  weights digest {weights}"
    for server in memory:
        full = f" of {_bytes(server.limit_bytes)}" if server.limit_bytes else ""
        yield (
            f"{server.server}: {_bytes(server.used_bytes)} used{full}, {server.when_full or '?'} when full; "
            f"{_count(server.hits)} hits, {_count(server.misses)} misses, {_count(server.evicted)} evicted"
        )


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)


def _bytes(number: int | None) -> str:
    if number is None:
        return "?"
    size, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}" if unit != "B" else f"{number} B"
