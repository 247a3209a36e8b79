"""The Faust application.

Three agents, each one record at a time: decisions and reviews become entries on the entries topic; entries
change the state under their key, in a table with a changelog.

An outcome is published and acknowledged, then the state is changed and its changelog acknowledged, and only
then is the record done. Faust's own acknowledgements are not used: it marks records as done that it skipped
in a rebalance, and records whose agent was cancelled. What is done is kept here, record by record, and that
is what is committed. An agent never raises, since Faust would go on behind the record: what cannot be
published stops the process, uncommitted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from schemas.escalation import Escalation
from schemas.keys import record_key
from workers.conduct.engine import Engine
from workers.conduct.entries import Entry, decode, encode
from workers.conduct.faust_door import changelog, faust_app, raw_topic
from workers.conduct.intake import Unreadable, read_decision, read_review
from workers.conduct.levels import PolicyOf
from workers.conduct.metrics import ConductMetrics
from workers.conduct.state import State, decode_state, encode_state
from workers.conduct.wire import escalation_record, letter_record
from workers.errors import StartError, StreamStopped
from workers.settings import Settings

# How often what is done is committed: what is done again after a crash, and harmless then.
_COMMIT_S: Final = 0.5
# How long a rebalance waits for the record in hand: well below the session time-out's default of 45 s.
_IDLE_S: Final = 20.0
Sent = tuple[Any, bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The state of this key is with another process, or not read yet."""


