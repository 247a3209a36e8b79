"""`rsafe redrive`: dead letters back onto the topic that they came from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, get_args

import click

from schemas.dead_letter import DeadLetter, DeadLetterReason
from workers.adapters.kafka_options import client_options
from workers.adapters.redrive_topics import DeadLetters, TransactionalWriter
from workers.adapters.topics_io import Record
from workers.commands.moments import Moment
from workers.errors import StreamStopped, WorkerError
from workers.kafka_rights import redrive_id
from workers.redrive import chosen, look, put_back
from workers.redrive_account import Choice, Found, Named, Summary, by_reason
from workers.settings import load_settings
from workers.terminal import harmless

# How often the progress is written, in seconds.
PROGRESS_S: Final = 1.0


class LettersLeft(WorkerError):
    """Some records could not be read, or not be put back."""


@click.command()
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice(get_args(DeadLetterReason)),
    help="Only dead letters of this reason; may be given several times.",
)
@click.option(
    "--since", type=Moment(time.time), help="Only dead letters from then on: 2026-01-31T12:00:00Z, or 2h."
)
@click.option("--until", type=Moment(time.time), help="Only dead letters before then.")
@click.option("--limit", type=click.IntRange(1), help="Put back so many at most.")
@click.option("--dry-run", is_flag=True, help="Show what would be put back; write nothing.")
def redrive(
    reasons: tuple[str, ...], since: float | None, until: float | None, limit: int | None, dry_run: bool
) -> None:
    """Put dead letters back onto RSAFE_KAFKA__EVENTS_TOPIC, each once, however often this is run.

    Key, value and headers are the original ones; headers `rsafe-origin-…` say where the record stood first.
    Can be interrupted and run again. Needs a user that may write to both topics, in transactions. Exits with
    1 when a record could not be read, or is larger than its topic takes.
    """
    if since is not None and until is not None and since >= until:
        raise click.BadParameter("expected a time after --since", param_hint="'--until'")
    kafka = load_settings().kafka
    options, timeout_s = client_options(kafka), kafka.start_timeout_s
    source, topic = kafka.events_topic, kafka.dead_letters_topic
    choice, summary = Choice(frozenset(reasons), since, until), Summary()
    letters, found = DeadLetters(options, topic, timeout_s=timeout_s), Found()
    told = progress(time.monotonic, found, summary)
    started = time.monotonic()

    def wanted() -> Iterator[tuple[Record, DeadLetter]]:
        look(letters, found, told)
        return islice(chosen(letters, found, source, choice, summary, told), limit)

    def say() -> None:
        seconds = time.monotonic() - started
        for line in report(found, summary, topic, source, seconds=seconds, dry_run=dry_run):
            click.echo(line)

    try:
        if dry_run:
            show(wanted(), summary)
        else:
            # First of all: what earlier runs began is then finished or undone, and none of them writes more.
            writer = TransactionalWriter(options, redrive_id(kafka), source, timeout_s=timeout_s)
            put_back(wanted(), writer, summary, source_partitions=writer.partitions)
    except (KeyboardInterrupt, StreamStopped):
        say()
        raise
    say()
    _raise_left(found, summary, topic, source)


def show(letters: Iterable[tuple[Record, DeadLetter]], summary: Summary) -> None:
    """Write each letter as a line, without its text, and count it as put back."""
    for record, letter in letters:
        cells = (
            f"{record.topic}/{record.partition}/{record.offset}",
            letter.reason,
            letter.field,
            f"{letter.topic}/{letter.partition}/{letter.offset}",
            f"attempts {letter.attempts}",
        )
        click.echo("  ".join(map(harmless, cells)))
        summary.put_back[letter.reason] += 1


def progress(clock: Callable[[], float], found: Found, summary: Summary) -> Callable[[], None]:
    """Says on standard error how far it is, about once a second."""
    last = clock()

    def told() -> None:
        nonlocal last
        if clock() - last >= PROGRESS_S:
            last = clock()
            counts = (
                f"{found.letters} dead letters, {summary.seen} looked at, {summary.put_back.total()} put back"
            )
            click.echo(f"{counts} …", err=True)

    return told


def report(
    found: Found, summary: Summary, topic: str, source: str, *, seconds: float, dry_run: bool
) -> Iterable[str]:
    """The summary, for people."""
    count = summary.put_back.total()
    reasons = f" ({by_reason(summary.put_back)})" if count else ""
    yield f"{topic}: {found.letters} dead letters"
    yield f"{source}: {count} {'would be put back' if dry_run else 'put back'}{reasons} in {seconds:.1f} s"
    others: tuple[tuple[int, str], ...] = (
        (summary.earlier, "put back before"),
        (summary.not_chosen, "not chosen"),
        (summary.elsewhere, "of another topic"),
        (summary.refused.count, f"larger than {source} takes"),
        (summary.without_record.count, "without the record"),
    )
    if summary.seen < found.letters:
        others = (*others, (found.letters - summary.seen, "not looked at"))
    if rest := ", ".join(f"{number} {what}" for number, what in others if number):
        yield f"left: {rest}"


def _raise_left(found: Found, summary: Summary, topic: str, source: str) -> None:
    for named, sentence in (
        (found.unreadable, "not a dead letter"),
        (summary.refused, f"larger than {source} takes; raise its max.message.bytes"),
        (summary.without_record, "holds no record, which was too large; its place is in the headers"),
    ):
        for partition, offset in named.first:
            click.echo(f"{topic} partition {partition} offset {offset}: {sentence}", err=True)
    sentences = [
        *_sentences(found.unreadable, "could not be read"),
        *_sentences(summary.refused, "were refused"),
        *_sentences(summary.without_record, "hold no record"),
    ]
    if sentences:
        raise LettersLeft(f"records of {topic}: {', '.join(sentences)}")


def _sentences(named: Named, what: str) -> list[str]:
    return [f"{named.count} {what}"] if named.count else []
