"""`rsafe review`: a person's word on a decision."""

from __future__ import annotations

import getpass
import uuid
from datetime import UTC, datetime
from typing import get_args

import click
import msgspec

from schemas.decision import Decision
from schemas.identifiers import Label
from schemas.review import Review
from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import RecordWriter, read_whole
from workers.errors import UsageError
from workers.settings import Settings, load_settings


@click.command()
@click.argument("decision_id")
@click.option("--label", required=True, type=click.Choice(get_args(Label)), help="What the message is.")
@click.option(
    "--category", "categories", multiple=True, help="Violated category; may be given several times."
)
@click.option("--note", help="Words of the reviewer, never message text.")
@click.option("--reviewer", help="Pseudonym; absent: the name of the user who runs this.")
def review(
    decision_id: str, label: Label, categories: tuple[str, ...], note: str | None, reviewer: str | None
) -> None:
    """Publish a review of a decision. With `safe` its strikes are taken back (`rsafe conduct`).

    The newest review of a decision counts. Looks for the decision on its topic, for the place of its event.
    """
    if label == "safe" and categories:
        raise click.UsageError("a safe message violates no category")
    settings = load_settings()
    found = _find(settings, decision_id)
    made = {
        "review_id": uuid.uuid4().hex,
        "decision_id": decision_id,
        "origin": msgspec.to_builtins(found.origin),
        "reviewer": reviewer or getpass.getuser(),
        "label": label,
        "reviewed_at": datetime.now(UTC),
        "categories": list(categories),
        "policy": msgspec.to_builtins(found.policy),
        "note": note,
    }
    try:
        value = msgspec.json.encode(msgspec.convert(made, Review))
    except msgspec.ValidationError as error:
        raise UsageError(f"review: {error}") from error
    writer = RecordWriter(
        client_options(settings.kafka),
        settings.kafka.reviews_topic,
        timeout_s=settings.kafka.start_timeout_s,
        delivery_timeout_ms=settings.kafka.delivery_timeout_ms,
    )
    writer.send(decision_id.encode(), value)
    writer.finish()
    click.echo(f"{made['review_id']} {label}")


def _find(settings: Settings, wanted: str) -> Decision:
    topic = settings.kafka.decisions_topic
    decoder, needle = msgspec.json.Decoder(Decision), wanted.encode()
    for batch in read_whole(settings.kafka, topic):
        for record in batch:
            if record.value is None or needle not in record.value:  # decoding all would take minutes
                continue
            try:
                found = decoder.decode(record.value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # no decision, so not this one; `rsafe decisions` names it
            if found.decision_id == wanted:
                return found
    raise UsageError(f"{topic} has no decision with this id")