class ConductApp:
    """Counts conduct between `start` and `stop`; `failed` is set when it cannot go on."""

    def __init__(
        self, settings: Settings, engine: Engine, policy_of: PolicyOf, metrics: ConductMetrics
    ) -> None:
        self._settings, self._engine, self._policy_of = settings, engine, policy_of
        self._metrics = metrics
        self.failed = asyncio.Event()
        self.failure: BaseException | None = None
        self._done: dict[Any, int] = {}
        # One of each agent, held while it has a record in hand: a rebalance waits for them, or what is
        # written late would overwrite the next owner's state.
        self._in_hand: list[asyncio.Lock] = []
        self._stopping = False
        self._committer: asyncio.Task[None] | None = None
        kafka, conduct = settings.kafka, settings.conduct
        self._app = app = faust_app(settings)
        self._letters = raw_topic(app, kafka.dead_letters_topic)
        self._escalations = raw_topic(app, kafka.escalations_topic)
        self._entries = raw_topic(app, conduct.entries_topic)
        self._table = app.Table(
            "state", changelog_topic=changelog(app, conduct.state_topic), key_type=bytes, value_type=bytes
        )
        app.agent(raw_topic(app, kafka.decisions_topic), name="decisions")(self._agent(self._decision))
        app.agent(raw_topic(app, kafka.reviews_topic), name="reviews")(self._agent(self._review))
        app.agent(self._entries, name="entries")(self._agent(self._entry))
        self._sources = {kafka.decisions_topic, kafka.reviews_topic, conduct.entries_topic}
        app.on_partitions_revoked.connect(self._revoked)
        app.on_partitions_assigned.connect(self._assigned)

    async def start(self) -> None:
        """Join the group; state is read from its topic before anything is counted."""
        try:
            await self._app.start()
        except Exception as error:
            raise StartError(f"the conduct app did not start: {type(error).__name__}") from error
        self._committer = asyncio.create_task(self._commit_always())

    async def stop(self) -> None:
        """Finish the record in hand, commit, leave the group."""
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.gather(self._committer, return_exceptions=True)
        if self.failure is not None or self.crashed or self._app.consumer is None:
            self._stopping = True
            await self._app.stop()
            return
        async with self._idle():
            self._stopping = True
            await self._commit()
            await self._app.stop()

    @property
    def crashed(self) -> bool:
        """Whether Faust gave up by itself."""
        return bool(self._app.crashed)

    @property
    def crash_reason(self) -> BaseException | None:
        """Why it gave up."""
        reason: BaseException | None = self._app.crash_reason
        return reason

    @property
    def ready(self) -> bool:
        """Whether partitions are assigned and their state is read."""
        return bool(self._partitions()) and not self._app.in_recovery and not self._app.rebalancing

    def state(self, key: bytes) -> State | Elsewhere | None:
        """What is remembered under a key."""
        if not self.ready:
            return Elsewhere()
        stored = self._table.get(key)
        if stored is not None:
            return decode_state(stored)
        topic = self._settings.conduct.entries_topic
        count = self._app.consumer.topic_partitions(topic)
        if count is None:
            return Elsewhere()
        partition = self._app.producer.key_partition(topic, key).partition
        return None if partition in self._partitions() else Elsewhere()

    def states(self) -> Iterator[tuple[bytes, State]]:
        """Everything that is remembered here."""
        for key, value in self._table.items():
            yield key, decode_state(value)

    async def publish(self, entries: Iterable[Entry]) -> None:
        """Put entries on their topic; returns when they are acknowledged."""
        await self._send([_of(self._entries, entry) for entry in entries])

    def _partitions(self) -> set[int]:
        topic = self._settings.conduct.entries_topic
        assigned = self._app.consumer.assignment() if self._app.consumer is not None else ()
        return {one.partition for one in assigned if one.topic == topic}

    def _agent(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        in_hand = asyncio.Lock()
        self._in_hand.append(in_hand)

        async def body(stream: Any) -> None:
            async for event in stream.events():
                async with in_hand:
                    try:
                        await step(event)
                    except Exception as error:  # noqa: BLE001 - the outermost loop: it stops, uncommitted
                        self._fail(error)
                    else:
                        message = event.message
                        self._done[message.tp] = message.offset + 1
                        continue
                await _for_ever()

        return body

    async def _decision(self, event: Any) -> None:
        self._metrics.conduct_behind.set(max(0.0, time.time() - event.message.timestamp))
        await self._take("decisions", event, read_decision(event.message.value, self._policy_of))

    async def _review(self, event: Any) -> None:
        await self._take("reviews", event, read_review(event.message.value))

    async def _take(self, source: str, event: Any, read: Sequence[Entry] | Unreadable) -> None:
        if isinstance(read, Unreadable):
            await self._send([(self._letters, *letter_record(event.message, read))])
            self._metrics.conduct_records.labels(source, "dead_letter").inc()
            return
        if read:
            await self.publish(read)
        self._metrics.conduct_records.labels(source, "counts" if read else "nothing").inc()

    async def _entry(self, event: Any) -> None:
        entry = decode(event.message.value)
        if entry is None:
            unreadable = Unreadable("invalid", "$", "expected an entry of the conduct app")
            return await self._take("entries", event, unreadable)
        key = entry.subject.key
        stored = self._table.get(key)
        step = self._engine.apply(None if stored is None else decode_state(stored), entry)
        sent = [_of(self._entries, one) for one in step.entries]
        sent += [self._told(one) for one in step.escalations]
        await self._send(sent)
        after = None if step.state is None else encode_state(step.state)
        if after != stored:
            await self._keep(event.message.partition, key, after)
        self._metrics.conduct_entries.labels(step.result).inc()
        for made in step.escalations:
            self._metrics.conduct_escalations.labels(made.change, made.recommend).inc()
        return None

    async def _keep(self, partition: int, key: bytes, value: bytes | None) -> None:
        """Change the store and its changelog; returns when the changelog has it.

        Not by the table itself, which does not tell whether the changelog was written.
        """
        waiting = self._table.send_changelog(partition, key, value)
        if value is None:
            del self._table.data[key]
        else:
            self._table.data[key] = value
        await waiting

    def _told(self, made: Escalation) -> Sent:
        source = f"/rsafe-stream/{self._settings.conduct.group_id}".encode()
        value, headers = escalation_record(made, source)
        return self._escalations, record_key(made.tenant, made.subject), value, headers

    async def _send(self, records: Sequence[Sent]) -> None:
        waiting = [
            await topic.send(key=key, value=value, headers=list(headers))
            for topic, key, value, headers in records
        ]
        for one in waiting:
            await one

    async def _revoked(self, *_: Any, **__: Any) -> None:
        if self._stopping:
            return  # nothing is in hand, and all is committed
        async with self._idle():
            await self._commit()
            self._done.clear()

    async def _assigned(self, _app: Any, assigned: Iterable[Any], **_: Any) -> None:
        """Go back to the beginning of partitions without a committed offset.

        After a rebalance Faust reads again from committed offsets, since it threw away what it had read.
        Where none is committed yet its client stays where it was, and those records would be lost.
        """
        consumer = self._app.consumer
        sources = [tp for tp in assigned if tp.topic in self._sources]
        committed = await consumer.seek_to_committed() if sources else {}
        for tp in sources:
            if not committed.get(tp):
                earliest = await consumer.earliest_offsets(tp)
                await consumer.seek(tp, earliest[tp])

    @asynccontextmanager
    async def _idle(self) -> AsyncIterator[None]:
        """No agent has a record in hand. Raises `TimeoutError` when one takes too long."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(_IDLE_S):
                for one in self._in_hand:
                    await stack.enter_async_context(one)
            yield

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.failed.set()

    async def _commit_always(self) -> None:
        try:
            while True:
                await asyncio.sleep(_COMMIT_S)
                self._metrics.conduct_partitions.set(len(self._partitions()))
                await self._commit()
        except Exception as error:  # noqa: BLE001 - nobody awaits this task; the app stops, uncommitted
            self._fail(error)

    async def _commit(self) -> None:
        done, assigned = dict(self._done), self._app.consumer.assignment()
        mine = {tp: offset for tp, offset in done.items() if tp in assigned}
        if mine and await self._app.consumer._commit(mine):  # what Faust commits is what it acknowledged
            for tp, offset in mine.items():
                if self._done.get(tp) == offset:
                    del self._done[tp]


async def _for_ever() -> NoReturn:
    """The record in hand is never done; the process is about to stop."""
    while True:
        await asyncio.Event().wait()


def _of(topic: Any, entry: Entry) -> Sent:
    return topic, entry.subject.key, encode(entry), ()


def stopped(app: ConductApp) -> StreamStopped:
    """Why the app cannot go on. The kind of error only: its words may hold a record."""
    error = app.failure or app.crash_reason
    if isinstance(error, StreamStopped):
        return error
    return StreamStopped(
        f"the conduct app cannot go on: {type(error).__name__}; nothing unfinished was committed"
    )
