"""`rsafe decisions`: what was decided, or why records could not be."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import chain

import click

from schemas.redrive import read_mark
from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import Record, Start, read_records
from workers.commands.decision_rows import JsonRows, PlainRows, Rows, TableRows, dead_letter_row, decision_row
from workers.errors import WorkerError
from workers.settings import load_settings


class UnreadableRecords(WorkerError):
    """Some records of the topic are not what the topic is for."""


@click.command()
@click.option("--follow", is_flag=True, help="Wait for more, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--from-beginning", is_flag=True, help="With --follow: what is there already, too.")
@click.option("--limit", type=click.IntRange(1), help="Only so many, the newest; not with --follow.")
@click.option("--dead-letters", is_flag=True, help="The records that could not become decisions.")
def decisions(
    follow: bool, as_json: bool, from_beginning: bool, limit: int | None, dead_letters: bool
) -> None:
    """Show the decisions on the topic, then end.

    With --follow only those that come from now on, unless --from-beginning asks for the earlier ones.
    Reads beside the consumer groups and changes nothing. Exits with 1 when a record could not be read.
    """
    if limit is not None and (from_beginning or follow):
        raise click.UsageError("--limit excludes --from-beginning and --follow")
    kafka = load_settings().kafka
    topic = kafka.dead_letters_topic if dead_letters else kafka.decisions_topic
    start: Start = "end" if follow and not from_beginning else "beginning"
    batches = read_records(
        client_options(kafka),
        topic,
        start=start if limit is None else limit,
        follow=follow,
        timeout_s=kafka.start_timeout_s,
    )
    if limit is not None:
        batches = iter([newest(chain.from_iterable(batches), limit)])
    rows = _rows(as_json, dead_letters)
    try:
        unreadable = show(batches, rows, dead_letters=dead_letters)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if unreadable:
        raise UnreadableRecords(f"records of {topic} that could not be read: {unreadable}")


def show(batches: Iterable[list[Record]], rows: Rows, *, dead_letters: bool) -> int:
    """Write every record as a row; name the unreadable ones on standard error and return their number."""
    read = dead_letter_row if dead_letters else decision_row
    unreadable = 0
    for batch in batches:
        found = []
        for record in batch:
            if dead_letters and read_mark(record.headers) is not None:
                continue  # says that a dead letter was put back, and is none itself
            row = read(record)
            if isinstance(row, str):
                place = f"{record.topic} partition {record.partition} offset {record.offset}"
                click.echo(f"{place}: {row}", err=True)
                unreadable += 1
            else:
                found.append(row)
        rows.write(found)
    return unreadable


def newest(records: Iterable[Record], limit: int) -> list[Record]:
    """The last `limit` records by their timestamps, oldest first."""
    ordered = sorted(records, key=lambda one: (one.timestamp_ms, one.partition, one.offset))
    return ordered[-limit:]


def _rows(as_json: bool, dead_letters: bool) -> Rows:
    if as_json:
        return JsonRows(sys.stdout)
    if sys.stdout.isatty():
        return TableRows(dead_letters=dead_letters)
    return PlainRows(sys.stdout)
