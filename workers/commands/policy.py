"""`rsafe policy`: check, list, show and hash policies; those of the topic are in `policy_changes`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from schemas.policy import Policy, canonical_categories, judgement_hash, policy_hash
from workers.commands.policy_changes import diff, history, in_force, listed, publish, retire, test
from workers.errors import UsageError
from workers.policies import find_policies
from workers.policy_files import FoundPolicy, PolicyFileError
from workers.settings import load_settings
from workers.terminal import harmless

_as_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
_published = click.option(
    "--published", is_flag=True, help="Those of the topic, whatever RSAFE_POLICIES__SOURCE says."
)
_tenant = click.option("--tenant", help="On the topic: the tenant whose policy it is; else everybody's.")
_path = click.option("--path", help="File or folder instead of RSAFE_POLICIES__PATH.")


@click.group()
def policy() -> None:
    """Check, show, hash and publish policies."""


for _command in (publish, retire, history, diff, test):
    policy.add_command(_command)


@policy.command()
@click.argument("path", type=click.Path())
@_as_json
def check(path: str, as_json: bool) -> None:
    """Check the policies of a file or folder.

    Prints the first problem of each policy, with file, line and field; exits with 2 when there is one.
    """
    try:
        found = find_policies(path, "PATH")
    except PolicyFileError as error:
        if as_json:
            click.echo(_dump({"ok": False, "problems": [_problem(one) for one in error.problems]}))
            raise click.exceptions.Exit(error.exit_code) from error
        raise
    if as_json:
        click.echo(_dump({"ok": True, "policies": [_summary(entry) for entry in found]}))
        return
    for entry in found:
        one = entry.policy
        click.echo(harmless(f"{one.id} {one.version}: {len(one.categories)} categories, good"))


@policy.command(name="list")
@_path
@_published
@_as_json
def list_(path: str | None, published: bool, as_json: bool) -> None:
    """List the policies that a worker would load."""
    if _on_topic(path, published):
        listed(load_settings(), as_json)
        return
    found = _loaded(path)
    if as_json:
        click.echo(_dump([_summary(entry) for entry in found]))
        return
    width = max(len(entry.policy.id) for entry in found)
    for entry in found:
        one = entry.policy
        tenant = f", tenant {one.tenant}" if one.tenant is not None else ""
        about = f"{one.title} ({len(one.categories)} categories, {one.mode}{tenant})"
        click.echo(harmless(f"{one.id:<{width}}  {about}"))


@policy.command()
@click.argument("policy_id", metavar="ID")
@_path
@_published
@_tenant
@_as_json
def show(policy_id: str, path: str | None, published: bool, tenant: str | None, as_json: bool) -> None:
    """Show a policy with all that its file leaves to defaults.

    Categories stand in the order in which the model reads them.
    """
    one = _one(policy_id, path, published, tenant)
    content = msgspec.to_builtins(msgspec.structs.replace(one, categories=canonical_categories(one)))
    if as_json:
        click.echo(_dump(content))
        return
    click.echo(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), nl=False)


@policy.command(name="hash")
@click.argument("policy_id", metavar="ID")
@_path
@_published
@_tenant
@_as_json
def hash_(policy_id: str, path: str | None, published: bool, tenant: str | None, as_json: bool) -> None:
    """Print the policy's two hashes.

    `policy_hash` covers all but the examples; `judgement_hash` only what the model reads.
    """
    one = _one(policy_id, path, published, tenant)
    hashes = {"policy_hash": policy_hash(one), "judgement_hash": judgement_hash(one)}
    if as_json:
        click.echo(_dump({"id": one.id, "version": one.version, **hashes}))
        return
    for name, value in hashes.items():
        click.echo(f"{name:<14} {value}")


def _on_topic(path: str | None, published: bool) -> bool:
    """Raises `UsageError` where both are asked for."""
    if path is not None and published:
        raise UsageError("--path and --published: expected one of them")
    return published or (path is None and load_settings().policies.source == "topic")


def _one(policy_id: str, path: str | None, published: bool, tenant: str | None) -> Policy:
    if _on_topic(path, published):
        return in_force(load_settings(), policy_id, tenant)
    if tenant is not None:
        raise UsageError("--tenant: expected --published with it: of files, ids are unique")
    return _find(policy_id, path)


def _loaded(path: str | None) -> list[FoundPolicy]:
    if path is not None:
        return find_policies(path, "--path")
    return find_policies(load_settings().policies.path)


def _find(policy_id: str, path: str | None) -> Policy:
    found = _loaded(path)
    for entry in found:
        if entry.policy.id == policy_id:
            return entry.policy
    known = ", ".join(sorted(entry.policy.id for entry in found))
    raise UsageError(f"no policy {policy_id!r} is loaded; loaded are {known}")


def _problem(problem: Any) -> dict[str, Any]:
    return {
        "file": str(problem.file),
        "line": problem.line,
        "field": problem.field,
        "sentence": problem.sentence,
    }


def _summary(entry: FoundPolicy) -> dict[str, Any]:
    one = entry.policy
    return {
        "id": one.id,
        "version": one.version,
        "title": one.title,
        "tenant": one.tenant,
        "mode": one.mode,
        "categories": [category.code for category in canonical_categories(one)],
        "file": str(Path(entry.file)),
        "line": entry.line,
        "policy_hash": policy_hash(one),
        "judgement_hash": judgement_hash(one),
    }


def _dump(content: Any) -> str:
    return json.dumps(content, indent=2)
