"""`rsafe train export` on a real broker: events by their coordinates, expired, taken back and replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.decision import Origin, decision_id
from schemas.event import Event
from schemas.generate import FOLDER
from schemas.keys import record_key
from schemas.review import Review
from workers.adapters import origins
from workers.adapters.admin import WantedTopic, create_topics
from workers.adapters.embedded_addresses import Addresses
from workers.adapters.kafka_options import Option, client_options
from workers.adapters.origins import Gone, fetch_records
from workers.adapters.topics_io import RecordWriter, read_records
from workers.commands.train import train
from workers.commands.train_export import ReviewsLeft
from workers.errors import StartError
from workers.settings import KafkaSettings

TIMEOUT_S = 30.0
EXAMPLE = json.loads((FOLDER / "examples" / "event" / "v1" / "good.json").read_bytes())
NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)


class Stream:
    """Events and reviews of one test, in force for the command."""

    def __init__(self, options: dict[str, Option], events: str, reviews: str) -> None:
        self.options, self.events, self.reviews = options, events, reviews

    def create(self) -> None:
        topics = [WantedTopic(self.events, 3, 1, {}), WantedTopic(self.reviews, 2, 1, {})]
        create_topics(self.options, topics, timeout_s=TIMEOUT_S)

    def produce(self, count: int) -> list[tuple[Event, Origin]]:
        """Events on their topic, and where each of them stands."""
        writer = self._writer(self.events)
        for n in range(count):
            event = {**EXAMPLE, "event_id": f"e-{n}", "conversation_id": f"room-{n % 17}"}
            writer.send(record_key(event["tenant"], event["conversation_id"]), msgspec.json.encode(event))
        writer.finish()
        batches = read_records(
            self.options, self.events, start="beginning", follow=False, timeout_s=TIMEOUT_S
        )
        return [
            (
                msgspec.json.decode(record.value or b"", type=Event),
                Origin(topic=record.topic, partition=record.partition, offset=record.offset),
            )
            for batch in batches
            for record in batch
        ]

    def review(self, *reviews: Review | bytes) -> None:
        writer = self._writer(self.reviews)
        for review in reviews:
            if isinstance(review, bytes):
                writer.send(b"k", review)
            else:
                writer.send(review.decision_id.encode(), msgspec.json.encode(review))
        writer.finish()

    def _writer(self, topic: str) -> RecordWriter:
        return RecordWriter(self.options, topic, timeout_s=TIMEOUT_S, delivery_timeout_ms=30_000)


def make_review(event: Event, origin: Origin, **changes: Any) -> Review:
    fields: dict[str, Any] = {
        "review_id": f"r-{event.event_id}",
        "decision_id": decision_id(origin=origin, event_id=event.event_id),
        "origin": origin,
        "reviewer": "reviewer-1",
        "label": "unsafe",
        "reviewed_at": NOON,
        "categories": ("C1",),
    }
    return Review(**(fields | changes))


@pytest.fixture
def stream(
    local_stack: Addresses, fresh_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Stream:
    found = Stream(
        client_options(KafkaSettings(bootstrap_servers=local_stack.bootstrap_servers)),
        fresh_name("events"),
        fresh_name("reviews"),
    )
    monkeypatch.setenv("RSAFE_KAFKA__BOOTSTRAP_SERVERS", local_stack.bootstrap_servers)
    monkeypatch.setenv("RSAFE_KAFKA__EVENTS_TOPIC", found.events)
    monkeypatch.setenv("RSAFE_KAFKA__REVIEWS_TOPIC", found.reviews)
    return found


def export(output: Path, *arguments: str) -> Result:
    return CliRunner().invoke(train, ["export", "--output", str(output), *arguments], catch_exceptions=False)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("read_over", [10, 10_000])
def test_reviews_meet_their_events_wherever_these_stand(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_over: int
) -> None:
    """Whether the reader jumps from one to the next, or reads over what is between."""
    monkeypatch.setattr(origins, "_READ_OVER", read_over)
    stream.create()
    made = stream.produce(6000)
    chosen = made[::997] + made[5:9]
    later = make_review(*chosen[0], review_id="later", label="safe", reviewed_at=NOON + timedelta(days=1))
    stream.review(later, *(make_review(*one) for one in chosen))
    result = export(tmp_path / "rows.jsonl")
    assert f"{len(chosen)} rows" in result.stdout
    rows = {row["meta"]["decision_id"]: row for row in rows_of(tmp_path / "rows.jsonl")}
    assert len(rows) == len(chosen)
    for event, origin in chosen:
        row = rows[decision_id(origin=origin, event_id=event.event_id)]
        assert row["messages"][-1] == {"role": event.message.role, "content": event.message.text}
        wanted = ("later", "safe") if (event, origin) == chosen[0] else (f"r-{event.event_id}", "unsafe")
        assert (row["meta"]["review_id"], row["label"]) == wanted
        assert (row["meta"]["policy"], row["meta"]["policy_from"]) == ("community", "settings")
    before = (tmp_path / "rows.jsonl").read_bytes()
    export(tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_bytes() == before


def test_expired_events_are_counted_and_the_rest_is_written(stream: Stream, tmp_path: Path) -> None:
    stream.create()
    made = stream.produce(300)
    by_partition = {origin.partition: (event, origin) for event, origin in made}
    lost = next(one for one in made if one[1].offset == 0)
    cut = lost[1].partition
    with AdminClient(stream.options) as admin:
        for future in admin.delete_records([TopicPartition(stream.events, cut, 20)]).values():
            future.result(TIMEOUT_S)
    kept = by_partition[cut]
    beyond = msgspec.structs.replace(kept[1], offset=1_000_000)
    stream.review(
        make_review(*lost),
        make_review(*kept),
        make_review(kept[0], beyond),
        make_review(kept[0], Origin(topic="a-topic-that-was-deleted", partition=0, offset=1)),
    )
    report = json.loads(export(tmp_path / "rows.jsonl", "--json").stdout)
    assert (report["gone"], report["rows"]) == ({"expired": 1, "absent": 2}, {"unsafe": 1})
    assert [row["meta"]["review_id"] for row in rows_of(tmp_path / "rows.jsonl")] == [f"r-{kept[0].event_id}"]


def test_what_is_no_review_or_leads_to_another_event_is_named_and_ends_with_1(
    stream: Stream, tmp_path: Path
) -> None:
    stream.create()
    (first, _), second, *_ = stream.produce(20)
    stream.review(make_review(*second), make_review(first, second[1]), b"{}", b"no json")
    with pytest.raises(ReviewsLeft, match=r"3 reviews could not be used: invalid 1, other_event 1, undecod"):
        export(tmp_path / "rows.jsonl")
    assert len(rows_of(tmp_path / "rows.jsonl")) == 1


def test_what_a_transaction_took_back_is_absent(stream: Stream, fresh_name: Callable[[str], str]) -> None:
    stream.create()
    producer = Producer({**stream.options, "transactional.id": fresh_name("id")})
    producer.init_transactions(TIMEOUT_S)
    for number, ending in enumerate((producer.commit_transaction, producer.abort_transaction) * 2):
        producer.begin_transaction()
        producer.produce(stream.events, b"%d" % number, b"k", partition=0)
        assert producer.flush(TIMEOUT_S) == 0
        ending(TIMEOUT_S)
    # Each transaction is a record and its mark.
    wanted = {(stream.events, 0): [*range(8)]}
    found = list(fetch_records(stream.options, wanted, needed_topic=stream.events, timeout_s=TIMEOUT_S))
    assert [one.offset for one in found] == [*range(8)]
    there = {one.offset: one.value for one in found if not isinstance(one, Gone)}
    assert there == {0: b"0", 4: b"2"}


def test_a_topic_of_reviews_that_is_not_there_is_told(stream: Stream, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=f"there is no topic {stream.reviews}; `rsafe topics create`"):
        export(tmp_path / "rows.jsonl")
    assert list(tmp_path.iterdir()) == []
