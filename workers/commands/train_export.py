"""`rsafe train export`: human reviews, joined with the events that they judge, as rows for the trainer."""

from __future__ import annotations

import gzip
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import click
import msgspec
from rich.console import Console

from workers.adapters.kafka_options import client_options
from workers.adapters.origins import fetch_records
from workers.adapters.topics_io import read_whole
from workers.errors import UsageError, WorkerError
from workers.judging import content_key
from workers.progress import ProgressLine
from workers.published_policies import loaded_policies
from workers.redrive_account import by_reason
from workers.review_export import Account, Reviews, Row, RowForm, join
from workers.settings import Settings, load_settings

LICENCE: Final = "LicenseRef-own-reviews"
# How often the progress is written where nothing moves, in seconds.
_PLAIN_S: Final = 10.0


class ReviewsLeft(WorkerError):
    """Some records were not reviews, or did not lead to the event that was decided and may be read."""


@click.command()
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of the rows, one JSON object a line; compressed where it ends in `.gz`. Replaced as a whole.",
)
@click.option(
    "--dev-share",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Share of the conversations whose rows go to the split `dev`; the rest is `train`.",
)
@click.option("--licence", default=LICENCE, show_default=True, help="What the rows say of their licence.")
@click.option("--json", "as_json", is_flag=True, help="The counts as one JSON object.")
def export(output: Path, dev_share: float, licence: str, as_json: bool) -> None:
    """Write the reviews of RSAFE_KAFKA__REVIEWS_TOPIC with the events that they judge, for the trainer.

    Of several reviews of a decision the latest counts. Events are fetched by the coordinates in the review;
    those that their topic has given up are counted. Reads beside the consumer groups and changes nothing.
    The file holds message text. Exits with 1 when a record was no review, or led to no event, to another
    one than was decided, or to a topic that may not be read; all others are written.
    """
    settings = load_settings()
    account = Account()
    with ProgressLine(Console(stderr=True), time.monotonic, plain_s=_PLAIN_S) as progress:
        write_rows(output, rows(settings, account, progress, dev_share=dev_share, licence=licence))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(account.report()), indent=2).decode())
    else:
        for line in report(account, output):
            click.echo(line)
    for partition, offset in account.unreadable.first:
        place = f"{settings.kafka.reviews_topic} partition {partition} offset {offset}"
        click.echo(f"{place}: not a review", err=True)
    if left := account.not_reviews + account.not_events + Counter(refused=account.gone["refused"]):
        raise ReviewsLeft(f"{left.total()} reviews could not be used: {by_reason(left)}")


def rows(
    settings: Settings, account: Account, progress: ProgressLine, *, dev_share: float, licence: str
) -> Iterator[Row]:
    """The rows, in order of topic, partition and offset of the events. Raises as the readers of topics do."""
    kafka = settings.kafka
    form = RowForm(loaded_policies(settings), licence, dev_share, content_key(settings.secrets))
    options, reviews = client_options(kafka), Reviews()
    for batch in read_whole(kafka, kafka.reviews_topic):
        for record in batch:
            reviews.add(record, account)
        if progress.passed_s() is not None:
            progress.show(f"{account.records:,} reviews read")
    places = reviews.by_place()
    wanted = {place: list(offsets) for place, offsets in places.items()}
    found = fetch_records(options, wanted, needed_topic=kafka.events_topic, timeout_s=kafka.start_timeout_s)
    for row in join(found, places, form, account):
        yield row
        if progress.passed_s() is not None:
            progress.show(f"{account.rows.total():,} rows of {len(reviews):,} reviews")


def write_rows(output: Path, found: Iterable[Row]) -> None:
    """Write the file whole or not at all, for its owner's eyes only.

    Of two that write one file at the same time the later one's stands. Raises `UsageError` where it cannot be
    written, and what `found` raises, as it is.
    """
    with _unwritable(output):
        # A name that nobody else has; only its owner can read it.
        descriptor, name = tempfile.mkstemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent)
    partial = Path(name)
    try:
        plain = os.fdopen(descriptor, "wb")
        with closing(_Lines(output, plain)) as lines:
            for row in found:
                lines.write(msgspec.json.encode(row) + b"\n")
            lines.finish()
        with _unwritable(output):
            partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


class _Lines:
    """An open file of lines, compressed if its name in the end says so. Raises `UsageError`."""

    def __init__(self, output: Path, plain: IO[bytes]) -> None:
        self._output, self._plain = output, plain
        # Without a name and a time in it, so that equal rows are equal files.
        packed = gzip.GzipFile("", "wb", fileobj=plain, mtime=0) if output.suffix == ".gz" else None
        self._stream: IO[bytes] | gzip.GzipFile = plain if packed is None else packed

    def write(self, line: bytes) -> None:
        with _unwritable(self._output):
            self._stream.write(line)

    def finish(self) -> None:
        """What was written is on the disk then."""
        with _unwritable(self._output):
            if self._stream is not self._plain:
                self._stream.close()
            self._plain.flush()
            os.fsync(self._plain.fileno())

    def close(self) -> None:
        with suppress(OSError):  # where it matters, `finish` has told of it
            self._stream.close()
        with suppress(OSError):
            self._plain.close()


@contextmanager
def _unwritable(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"--output: {output}: cannot be written: {error.strerror}") from error


def report(account: Account, output: Path) -> Iterator[str]:
    """The counts, for people."""
    labels = f" ({by_reason(account.rows)})" if account.rows else ""
    yield f"{output}: {account.rows.total()} rows{labels} of {account.records} records"
    others: tuple[tuple[int, str], ...] = (
        (account.superseded, "followed by a later review of the same decision"),
        (account.gone["expired"], "of events that have expired"),
        (account.gone["absent"], "of events that are not at their place"),
        (account.gone["refused"], "of events of topics that may not be read"),
        (account.not_events.total(), f"of no event, or another one ({by_reason(account.not_events)})"),
        (account.not_reviews.total(), f"no reviews ({by_reason(account.not_reviews)})"),
    )
    if rest := ", ".join(f"{number} {what}" for number, what in others if number):
        yield f"left out: {rest}"
    if account.without_policy:
        yield f"{account.without_policy} rows name no policy: neither the review nor the settings do"
