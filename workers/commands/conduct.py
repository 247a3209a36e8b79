"""`rsafe conduct`: conduct over time."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import click

from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import RecordWriter
from workers.conduct.entries import Forget, Subject, encode
from workers.conduct.rules import Rules
from workers.conduct.stored import stored_state
from workers.conduct.view import lines, view
from workers.published_policies import loaded_policies
from workers.settings import Settings, load_settings
from workers.terminal import harmless


@click.group(invoke_without_command=True)
@click.pass_context
def conduct(ctx: click.Context) -> None:
    """Count decisions by the rules of their policies and publish escalations, until stopped.

    Reads decisions and reviews in a group of its own (RSAFE_CONDUCT__GROUP_ID). SIGTERM or Ctrl-C: the record
    in hand is finished.
    """
    if ctx.invoked_subcommand is None:
        asyncio.run(_run(load_settings()))


async def _run(settings: Settings) -> None:
    from workers.conduct.run import run_conduct  # Faust is imported only where it runs

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await run_conduct(settings, stopping)


@conduct.command()
@click.option("--tenant", required=True, help="Tenant of the author or conversation.")
@click.option("--author", help="Id of an author.")
@click.option("--conversation", help="Id of a conversation.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(tenant: str, author: str | None, conversation: str | None, as_json: bool) -> None:
    """Show what counts of an author or a conversation, what it comes to, and when it expires.

    Reads the state topic; what is not counted yet is not seen.
    """
    if (author is None) == (conversation is None):
        raise click.UsageError("expected either --author or --conversation")
    subject = (
        Subject("author", tenant, author)
        if author is not None
        else Subject("conversation", tenant, conversation or "")
    )
    settings = load_settings()
    book = Rules(loaded_policies(settings).all)
    state = stored_state(settings, subject)
    found = view(subject, state, book, time.time_ns() // 1_000_000)
    if as_json:
        click.echo(json.dumps(found))
        return
    for line in lines(found):
        click.echo(harmless(line))


@conduct.command()
@click.option("--tenant", required=True, help="Tenant of the author.")
@click.option("--author", required=True, help="Id of the author.")
def forget(tenant: str, author: str) -> None:
    """Forget an author for good: nothing received until now counts any more, a replay of it included.

    What remains is a hash of tenant and id with the time. Carried out by the running app as soon as it reads
    this; the decisions themselves are not this app's to delete.
    """
    settings = load_settings()
    subject = Subject("author", tenant, author)
    writer = RecordWriter(
        client_options(settings.kafka),
        settings.conduct.entries_topic,
        timeout_s=settings.kafka.start_timeout_s,
        delivery_timeout_ms=settings.kafka.delivery_timeout_ms,
    )
    writer.send(subject.key, encode(Forget(subject=subject, until_ms=time.time_ns() // 1_000_000)))
    writer.finish()
    click.echo("asked to forget; the running app does it when it reads this")
