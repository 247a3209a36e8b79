"""`rsafe policy publish|retire|history|diff`: policies on their topic."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec
import yaml

from schemas.policy import Policy, canonical_categories
from schemas.policy_change import PolicyChange
from workers.commands.policy_examples import run_examples
from workers.errors import UsageError
from workers.policies import find_policies
from workers.published_policies import (
    Entry,
    effect_on_cache,
    new_change,
    read_published,
    same,
    write_changes,
)
from workers.settings import Settings, load_settings
from workers.terminal import harmless

# Beside the codes of `workers.errors`: `diff` found a difference, or an example failed.
EXIT_OTHERWISE: Final = 1

_by = click.option("--by", "changed_by", required=True, help="Who changes it, as the record is to say.")
_why = click.option("--why", required=True, help="Why, as the record is to say.")
_tenant = click.option("--tenant", help="The tenant whose policy it is; else everybody's.")
_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.command()
@click.argument("path", type=click.Path())
@_by
@_why
@click.option(
    "--test", "tested", is_flag=True, help="Judge the policies' examples first; refuse on a failure."
)
@click.option("--dry-run", is_flag=True, help="Check and show; publish nothing.")
def publish(path: str, changed_by: str, why: str, tested: bool, dry_run: bool) -> None:
    """Publish the policies of a file or folder to RSAFE_KAFKA__POLICIES_TOPIC.

    Workers with RSAFE_POLICIES__SOURCE=topic judge by them within two seconds. A version that was published
    with other content is refused, and so is a second policy of a tenant; then nothing is published. What is
    in force as it is needs no change and gets none.
    """
    settings = load_settings()
    found = [entry.policy for entry in find_policies(path, "PATH")]
    changes, lines = _changes(settings, found, changed_by, why, dry_run=dry_run)
    if tested:
        if not run_examples(settings, found):
            raise UsageError("an example failed; nothing is published")
        # Which takes minutes: somebody else may have published meanwhile.
        changes, lines = _changes(settings, found, changed_by, why, dry_run=dry_run)
    if changes and not dry_run:
        write_changes(changes, settings)
    for line in lines:
        click.echo(harmless(line))


def _changes(
    settings: Settings, found: Sequence[Policy], changed_by: str, why: str, *, dry_run: bool
) -> tuple[list[PolicyChange], list[str]]:
    """What publishing them writes after what the topic holds now, and says. Raises `UsageError`."""
    published, now = read_published(settings), datetime.now(UTC)
    changes: list[PolicyChange] = []
    lines: list[str] = []
    for policy in found:
        name = _named(policy.tenant, policy.id)
        before = published.state.get(policy.tenant, policy.id)
        if why_not := published.refuse(policy):
            raise UsageError(f"{name} {policy.version}: {why_not}")
        if before is not None and same(before.policy, policy):
            lines.append(f"{name} {policy.version}: in force already")
            continue
        change = new_change("published", policy, changed_by=changed_by, why=why, now=now)
        changes.append(change)
        lines += [
            f"{name} {policy.version}: {'would be ' if dry_run else ''}published",
            f"  policy_hash    {change.policy_hash}",
            f"  judgement_hash {change.judgement_hash}",
            f"  cache          {effect_on_cache(before, policy)}",
        ]
    return changes, lines


@click.command()
@click.argument("policy_id", metavar="ID")
@_tenant
@_by
@_why
def retire(policy_id: str, tenant: str | None, changed_by: str, why: str) -> None:
    """Take a policy out of force; its history stays.

    Events that name it are then treated as RSAFE_POLICIES__UNKNOWN says. The policy of
    RSAFE_POLICIES__DEFAULT is refused.
    """
    settings = load_settings()
    name = _named(tenant, policy_id)
    if tenant is None and policy_id == settings.policies.default:
        raise UsageError(f"{name}: RSAFE_POLICIES__DEFAULT names it; set another one, or none, first")
    standing = read_published(settings).state.get(tenant, policy_id)
    if standing is None:
        raise UsageError(f"{name}: not in force; `rsafe policy list --published` shows what is")
    change = new_change("retired", standing.policy, changed_by=changed_by, why=why, now=datetime.now(UTC))
    write_changes([change], settings)
    click.echo(harmless(f"{name} {change.version}: retired"))


@click.command()
@click.argument("policy_id", metavar="ID")
@_tenant
@_as_json
def history(policy_id: str, tenant: str | None, as_json: bool) -> None:
    """Show every change of a policy that the topic still has, oldest first: what, who, when and why.

    Changes are kept for 90 days at least; then the newest one of each policy is.
    """
    entries = read_published(load_settings()).history(tenant, policy_id)
    if not entries:
        raise UsageError(f"{_named(tenant, policy_id)}: the topic has no record of it")
    if as_json:
        rows = [_row(entry) for entry in entries]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    for entry in entries:
        click.echo(harmless(" ".join(_words(entry))))


@click.command()
@click.argument("path", type=click.Path())
def diff(path: str) -> None:
    """Show what publishing the policies of a file or folder would change.

    Exits with 0 when nothing, and with 1 when something.
    """
    published = read_published(load_settings())
    otherwise = False
    for policy in (entry.policy for entry in find_policies(path, "PATH")):
        name = _named(policy.tenant, policy.id)
        before = published.state.get(policy.tenant, policy.id)
        if before is not None and same(before.policy, policy):
            click.echo(harmless(f"{name} {policy.version}: the same"))
            continue
        otherwise = True
        old = _text(before.policy) if before is not None else []
        told = f"version {before.policy.version}" if before is not None else "not in force"
        for line in difflib.unified_diff(old, _text(policy), f"{name} ({told})", path, lineterm=""):
            click.echo(harmless(line))
        click.echo(f"cache: {effect_on_cache(before, policy)}")
    if otherwise:
        raise click.exceptions.Exit(EXIT_OTHERWISE)


@click.command()
@click.argument("path", type=click.Path())
@_as_json
def test(path: str, as_json: bool) -> None:
    """Judge the examples of the policies of a file or folder with the guard of the settings.

    An example passes when what the policy makes of the verdict is what it expects: allowed for `safe`, not
    allowed for `unsafe`, with every code that it names. Texts are not shown. Exits with 1 when one fails.
    """
    settings = load_settings()
    found = [entry.policy for entry in find_policies(path, "PATH")]
    if not run_examples(settings, found, as_json=as_json):
        raise click.exceptions.Exit(EXIT_OTHERWISE)


def listed(settings: Settings, as_json: bool) -> None:
    """What is in force on the topic."""
    standing = read_published(settings).state.standing()
    if as_json:
        rows = [
            {**_change(one.change), "title": one.policy.title, "mode": one.policy.mode} for one in standing
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    for one in standing:
        change = one.change
        click.echo(
            harmless(
                f"{_named(change.tenant, change.policy_id)} {change.version}, "
                f"{change.changed_at:%Y-%m-%d %H:%M} by {change.changed_by}: {change.why}"
            )
        )


def in_force(settings: Settings, policy_id: str, tenant: str | None) -> Policy:
    """A policy in force on the topic. Raises `UsageError`."""
    standing = read_published(settings).state.get(tenant, policy_id)
    if standing is None:
        raise UsageError(f"{_named(tenant, policy_id)}: not in force on {settings.kafka.policies_topic}")
    return standing.policy


def _named(tenant: str | None, policy_id: str) -> str:
    return policy_id if tenant is None else f"{policy_id} of tenant {tenant}"


def _text(policy: Policy) -> list[str]:
    content = msgspec.to_builtins(msgspec.structs.replace(policy, categories=canonical_categories(policy)))
    return list(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100).splitlines())


def _change(change: Any) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.to_builtins(change)
    del content["policy"]
    return content


def _row(entry: Entry) -> dict[str, Any]:
    place = {"partition": entry.record.partition, "offset": entry.record.offset}
    if entry.change is not None:
        return {**place, **_change(entry.change)}
    if entry.refused is not None:
        return {**place, "change": "refused", "field": entry.refused.field, "why": entry.refused.sentence}
    return {**place, "change": "tombstone"}


def _words(entry: Entry) -> Iterator[str]:
    change = entry.change
    if change is not None:
        yield f"{change.changed_at:%Y-%m-%d %H:%M:%S} {change.change} {change.version}"
        yield f"by {change.changed_by}: {change.why}"
        yield f"(policy {change.policy_hash[:12]}, judgement {change.judgement_hash[:12]})"
        return
    moment = datetime.fromtimestamp(entry.record.timestamp_ms / 1000, UTC)
    yield f"{moment:%Y-%m-%d %H:%M:%S}"
    if entry.refused is not None:
        yield f"refused: {entry.refused.field}: {entry.refused.sentence}"
    else:
        yield "removed by a tombstone, which says neither who nor why"
