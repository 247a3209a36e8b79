"""The door to Kafka for the record path: records of one topic, as a member of the worker's group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.aio import AIOConsumer

from workers.adapters.kafka_errors import error_of, reaction, sentence
from workers.adapters.kafka_options import LOGGER, consumer_options
from workers.errors import StreamStopped
from workers.ports import Headers, Position, RebalanceListener, Record
from workers.settings import KafkaSettings

# Consume, and calls of rebalance callbacks within it; AIOConsumer serialises the rest.
_WORKERS: Final = 4
# 9999-12-31 in Unix milliseconds: topics that take the producer's timestamps may hold any number.
_LAST_TIMESTAMP_MS: Final = 253_402_214_400_000
# Offsets and notes of new partitions come from the coordinator; without, nothing is read. A broker that was
# killed is back within this, and a session lasts longer than one try. In seconds.
_COMMITTED_TRY_S: Final = 5.0
_COMMITTED_S: Final = 60.0
_COMMITTED_PAUSE_S: Final = 0.2


# The ends of partitions are asked for so often, each time for no longer than this, in seconds. What was not
# answered for a while is not known any more.
_ENDS_EVERY_S: Final = 5.0
_ENDS_TRY_S: Final = 1.0
_ENDS_KNOWN_S: Final = 60.0


LogIn = Callable[[str, str], None]
"""Gives a client another user and password; used from its next connection on. Never waits."""


class KafkaSource:
    """Records of one topic, as a member of the consumer group. Must be made within the running loop."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._topic = kafka.events_topic
        self._paused = self._idle = False
        self._failure: StreamStopped | None = None
        self._before_leave: list[Callable[[], None]] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._log_ins: list[LogIn] = []
        self._in_use, self._left = asyncio.Lock(), False
        self.starts: dict[int, int] = {}
        """What the group had committed of each partition when it was assigned; absent: nothing."""
        self.ends: Mapping[int, int] = {}
        """The next offset that the broker will give, of the partitions of which it told lately."""
        self._heard_at = time.monotonic()
        self._leaving = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._consumer = AIOConsumer(consumer_options(kafka), max_workers=_WORKERS)

    async def join(self, listener: RebalanceListener) -> None:
        """Subscribe; partitions come within `fetch`."""

        async def assigned(_: Any, partitions: list[TopicPartition]) -> None:
            try:
                found = await self._committed(partitions)
            except StreamStopped as error:
                # Raised by `fetch`: what a callback raises may be dropped by the client library. Nothing that
                # is read meanwhile is taken, since the listener does not know the partitions.
                self._failure = error
                return
            notes = {place.partition: _note(place) for place in found}
            # With their offsets: a client that asks for these itself, and is told that the coordinator has
            # moved, never reads the partitions (librdkafka 2.16, `rd_kafka_assignment_apply_offsets`).
            for place in found:
                self.starts.pop(place.partition, None)
                if place.offset < 0:
                    place.offset = OFFSET_BEGINNING
                else:
                    self.starts[place.partition] = place.offset
            await self._consumer.incremental_assign(found)
            if self._paused:
                await self._consumer.pause(found)
            await listener.assigned(notes)

        async def revoked(_: Any, partitions: list[TopicPartition]) -> None:
            await listener.revoked([p.partition for p in partitions])

        async def lost(_: Any, partitions: list[TopicPartition]) -> None:
            await listener.lost([p.partition for p in partitions])

        await self._consumer.subscribe([self._topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
        self._following = asyncio.create_task(self._follow_ends())
        self._following.add_done_callback(self._followed)

    async def fetch(self, limit: int, timeout_s: float) -> list[Record]:
        """What has come, up to `limit` records; waits so long for the first. Raises `StreamStopped`."""
        try:
            messages = await self._consume(limit, timeout_s)
        except KafkaException as error:
            raise StreamStopped(sentence("the Kafka consumer failed", error_of(error))) from error
        if self._failure is not None:
            raise self._failure
        return [record for message in messages if (record := _record(message)) is not None]

    async def _consume(self, limit: int, timeout_s: float) -> Sequence[Any]:
        """As `fetch`. With a timeout, `consume` would wait until that or the limit is reached, whatever has
        come; so it waits for one record alone, and only when there was none a moment ago."""
        if not self._idle:
            came: list[Any] = await self._consumer.consume(limit, 0)
            if came:
                return came
        first: list[Any] = await self._consumer.consume(1, timeout_s)
        self._idle = not first
        if not first or limit == 1:
            return first
        return [*first, *await self._consumer.consume(limit - 1, 0)]

    async def pause(self, partitions: Collection[int] | None = None) -> None:
        """Fetch nothing of these, or of any, later ones included."""
        if partitions is None:
            self._paused = True
        await self._consumer.pause(await self._assigned(partitions))

    async def resume(self, partitions: Collection[int] | None = None) -> None:
        """Fetch these again, or all."""
        if partitions is None:
            self._paused = False
        await self._consumer.resume(await self._assigned(partitions))

    async def commit(self, positions: Mapping[int, Position]) -> set[int]:
        """Commit, and say of which partitions the broker took it; the others may be tried again."""
        try:
            taken = await self._consumer.commit(offsets=self.places(positions), asynchronous=False)
        except KafkaException as error:
            if reaction(error_of(error)).stops:
                raise StreamStopped(sentence("offsets cannot be committed", error_of(error))) from error
            return set()
        for place in taken or ():
            if place.error is not None and reaction(place.error).stops:
                raise StreamStopped(sentence("offsets cannot be committed", place.error))
        return {place.partition for place in taken or () if place.error is None}

    def places(self, positions: Mapping[int, Position]) -> list[TopicPartition]:
        """Positions as the client library wants them; the note is the metadata of the offset."""
        return [
            TopicPartition(self._topic, number, at.offset, metadata=at.note)
            for number, at in positions.items()
        ]

    async def membership(self) -> bytes:
        """What tells a transaction's coordinator that this worker is in the group still."""
        return bytes(await self._consumer.consumer_group_metadata())

    async def leave(self) -> None:
        """Leave the group; partitions are given back within. The place of a static member is kept."""
        self._leaving.set()
        for drop in self._before_leave:
            drop()
        # Never beside `log_in`: what is being closed must not be called, not even by another thread.
        async with self._in_use:
            self._left = True
            try:
                if self._following is not None:
                    await asyncio.wait({self._following})
                await self._consumer.close()
            finally:
                for close in self._closers:
                    await close()

    def before_leave(self, drop: Callable[[], None]) -> None:
        """Call this before others get the partitions: nothing may be delivered for them any more."""
        self._before_leave.append(drop)

    def at_leave(self, close: Callable[[], Awaitable[None]]) -> None:
        """Call this when the group is left: nothing can be committed any more."""
        self._closers.append(close)

    async def log_in(self, username: str, password: str) -> None:
        """Log in with these from the next connection on; so do the clients that publish outcomes.

        Nothing happens once the group is being left.
        """
        async with self._in_use:
            if self._left:
                return
            for log_in in self._log_ins:
                log_in(username, password)
            await self._consumer.set_sasl_credentials(username, password)

    def at_log_in(self, log_in: LogIn) -> None:
        """Call this when the password changes."""
        self._log_ins.append(log_in)

    def silent_s(self) -> float:
        """For how long no broker has answered what it is asked every few seconds, up to a minute too much."""
        return time.monotonic() - self._heard_at

    async def _follow_ends(self) -> None:
        """Know where the partitions end until the group is left, whether they are read or paused."""
        pause_s = _ENDS_EVERY_S
        while not self._leaving.is_set():
            try:
                self.ends = await self._ask_ends()
                self._heard_at, pause_s = time.monotonic(), _ENDS_EVERY_S
            except KafkaException:  # the broker is away, or busy; what it said holds for a while
                # Nothing else is asked while this waits for an answer.
                pause_s = min(_ENDS_KNOWN_S, pause_s * 2)
                if self.silent_s() > _ENDS_KNOWN_S:
                    self.ends = {}
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), pause_s)

    async def _ask_ends(self) -> dict[int, int]:
        """Raises `KafkaException` when no broker answers, also where no partition is assigned."""
        places = await self._consumer.assignment()
        if not places:
            await self._consumer.list_topics(self._topic, _ENDS_TRY_S)
            return {}
        asked = [TopicPartition(place.topic, place.partition, OFFSET_END) for place in places]
        found = await self._consumer.offsets_for_times(asked, timeout=_ENDS_TRY_S)
        return {at.partition: at.offset for at in found if at.error is None and at.offset >= 0}

    def _followed(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:  # of our own code; raised by `fetch`
            name = type(error).__name__
            self._failure = StreamStopped(f"the ends of the partitions cannot be followed ({name})")
            self._failure.__cause__ = error

    async def _assigned(self, partitions: Collection[int] | None) -> list[TopicPartition]:
        held = await self._consumer.assignment()
        return [place for place in held if partitions is None or place.partition in partitions]

    async def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """What the group has committed of these: offset, note. Asked for again while the broker is away."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _COMMITTED_S
        while True:
            try:
                found = await self._consumer.committed(partitions, _COMMITTED_TRY_S)
                failed = next((place.error for place in found if place.error is not None), None)
            except KafkaException as error:
                failed = error_of(error)
            if failed is None:
                return list(found)
            if reaction(failed).stops or loop.time() > until:
                raise StreamStopped(sentence("the committed offsets cannot be read", failed))
            await asyncio.sleep(_COMMITTED_PAUSE_S)


def _note(place: TopicPartition) -> str:
    try:
        return str(place.metadata or "")
    except UnicodeDecodeError:  # not written by us
        return ""


def _record(message: Any) -> Record | None:
    error = message.error()
    if error is not None:
        what = reaction(error)
        if what.stops:
            raise StreamStopped(sentence("the Kafka consumer failed", error))
        LOGGER.warning("The broker reported an error that passes: %s (%s)", error.name(), what.reason)
        return None
    headers: Headers | None
    try:
        headers = message.headers()
    except UnicodeDecodeError:  # names that no client of ours can write; the record is read without them
        headers = None
    kind, timestamp = message.timestamp()
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        headers,
        min(max(timestamp, 0), _LAST_TIMESTAMP_MS),
        kind == TIMESTAMP_LOG_APPEND_TIME,
    )
