"""`rsafe cache`: what Redis remembers, the entry of one event, and removing what should not be there."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from guard.calibration import Scales
from guard.checkpoint import Checkpoint
from schemas.event import Event
from schemas.policy import judgement_hash
from workers.adapters.local_cache import SHARED_TTL_S
from workers.adapters.redis_entries import Memory, RedisEntries, redis_entries
from workers.commands.cache_rows import lines, report, stats_lines
from workers.commands.event_file import read_event_file
from workers.errors import UsageError, WorkerError
from workers.judging import content_key, make_judge, stored_checkpoint, stored_scales
from workers.moderation.choose_policy import PolicyBook
from workers.moderation.fingerprint import TenantFingerprints
from workers.moderation.normalise_event import as_read
from workers.moderation.outcome import ChosenPolicy, Rejection
from workers.moderation.recall_verdict import KEY_PREFIX, VerdictKeys, key_pattern, read_key
from workers.policies import PolicySet
from workers.ports import CachedVerdict
from workers.published_policies import loaded_policies
from workers.settings import Settings, load_settings
from workers.terminal import harmless

# How often the progress is written, in seconds.
PROGRESS_S: Final = 1.0
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NEAR: Final = (
    f"running workers remember verdicts themselves for up to {SHARED_TTL_S:.0f} s more, "
    "and keep new ones meanwhile"
)


class EntriesLeft(WorkerError):
    """A server refused to remove some entries."""


@click.group()
def cache() -> None:
    """Look at, and empty, the verdict cache in Redis (RSAFE_REDIS__…)."""


@cache.command()
def stats() -> None:
    """Count entries and bytes by policy and checkpoint, and show the servers' memory.

    Reads every key in steps, which a server hardly notices. The hits and misses of a server are those of all
    its keys since it started; the workers' own counts are in `rsafe_decisions_total`.
    """
    settings = load_settings()
    names = _policies_by_hash(settings)
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])

    async def look(entries: RedisEntries) -> list[Memory]:
        seen = 0
        told = _progress(time.monotonic, lambda: f"{seen} entries looked at")
        async with aclosing(entries.sizes(f"{KEY_PREFIX}:*", told)) as sizes:
            async for key, size in sizes:
                seen += 1
                segments = read_key(key)
                place = ("", "") if segments is None else (segments.judgement_hash, segments.weights_digest)
                found[place][0] += 1
                found[place][1] += size
        return await entries.memory()

    memory = _run(settings, look)
    for line in stats_lines(found, names, memory):
        click.echo(harmless(line))


@cache.command()
@click.argument("file", metavar="EVENT.json", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def get(file: Path, as_json: bool) -> None:
    """Show the key of an event, and what is remembered under it.

    EVENT.json holds one event as it stands on RSAFE_KAFKA__EVENTS_TOPIC. The key is that of the policies, the
    checkpoint and the content key of these settings. Of the message, nothing is shown; a rationale is masked.
    """
    settings = load_settings()
    event = read_event_file(file, settings)
    checkpoint = stored_checkpoint(settings.guard)
    scales = stored_scales(settings.guard, checkpoint)
    chosen = PolicyBook(_policies(settings), scales, checkpoint.profile).choose(event)
    if isinstance(chosen, Rejection):
        raise UsageError(f"{file}: {chosen.field}: {chosen.sentence}")
    key = _key(event, chosen, settings, checkpoint, scales)

    async def look(entries: RedisEntries) -> tuple[CachedVerdict | None, int | None]:
        return await entries.remembered(key)

    remembered, left_s = _run(settings, look)
    row = report(event, chosen, key, remembered, left_s)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(row), indent=2).decode())
        return
    for line in lines(row):
        click.echo(harmless(line))


@cache.command()
@click.option("--policy", "policy_name", help="Id of a loaded policy, or a judgement hash.")
@click.option("--checkpoint", metavar="DIGEST", help="Weights digest, as decisions and `stats` show it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def flush(policy_name: str | None, checkpoint: str | None, yes: bool) -> None:
    """Remove the verdicts of a policy's wording, of a checkpoint, or of both together.

    Works in steps on every server, and can be interrupted and run again. Other policies with the same wording
    share these verdicts. Exits with 1 when a server refused to remove some.
    """
    if policy_name is None and checkpoint is None:
        raise click.UsageError("expected --policy, --checkpoint or both")
    if checkpoint is not None and not _DIGEST.fullmatch(checkpoint):
        raise click.BadParameter("expected 64 hexadecimal digits", param_hint="'--checkpoint'")
    settings = load_settings()
    judgement = None if policy_name is None else _judgement_hash(policy_name, settings)
    pattern = key_pattern(judgement or "*", checkpoint or "*")
    if not yes and not click.confirm(f"Remove {_what(policy_name, checkpoint)} from Redis?"):
        click.echo("nothing was removed")
        return
    removed = refused = 0

    async def remove(entries: RedisEntries) -> None:
        nonlocal removed, refused
        told = _progress(time.monotonic, lambda: f"{removed} removed")
        async with aclosing(entries.remove(pattern, told)) as steps:
            async for step in steps:
                removed += step.removed
                refused += step.refused

    try:
        _run(settings, remove)
    finally:
        click.echo(f"{removed} entries removed")
    click.echo(_NEAR, err=True)
    if refused:
        raise EntriesLeft(f"{refused} entries could not be removed; run it again")


def _run(settings: Settings, work: Callable[[RedisEntries], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        async with redis_entries(settings.redis, time.monotonic) as entries:
            return await work(entries)

    return asyncio.run(run())


def _progress(clock: Callable[[], float], how_far: Callable[[], str]) -> Callable[[], None]:
    """Says on standard error how far it is, about once a second."""
    last = clock()

    def told() -> None:
        nonlocal last
        if clock() - last >= PROGRESS_S:
            last = clock()
            click.echo(f"{how_far()} …", err=True)

    return told


def _policies(settings: Settings) -> PolicySet:
    return loaded_policies(settings)


def _policies_by_hash(settings: Settings) -> dict[str, list[str]]:
    names: dict[str, list[str]] = defaultdict(list)
    for policy in _policies(settings).all:
        names[judgement_hash(policy)].append(policy.id)
    return names


def _judgement_hash(name: str, settings: Settings) -> str:
    by_id = {one: judgement_hash(policy) for one, policy in _policies(settings).by_id.items()}
    if name in by_id:
        return by_id[name]
    if _DIGEST.fullmatch(name):
        return name
    raise UsageError(f"no policy {name!r}; expected a judgement hash or one of {', '.join(sorted(by_id))}")


def _what(policy: str | None, checkpoint: str | None) -> str:
    of = [f"the policy {policy}"] if policy is not None else []
    if checkpoint is not None:
        of.append(f"the weights {checkpoint[:12]}…")
    return f"all verdicts of {' with '.join(of)}"


def _key(
    event: Event, chosen: ChosenPolicy, settings: Settings, checkpoint: Checkpoint, scales: Scales
) -> str:
    secret = content_key(settings.secrets)
    judge = make_judge(settings.guard, checkpoint, scales, secret)
    mode = chosen.policy.mode
    fingerprints = TenantFingerprints(secret)
    own = fingerprints.of(event.tenant)
    keys = VerdictKeys(settings.cache.scope, fingerprints, {mode: judge.used(mode)})
    read = as_read(event)
    return keys.key(read, chosen, own.text(read.message.text), own.context(read.context))
