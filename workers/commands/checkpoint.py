"""`rsafe checkpoint`: verify, show and compare checkpoints; sign them, and announce them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from guard.checkpoint import (
    MANIFEST,
    Checkpoint,
    differences,
    find_checkpoint,
    open_checkpoint,
    read_manifest,
)
from guard.errors import CheckpointError, GuardError, KeyFileError
from guard.signature import keygen as make_keys
from guard.signature import sign as sign_folder
from guard.signature import signature_of, verify_signature
from workers.announcement import announce as publish_release
from workers.announcement import release_of
from workers.commands.checkpoint_facts import difference_lines, fact_lines, facts, is_same, otherwise
from workers.errors import UsageError
from workers.judging import checkpoint_keys
from workers.settings import load_settings
from workers.terminal import harmless

# Beside the codes of `workers.errors`: `verify` found a problem, `diff` a difference.
EXIT_OTHERWISE: Final = 1
SHIPPED: Final = "tiny"

_checkpoint = click.argument("checkpoint", default=SHIPPED)
_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")
_keys = click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of a public key, of which one must have signed it; instead of RSAFE_GUARD__CHECKPOINT_KEYS.",
)


@click.group()
def checkpoint() -> None:
    """Verify, show and compare checkpoints; sign and announce them.

    CHECKPOINT is a folder, or the name of a shipped one: `tiny`.
    """


@checkpoint.command()
@_checkpoint
@_keys
@_as_json
def verify(checkpoint: str, keys: tuple[Path, ...], as_json: bool) -> None:
    """Compare the files of CHECKPOINT (default: tiny) with its manifest, and check its signature.

    Names every file that is otherwise. Exits with 1 when there is one, when there is no manifest, or when
    none of the keys signed it; with 3 when there is no such checkpoint.
    """
    folder = find_checkpoint(checkpoint)
    trusted = keys or tuple(checkpoint_keys(load_settings().guard))
    found, problems = _opened(folder)
    problems += _signature_problems(folder, trusted, found)
    report: dict[str, Any] = {"path": str(folder), "problems": problems}
    if found is not None:
        report |= {"name": found.name, "checkpoint_digest": found.checkpoint_digest}
        report |= {"weights_digest": found.weights_digest}
    with suppress(CheckpointError):  # which is among the problems where it matters
        signature = signature_of(folder)
        report["signed_by"] = None if signature is None else signature.key_id
    report["signature_checked"] = bool(trusted)
    report["ok"] = not report["problems"]
    if as_json:
        _dump(report)
    else:
        _tell(report)
    if not report["ok"]:
        raise click.exceptions.Exit(EXIT_OTHERWISE)


@checkpoint.command()
@_checkpoint
@_as_json
def show(checkpoint: str, as_json: bool) -> None:
    """Show what is known of CHECKPOINT (default: tiny): digests, origin, files, gate; with --json figures."""
    guard = load_settings().guard
    template = guard.template if guard.profile else ""  # some profiles have none of their own
    found = facts(open_checkpoint(checkpoint, template=template, profile=guard.profile))
    if as_json:
        _dump(found)
        return
    for line in fact_lines(found):
        click.echo(harmless(line))


@checkpoint.command()
@click.argument("new")
@click.argument("old", default=SHIPPED)
@_as_json
def diff(new: str, old: str, as_json: bool) -> None:
    """Show what is otherwise in NEW than in OLD (default: tiny): files, origin, gate and every figure.

    Exits with 0 when nothing is, and with 1 when something is.
    """
    found = otherwise(facts(open_checkpoint(old)), facts(open_checkpoint(new)))
    if as_json:
        _dump({"same": is_same(found), **found})
    elif is_same(found):
        click.echo("the same")
    else:
        for line in difference_lines(found):
            click.echo(harmless(line))
    if not is_same(found):
        raise click.exceptions.Exit(EXIT_OTHERWISE)


@checkpoint.command()
@click.argument("name", type=click.Path(path_type=Path))
def keygen(name: Path) -> None:
    """Make a pair of ed25519 keys: NAME.key, the private one, and NAME.pub, which workers are given.

    Nothing is written over.
    """
    if name.name in ("", ".."):
        raise UsageError(f"{name}: a folder; expected the name of the files to make, such as `release`")
    private, public = name.with_name(f"{name.name}.key"), name.with_name(f"{name.name}.pub")
    try:
        key_id = make_keys(private, public)
    except KeyFileError as error:
        raise UsageError(str(error)) from error
    click.echo(f"{private}: the private key; whoever has it can sign")
    click.echo(f"{public}: the public key {key_id}")


@checkpoint.command()
@click.argument("checkpoint")
@click.option(
    "--key", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File of the private key."
)
def sign(checkpoint: str, key: Path) -> None:
    """Write manifest.sig: the signature of CHECKPOINT's manifest, and with it of every file.

    Its files are compared with the manifest first. An older signature is replaced; the checkpoint's digests
    stay.
    """
    folder = find_checkpoint(checkpoint)
    try:
        signature = sign_folder(folder, key)
    except KeyFileError as error:
        raise UsageError(f"--key: {error}") from error
    click.echo(f"{folder}: signed by {signature.key_id}")


@checkpoint.command()
@click.argument("checkpoint")
@click.option("--location", help="Where its readers find the folder: an address, or a path of theirs.")
@click.option("--dry-run", is_flag=True, help="Show the release; publish nothing.")
def announce(checkpoint: str, location: str | None, dry_run: bool) -> None:
    """Publish the release of CHECKPOINT to RSAFE_KAFKA__CHECKPOINTS_TOPIC.

    Its files are verified first, and its signature with RSAFE_GUARD__CHECKPOINT_KEYS. One that its gate let
    fail, or without a manifest, is refused. The newest release of each name is kept.
    """
    settings = load_settings()
    now = datetime.now(UTC)
    if dry_run:
        release = release_of(open_checkpoint(checkpoint), settings, now=now, location=location)
        _dump(msgspec.to_builtins(release))
        return
    release = publish_release(checkpoint, settings, now=now, location=location)
    click.echo(f"{settings.kafka.checkpoints_topic}: {harmless(release.name)} {release.checkpoint_digest}")


def _opened(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint where it can be opened, and a sentence for all that is otherwise."""
    try:
        found = open_checkpoint(str(folder))
    except GuardError as error:
        problems: list[str] = []
        with suppress(CheckpointError):
            problems = differences(folder, read_manifest(folder))
        return None, problems or [str(error)]
    if found.verified:
        return found, []
    return found, [f"{folder}: no {MANIFEST}; expected one to compare the files with"]


def _signature_problems(folder: Path, keys: Sequence[Path], found: Checkpoint | None) -> list[str]:
    """Why none of the keys signed it; nothing without keys. Raises `UsageError` for a key."""
    if not keys:
        return []
    try:
        verify_signature(folder, keys, manifest_digest=None if found is None else found.manifest_digest)
    except KeyFileError as error:
        raise UsageError(f"--key, or RSAFE_GUARD__CHECKPOINT_KEYS: {error}") from error
    except CheckpointError as error:
        return [str(error)]
    return []


def _tell(report: dict[str, Any]) -> None:
    for problem in report["problems"]:
        click.echo(harmless(problem), err=True)
    if report["ok"]:
        click.echo(harmless(f"{report['path']}: {report['name']}, every file is what its manifest says"))
        click.echo(f"checkpoint digest  {report['checkpoint_digest']}")
        click.echo(f"weights digest     {report['weights_digest']}")
    if key_id := report.get("signed_by"):
        checked = "" if report["signature_checked"] else ", which was not checked: no key was given"
        click.echo(f"signed by          {key_id}{checked}")
    elif "signed_by" in report:
        click.echo("not signed")


def _dump(content: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())
