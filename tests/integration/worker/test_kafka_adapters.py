"""The adapters on a real broker, without a worker around them: notes, transactions, groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.integration.worker.harness import Topics
from workers.adapters.kafka import KafkaSource
from workers.adapters.kafka_options import transactional_id
from workers.adapters.kafka_outcomes import KafkaOutcomes
from workers.adapters.kafka_transactions import KafkaTransactions
from workers.ports import Outcomes, Position, Publication, Record
from workers.settings import KafkaSettings

PATIENCE_S = 60.0
# As long as a note may be, with characters of several bytes.
NOTE = '{"né":"' + "ü" * 1490 + '"}'
DELIVERIES = ["at-least-once", "exactly-once"]


class Assignment:
    def __init__(self, number: int) -> None:
        self.number, self.discarded = number, False


class Ticket:
    def __init__(self, partition: Assignment, record: Record) -> None:
        self.partition, self.record = partition, record


class Listener:
    """Remembers what it has, and the notes that came with it."""

    def __init__(self) -> None:
        self.notes: dict[int, str] = {}

    async def assigned(self, partitions: Mapping[int, str]) -> None:
        self.notes.update(partitions)

    async def revoked(self, partitions: Sequence[int]) -> None:
        for number in partitions:
            self.notes.pop(number)

    async def lost(self, partitions: Sequence[int]) -> None:
        await self.revoked(partitions)


class Member:
    """A source with its outcomes."""

    def __init__(self, kafka: KafkaSettings, worker: str) -> None:
        self.source, self.listener = KafkaSource(kafka), Listener()
        self.outcomes: Outcomes = (
            KafkaOutcomes(kafka, self.source)
            if kafka.delivery == "at-least-once"
            else KafkaTransactions(kafka, self.source, transactional_id=transactional_id(kafka, worker))
        )

    async def until(self, condition: Callable[[], Any]) -> list[Record]:
        """Fetch until the condition holds; what came meanwhile."""
        records: list[Record] = []
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                records += await self.source.fetch(100, 0.05)
        return records

    async def commit(self, positions: Mapping[int, Position]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while set(await self.outcomes.commit(positions)) != set(positions):
                await self.source.fetch(1, 0.05)


@asynccontextmanager
async def member(kafka: KafkaSettings, worker: str = "one") -> AsyncIterator[Member]:
    made = Member(kafka, worker)
    await made.source.join(made.listener)
    try:
        yield made
    finally:
        await made.source.leave()


def settings(topics: Topics, **more: Any) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=topics.bootstrap,
        group_id=topics.name,
        events_topic=f"{topics.name}.events",
        decisions_topic=f"{topics.name}.decisions",
        dead_letters_topic=f"{topics.name}.dead",
        session_timeout_ms=6000,
        **more,
    )


def seen(topics: Topics, topic: str, isolation: str = "read_committed") -> list[bytes]:
    """Values that a reader of this isolation sees up to the end, in order per partition."""
    return [message.value() for message in topics.records(topic, isolation)]


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_notes_come_back_to_the_next_member(topics: Topics, delivery: str) -> None:
    kafka = settings(topics, delivery=delivery)
    async with member(kafka) as first:
        await first.until(lambda: len(first.listener.notes) == 3)
        assert set(first.listener.notes.values()) == {""}
        await first.commit({0: Position(0, NOTE), 1: Position(0, "other")})
        await first.commit({1: Position(0, "")})
    async with member(kafka, "two") as second:
        await second.until(lambda: len(second.listener.notes) == 3)
        assert second.listener.notes == {0: NOTE, 1: "", 2: ""}


async def test_a_transaction_holds_outcomes_and_offsets_or_neither(topics: Topics) -> None:
    topics.produce([b"%d" % number for number in range(20)], [b"same key"] * 20)
    kafka = settings(topics, delivery="exactly-once")
    async with member(kafka) as first:
        records = await first.until(lambda: len(first.listener.notes) == 3)
        while len(records) < 20:
            records += await first.source.fetch(20, 0.1)
        assignment = Assignment(records[0].partition)
        for record in records:
            publication = Publication(f"{topics.name}.decisions", b"k", record.value, [], b"k")
            first.outcomes.publish(Ticket(assignment, record), publication)
        await first.commit({assignment.number: Position(records[12].offset)})
        assert seen(topics, "decisions") == [b"%d" % number for number in range(12)]
    # What was ready and not committed is gone with the worker, and read again by the next.
    async with member(kafka, "two") as second:
        again = await second.until(lambda: second.listener.notes)
        while len(again) < 8:
            again += await second.source.fetch(20, 0.1)
        assert [record.value for record in again] == [b"%d" % number for number in range(12, 20)]
    assert len(seen(topics, "decisions")) == 12


async def test_a_member_that_lost_its_partitions_cannot_commit(topics: Topics) -> None:
    """A worker that was away for a session: its offsets and outcomes are refused together."""
    topics.produce([b"1"], [b"k"])
    kafka = settings(topics, delivery="exactly-once", max_poll_interval_ms=6000)
    async with member(kafka) as slow:
        found = await slow.until(lambda: len(slow.listener.notes) == 3)
        (record,) = found or await slow.source.fetch(1, 10)
        assignment = Assignment(record.partition)
        publication = Publication(f"{topics.name}.decisions", b"k", b"of the slow one", [], b"k")
        slow.outcomes.publish(Ticket(assignment, record), publication)
        async with member(kafka, "two") as quick:
            # The slow one does not fetch, so its partitions go to the quick one.
            await quick.until(lambda: len(quick.listener.notes) == 3)
            assert set(await slow.outcomes.commit({assignment.number: Position(record.offset + 1)})) == set()
            assert seen(topics, "decisions") == []


async def test_what_a_killed_member_left_open_is_ended_by_the_next_start_of_its_id(topics: Topics) -> None:
    kafka = settings(topics, delivery="exactly-once", group_instance_id="worker-0")
    left = Producer(
        {
            "bootstrap.servers": topics.bootstrap,
            "transactional.id": transactional_id(kafka, "unused"),
            "transaction.timeout.ms": 600_000,
        }
    )
    left.init_transactions(30)
    left.begin_transaction()
    left.produce(f"{topics.name}.decisions", b"of the killed one")
    left.flush(30)
    async with member(kafka) as heir:
        await heir.until(lambda: len(heir.listener.notes) == 3)
        await heir.commit({0: Position(0, "n")})
        # Readers are not held up by what was left open, and never see it.
        assert seen(topics, "decisions") == []
        assert seen(topics, "decisions", "read_uncommitted") == [b"of the killed one"]


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_the_consumer_protocol_moves_partitions_and_keeps_notes(topics: Topics, delivery: str) -> None:
    kafka = settings(topics, group_protocol="consumer", delivery=delivery)
    async with member(kafka) as first:
        await first.until(lambda: len(first.listener.notes) == 3)
        await first.commit({number: Position(0, f"note {number}") for number in range(3)})
        async with member(kafka, "two") as second:
            async with asyncio.timeout(PATIENCE_S):
                while not second.listener.notes:
                    await asyncio.gather(first.source.fetch(1, 0.05), second.source.fetch(1, 0.05))
            assert second.listener.notes == {n: f"note {n}" for n in second.listener.notes}
        await first.until(lambda: len(first.listener.notes) == 3)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_a_static_member_that_leaves_and_returns_moves_nothing_of_others(
    topics: Topics, protocol: str
) -> None:
    kafka = settings(topics, group_protocol=protocol)
    named = kafka.model_copy(update={"group_instance_id": "worker-0"})
    other = kafka.model_copy(update={"group_instance_id": "worker-1"})
    async with member(other) as stays:
        async with member(named) as leaves:
            async with asyncio.timeout(PATIENCE_S):
                while not (0 < len(leaves.listener.notes) == 3 - len(stays.listener.notes) < 3):
                    await asyncio.gather(leaves.source.fetch(1, 0.05), stays.source.fetch(1, 0.05))
            had, kept = set(leaves.listener.notes), set(stays.listener.notes)
        async with member(named) as returns:
            async with asyncio.timeout(PATIENCE_S):
                while not returns.listener.notes:
                    await asyncio.gather(returns.source.fetch(1, 0.05), stays.source.fetch(1, 0.05))
                    assert set(stays.listener.notes) == kept
            assert set(returns.listener.notes) == had


async def test_the_ends_of_partitions_are_known_also_while_nothing_is_read(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.adapters.kafka._ENDS_EVERY_S", 0.05)
    async with member(settings(topics)) as only:
        await only.until(lambda: only.source.ends == {0: 0, 1: 0, 2: 0})
        await only.source.pause()
        producer = Producer({"bootstrap.servers": topics.bootstrap})
        for _ in range(7):
            producer.produce(f"{topics.name}.events", b"v", partition=1)
        producer.flush(30)
        await only.until(lambda: only.source.ends == {0: 0, 1: 7, 2: 0})
        assert only.source.starts == {}
        await only.commit({1: Position(3)})
    async with member(settings(topics)) as later:
        await later.until(lambda: len(later.listener.notes) == 3)
        assert later.source.starts == {1: 3}
