"""Outcomes exactly once: per commit one transaction with the finished prefix and the offsets behind it.

A record is finished when its outcome is ready, for only then can the prefix grow; it is sent when its prefix
is committed. A reader with `isolation.level=read_committed` sees each outcome once. While a transaction
cannot be brought to an end, nothing more is reported as finished, so that the window bounds what is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from workers.adapters.kafka import KafkaSource
from workers.adapters.kafka_options import LOGGER, client_options, transaction_options
from workers.adapters.kafka_stamps import Published, Stamped
from workers.adapters.kafka_transactor import Job, Outgoing, Result, Transactor
from workers.errors import StreamStopped
from workers.ports import Position, Publication, Record, Refused
from workers.settings import KafkaSettings

# How long `commit` waits for its transaction; it is waited for again in the next call. Rebalances and the
# liveness of the worker wait with it.
_WAIT_S: Final = 5.0
# Refused for its size in company, refused alone, and committed without it.
_TRIES: Final = 3
_OFFSETS_TIMEOUT_S: Final = 5.0


class _Assignment(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def discarded(self) -> bool: ...


class Ticketed(Protocol):
    """What `publish` needs of a ticket: the record, and the assignment under which it was read."""

    @property
    def partition(self) -> _Assignment: ...

    record: Record


@dataclass(eq=False, slots=True)
class _Shelf:
    """Outcomes of one assignment that are ready and not committed, by offset."""

    owner: _Assignment
    outcomes: dict[int, Outgoing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Running:
    """A transaction that is under way, and what it takes from the shelves when it is committed."""

    answer: asyncio.Future[Result]
    positions: Mapping[int, Position]
    shelves: Mapping[int, _Shelf]
    begun_s: float


class KafkaTransactions:
    """`Outcomes` exactly once. Must be made within the running loop."""

    def __init__(
        self,
        kafka: KafkaSettings,
        source: KafkaSource,
        *,
        transactional_id: str,
        topic_bytes: int | None = None,
        transactor: Transactor | None = None,
        clock: Stamped | None = None,
        published: Published | None = None,
    ) -> None:
        self._source, self._clock, self._published = source, clock, published
        self._patience_s = kafka.delivery_timeout_ms / 1000
        self._transactor = transactor or make_transactor(kafka, transactional_id, topic_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rsafe-transactions")
        self._thread.submit(self._transactor.prepare)
        self._shelves: dict[int, _Shelf] = {}
        self._ready: list[Ticketed] = []
        self._too_large: list[Refused] = []
        self._running: _Running | None = None
        self._failing: Collection[_Assignment] = ()
        self._failing_since: float | None = None
        source.at_leave(self.close)
        source.at_log_in(self._transactor.log_in)

    def publish(self, ticket: Ticketed, publication: Publication) -> None:
        """Keep until the offset of its record is committed; a later one for the same record replaces it."""
        owner, offset = ticket.partition, ticket.record.offset
        shelf = self._shelves.get(owner.number)
        if shelf is None or shelf.owner is not owner:
            shelf = self._shelves[owner.number] = _Shelf(owner)
        known = shelf.outcomes.get(offset)
        shelf.outcomes[offset] = Outgoing(ticket, publication, ticket.record)
        if known is None:
            self._ready.append(ticket)

    def collect(self) -> tuple[Sequence[Any], Sequence[Refused]]:
        """Tickets whose outcomes are ready, and outcomes that their topic refused."""
        too_large, self._too_large = self._too_large, []
        if self._fails():
            return (), too_large
        ready, self._ready = self._ready, []
        return ready, too_large

    async def commit(self, positions: Mapping[int, Position]) -> Collection[int]:
        """One transaction: what stands before the positions, and the positions."""
        until = asyncio.get_running_loop().time() + _WAIT_S
        if self._running is not None and await self._finish(until) is None:
            return ()
        for _ in range(_TRIES):
            positions = {number: at for number, at in positions.items() if not self._blocked(number, at)}
            if not positions:
                return ()
            await self._begin(positions)
            result = await self._finish(until)
            if result is None:
                return ()
            if result.committed:
                return tuple(positions)
            if not result.refused:
                LOGGER.warning("A transaction was undone and will be tried again: %s", result.why)
                return ()
        return ()

    async def flush(self, timeout_s: float) -> None:
        """Nothing is under way between commits."""

    async def close(self) -> None:
        """End the thread; what is not committed is not claimed to be."""
        self._transactor.close()
        if self._running is not None:
            await asyncio.wait({self._running.answer})
            self._running.answer.exception()  # told already, or nobody waits any more
            self._running = None
        await asyncio.get_running_loop().run_in_executor(None, self._end)

    def _end(self) -> None:
        self._thread.shutdown()
        self._transactor.end()  # closes connections, which may take a moment

    async def _begin(self, positions: Mapping[int, Position]) -> None:
        self._shelves = {n: shelf for n, shelf in self._shelves.items() if not shelf.owner.discarded}
        shelves = {number: shelf for number in positions if (shelf := self._shelves.get(number)) is not None}
        outgoing = [
            shelf.outcomes[offset]
            for number, shelf in shelves.items()
            for offset in sorted(shelf.outcomes)
            if offset < positions[number].offset
        ]
        job = Job(
            outgoing=outgoing,
            places=self._source.places(positions),
            moved=frozenset(outcome.ticket.partition.number for outcome in outgoing),
            membership=await self._source.membership(),
        )
        begun_s = 0.0 if self._clock is None else self._clock.monotonic_s()
        answer = asyncio.get_running_loop().run_in_executor(self._thread, self._transactor.run, job)
        self._running = _Running(answer, positions, shelves, begun_s)

    async def _finish(self, until: float) -> Result | None:
        """The result of the transaction under way; None when it is under way still."""
        running, loop = self._running, asyncio.get_running_loop()
        assert running is not None
        await asyncio.wait({running.answer}, timeout=max(0.0, until - loop.time()))
        if not running.answer.done():
            self._fail(running, loop.time(), "it takes too long")
            return None
        self._running = None
        result = running.answer.result()
        if result.committed:
            self._failing, self._failing_since = (), None
            if self._clock is not None:
                for stamp in result.stamps:
                    self._clock.reported(stamp, running.begun_s)
            for number, shelf in running.shelves.items():
                at = running.positions[number].offset
                sent = [outcome for o, outcome in shelf.outcomes.items() if o < at]
                for outcome in sent:
                    if outcome.publication.settled is not None:
                        outcome.publication.settled(True)
                if self._published is not None:
                    self._published([outcome.record.timestamp_ms for outcome in sent])
                shelf.outcomes = {o: outcome for o, outcome in shelf.outcomes.items() if o >= at}
        elif result.refused:
            self._sort_out(result.refused)
        else:
            self._fail(running, loop.time(), result.why)
        return result

    def _sort_out(self, refused: Sequence[Outgoing]) -> None:
        """What was refused in a batch with others goes alone next time; what was alone is too large."""
        for outcome in refused:
            if not outcome.alone:
                outcome.alone = True
            else:
                outcome.refused = True
                if outcome.publication.settled is not None:
                    outcome.publication.settled(False)
                outcome.ticket.record = outcome.record  # given up when the outcome was ready
                publication = outcome.publication
                letter = publication if publication.line is None else None
                self._too_large.append(Refused(outcome.ticket, letter))

    def _blocked(self, number: int, at: Position) -> bool:
        """Whether an outcome before the position was refused and nothing has taken its place yet."""
        shelf = self._shelves.get(number)
        return shelf is not None and any(
            outcome.refused for offset, outcome in shelf.outcomes.items() if offset < at.offset
        )

    def _fail(self, running: _Running, now: float, why: str) -> None:
        self._failing = [shelf.owner for shelf in running.shelves.values()]
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > self._patience_s:
            raise StreamStopped(f"no transaction was committed for {self._patience_s:g} s: {why}")

    def _fails(self) -> bool:
        """Whether a transaction failed whose partitions are here still; others will not be tried again."""
        if self._failing and all(owner.discarded for owner in self._failing):
            self._failing, self._failing_since = (), None
        return bool(self._failing)


def make_transactor(kafka: KafkaSettings, transactional: str, topic_bytes: int | None) -> Transactor:
    """Transactions on the real broker."""

    def make() -> Any:
        return Producer(transaction_options(kafka, transactional, topic_bytes))

    def committed(places: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
        bare = [TopicPartition(place.topic, place.partition) for place in places]
        asked = ConsumerGroupTopicPartitions(kafka.group_id, bare)
        with AdminClient(client_options(kafka) | {"logger": LOGGER}) as admin:
            if transactor.login is not None:
                admin.set_sasl_credentials(*transactor.login)
            answers = admin.list_consumer_group_offsets(
                [asked], require_stable=True, request_timeout=_OFFSETS_TIMEOUT_S
            )
            found: Sequence[TopicPartition] = answers[kafka.group_id].result().topic_partitions
        return found

    transactor = Transactor(make, committed)
    return transactor
