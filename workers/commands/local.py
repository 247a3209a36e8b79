"""`rsafe local`: a real Kafka, a real Redis and, if wanted, a Prometheus on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from workers.adapters.embedded import DEFAULT_FOLDER, LocalStack
from workers.adapters.embedded_addresses import Addresses
from workers.adapters.embedded_process import launcher_command
from workers.adapters.embedded_prometheus import DEFAULT_TARGETS
from workers.adapters.embedded_status import stack_status, take_down

FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# What shells add to the number of the signal that ended a command.
SIGNAL_EXIT_BASE: Final = 128


def _progress(sentence: str) -> None:
    click.echo(sentence, err=True)


def _stack_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--rules",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Alerts that Prometheus evaluates, such as helm/rsafe-stream/files/alerts.yaml.",
        ),
        click.option(
            "--scrape",
            multiple=True,
            default=DEFAULT_TARGETS,
            show_default=True,
            metavar="HOST:PORT",
            help="Health endpoint of a worker that Prometheus asks; may be given more than once.",
        ),
        click.option(
            "--prometheus-port", type=click.IntRange(0, 65535), default=0, help="Default: a free one."
        ),
        click.option("--prometheus", is_flag=True, help="Start a Prometheus as well."),
        click.option("--redis-port", type=click.IntRange(0, 65535), default=0, help="Default: a free one."),
        click.option("--kafka-port", type=click.IntRange(0, 65535), default=0, help="Default: a free one."),
        click.option(
            "--redis",
            "redis_url",
            envvar="RSAFE_REDIS__URL",
            default="",
            help="Use this Redis (URL) instead of starting one.",
        ),
        click.option(
            "--kafka",
            "bootstrap_servers",
            envvar="RSAFE_KAFKA__BOOTSTRAP_SERVERS",
            default="",
            help="Use this broker (HOST:PORT) instead of starting one.",
        ),
        click.option(
            "--ephemeral", is_flag=True, help="Data in a temporary folder that goes with the stack."
        ),
        _folder_option,
    ):
        command = option(command)
    return command


_folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="RSAFE_LOCAL_FOLDER",
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Where data and logs are kept.",
)


@click.group()
def local() -> None:
    """A real single-node Kafka and a real Redis on this machine, without Docker, Java or root.

    Kafka comes from the Maven repository, once, and is kept; Redis is the one on the PATH or comes with
    the package. A Prometheus (`--prometheus`) is the one on the PATH. All listen on the loopback address
    only.
    """


@local.command()
@_stack_options
def up(**options: Any) -> None:
    """Start them and leave them running; prints the variables that name them.

    \b
    eval "$(rsafe local up)"
    """
    stack = _stack(options, detached=True)
    with _SignalRelay():
        addresses = stack.start()
    for name, value in addresses.environment().items():
        click.echo(f"export {name}={shlex.quote(value)}")


@local.command()
@_folder_option
def down(folder: Path) -> None:
    """Stop what `up` started. Data stay, unless they were ephemeral."""
    ended = take_down(folder, _progress)
    click.echo(f"stopped: {', '.join(ended)}" if ended else "nothing was up")


@local.command()
@_folder_option
@click.option("--json", "as_json", is_flag=True, help="One JSON list.")
def status(folder: Path, as_json: bool) -> None:
    """Show what is up; the exit code is 1 if a part is not."""
    parts = stack_status(folder)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(part) for part in parts], indent=2))
    else:
        for part in parts:
            facts = f"{part.address}  pid {part.pid}  {part.memory_mib} MiB" if part.pid else ""
            click.echo(f"{part.name:<6} {part.state:<14} {facts}  log {part.log}")
    if any(part.state != "up" for part in parts):
        raise click.exceptions.Exit(1)


@local.command(context_settings={"ignore_unknown_options": True})
@_stack_options
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: tuple[str, ...], **options: Any) -> None:
    """Start them, run COMMAND with the variables that name them, stop them; exits as COMMAND does.

    \b
    rsafe local run --ephemeral -- pytest tests/integration
    """
    with _SignalRelay() as relay, _stack(options, detached=False) as stack:
        code = relay.run(command, stack.addresses)
    raise click.exceptions.Exit(code)


def _stack(options: dict[str, Any], *, detached: bool) -> LocalStack:
    existing = Addresses(options.pop("bootstrap_servers"), options.pop("redis_url"))
    return LocalStack(existing=existing, detached=detached, progress=_progress, **options)


class _SignalRelay:
    """What becomes of signals that ask us to end.

    While the stack starts they end us in good order, while the command runs they are its business, and while
    the stack stops they are too late.
    """

    def __init__(self) -> None:
        self._command: subprocess.Popen[bytes] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _SignalRelay:
        for number in FORWARDED:
            # What our parent had us ignore (nohup, a shell's background job) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: tuple[str, ...], addresses: Addresses) -> int:
        """Run the command in our place at the terminal; its exit code, 128 and more after a signal."""
        self._command = subprocess.Popen(
            launcher_command(command, signal.SIGTERM), env={**os.environ, **addresses.environment()}
        )
        code = self._command.wait()
        return code if code >= 0 else SIGNAL_EXIT_BASE - code

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._command is None:
            sys.exit(SIGNAL_EXIT_BASE + number)
        if number in (signal.SIGINT, signal.SIGQUIT) and _at_terminal():
            return  # the terminal sent it to the command as well
        self._command.send_signal(number)


def _at_terminal() -> bool:
    """Whether a key of the terminal reaches us, and with us the command."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False
