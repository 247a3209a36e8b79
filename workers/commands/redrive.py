"""`rsafe redrive`: dead letters back onto the topic that they came from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, get_args

import click

from schemas.dead_letter import DeadLetter, DeadLetterReason
from workers.adapters.kafka_options import client_options
from workers.adapters.redrive_topics import DeadLetters, TransactionalWriter
from workers.adapters.topics_io import Record
from workers.commands.moments import Moment
from workers.errors import WorkerError
from workers.redrive import Choice, Found, Named, Summary, by_reason, chosen, look, put_back
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
    letters = DeadLetters(options, topic, timeout_s=timeout_s)
    started = time.monotonic()
    if dry_run:
        found = look(letters)
        show(islice(chosen(letters, found, source, choice, summary), limit), summary)
    else:
        # First of all: what earlier runs began is finished or undone then, and none of them writes any more.
        writer = TransactionalWriter(options, f"rsafe-redrive-{topic}", source, timeout_s=timeout_s)
        found = look(letters)
        put_back(
            islice(chosen(letters, found, source, choice, summary), limit),
            writer,
            summary,
            source_partitions=writer.partitions,
            told=progress(time.monotonic),
        )
    for line in report(found, summary, topic, source, seconds=time.monotonic() - started, dry_run=dry_run):
        click.echo(line)
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


def progress(clock: Callable[[], float]) -> Callable[[Summary], None]:
    """Says on standard error how many are put back, about once a second."""
    last = clock()

    def told(summary: Summary) -> None:
        nonlocal last
        if clock() - last >= PROGRESS_S:
            last = clock()
            click.echo(f"{summary.put_back.total()} put back …", err=True)

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
    )
    seen = count + sum(number for number, _ in others)
    if seen < found.letters:
        others = (*others, (found.letters - seen, "not looked at, since --limit was reached"))
    if rest := ", ".join(f"{number} {what}" for number, what in others if number):
        yield f"left: {rest}"


def _raise_left(found: Found, summary: Summary, topic: str, source: str) -> None:
    for named, sentence in (
        (found.unreadable, "not a dead letter"),
        (summary.refused, f"larger than {source} takes; raise its max.message.bytes"),
    ):
        for partition, offset in named.first:
            click.echo(f"{topic} partition {partition} offset {offset}: {sentence}", err=True)
    sentences = [
        *_sentences(found.unreadable, "could not be read"),
        *_sentences(summary.refused, "were refused"),
    ]
    if sentences:
        raise LettersLeft(f"records of {topic}: {', '.join(sentences)}")


def _sentences(named: Named, what: str) -> list[str]:
    return [f"{named.count} {what}"] if named.count else []
