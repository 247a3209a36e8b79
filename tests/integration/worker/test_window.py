"""The window on a real broker: a slow message, and partitions that leave while they are paused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from schemas.keys import record_key
from tests.integration.worker.harness import Topics, event, events, order_inversions
from tests.waiting import PATIENCE_S, wait_for
from workers.adapters.kafka import KafkaSource
from workers.ports import Record
from workers.settings import FAULTS_VARIABLE, FAULTS_WORD, KafkaSettings
from workers.stream.flow import Flow
from workers.stream.reader import Reader
from workers.stream.window import Caps, Load, Window

PER_PARTITION = 60
SLOW = "rsafe-fault slow:20s"


def test_a_slow_message_holds_back_its_partition_alone_and_the_metric_says_why(topics: Topics) -> None:
    values, keys = events(900, topics.name, conversations=60)
    slow = event("slow", "tenant-0", "conversation-0", f"please wait [[{SLOW}]] for {topics.name}")
    topics.produce([slow, *values], [record_key("tenant-0", "conversation-0"), *keys])
    placed = {record.value(): record.partition() for record in topics.records("events")}
    number = placed[slow]
    others = sum(placed[value] != number for value in values)
    worker = topics.start(
        **{
            FAULTS_VARIABLE: FAULTS_WORD,
            "RSAFE_GUARD__CALL_TIMEOUT_MS": "60000",
            "RSAFE_STREAM__BATCH_RECORDS": "20",
            "RSAFE_STREAM__IN_FLIGHT_RECORDS": str(4 * PER_PARTITION),
            "RSAFE_STREAM__IN_FLIGHT_RECORDS_PER_PARTITION": str(PER_PARTITION),
        }
    )

    def decided() -> int:
        return sum(decision.origin.partition != number for decision in topics.decisions())

    wait_for(lambda: decided() == others, "the decisions of the other partitions")
    shown = wait_for(
        lambda: next(
            (
                line
                for line in worker.get("/metrics").splitlines()
                if line.startswith(f'rsafe_oldest_uncommitted_seconds{{partition="{number}"')
            ),
            None,
        ),
        "the oldest offset",
    )
    assert 'waiting_for="guard"' in shown
    ahead = wait_for(
        lambda: [decision for decision in topics.decisions() if decision.origin.partition == number],
        "a decision behind the slow message",
    )
    assert 0 < len(ahead) < PER_PARTITION
    assert not any(decision.conversation_id == "conversation-0" for decision in ahead)
    topics.wait_decided(901)
    assert worker.stop() == 0
    decisions = topics.decisions()
    assert len({decision.decision_id for decision in decisions}) == len(decisions) == 901
    assert order_inversions(decisions) == 0


class Member:
    """A reader over the real source, without a loop."""

    def __init__(self, kafka: KafkaSettings) -> None:
        window = Window(Caps(1000, 10**9, 10**9), Caps(1000, 10**9, 10**9), batch=100)
        self.source = KafkaSource(kafka)
        self.reader = Reader(self.source, Flow(window), poll_s=0.05, stall_s=0.0, clock=_Clock())
        self.owned: set[int] = set()
        self.records: list[Record] = []

    async def assigned(self, partitions: Mapping[int, str]) -> None:
        self.owned |= partitions.keys()

    async def revoked(self, partitions: Sequence[int]) -> None:
        for number in partitions:
            self.owned.discard(number)
            self.reader.left(number)

    async def lost(self, partitions: Sequence[int]) -> None:
        await self.revoked(partitions)

    async def read(self) -> None:
        self.records += await self.reader.read(self.reader.plan(dict.fromkeys(self.owned, Load())))

    async def wait(self) -> None:
        assert not await self.reader.wait(long=True)


class _Clock:
    def now_ms(self) -> float:
        return time.time() * 1000

    def monotonic_s(self) -> float:
        return time.monotonic()


async def test_a_partition_that_left_while_all_were_paused_is_read_when_it_comes_back(topics: Topics) -> None:
    kafka = KafkaSettings(
        bootstrap_servers=topics.bootstrap, events_topic=f"{topics.name}.events", group_id=topics.name
    )
    first = Member(kafka)
    await first.source.join(first)
    async with asyncio.timeout(PATIENCE_S):
        while len(first.owned) < topics.partitions:
            await first.read()
        await first.wait()
        second = Member(kafka)
        await second.source.join(second)
        while not second.owned or first.owned & second.owned:
            await asyncio.gather(first.wait(), second.read())
        while len(first.owned) + len(second.owned) < topics.partitions:
            await asyncio.gather(first.wait(), second.read())
        await first.read()  # all that it has left are resumed
        leaving = asyncio.create_task(second.source.leave())
        while len(first.owned) < topics.partitions or not leaving.done():
            await first.read()
        await leaving
        values, keys = events(120, topics.name, conversations=40)
        topics.produce(values, keys)
        while len(first.records) < 120:
            await first.read()
    assert {record.partition for record in first.records} == set(range(topics.partitions))
    await first.source.leave()
