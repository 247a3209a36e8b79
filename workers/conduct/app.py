"""The Faust application.

Three agents, each one record at a time: decisions and reviews become entries on the entries topic; entries
change the state under their key, in a table with a changelog.

An outcome is published and acknowledged, then the change of the state is in its changelog, then in the store,
and only then is the record done. Faust's own acknowledgements are not used: it marks records as done that it
skipped in a rebalance, and records whose agent was cancelled. Which record comes next is kept here, partition
by partition (`reading`), and that is what is committed. An agent never raises, since Faust would go on behind
the record: what cannot be published stops the process, uncommitted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

from schemas.escalation import Escalation
from schemas.keys import record_key
from workers.conduct.counting import Counting
from workers.conduct.engine import Engine, Step
from workers.conduct.entries import Entry, Erase, decode, encode
from workers.conduct.faust_door import faust_app, raw_topic
from workers.conduct.intake import Unreadable, decode_decision, entries_of, read_review, version_named
from workers.conduct.levels import RuleBook
from workers.conduct.metrics import ConductMetrics
from workers.conduct.reading import Reading
from workers.conduct.state import State, decode_state
from workers.conduct.states import Sent, States
from workers.conduct.wire import escalation_record, letter_record
from workers.errors import StartError, StreamStopped
from workers.settings import Settings

# How often what is done is committed: what is done again after a crash, and harmless then.
_COMMIT_S: Final = 0.5
# How long a rebalance waits for the record in hand: well below the session time-out's default of 45 s.
_IDLE_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The state of this key is with another process, or not read yet."""


class ConductApp:
    """Counts conduct between `start` and `stop`; `failed` is set when it cannot go on."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        book: RuleBook,
        metrics: ConductMetrics,
        arrival: Callable[[str], Awaitable[None]],
    ) -> None:
        self._settings, self._book = settings, book
        self._arrival = arrival
        self._metrics = metrics
        self.failed = asyncio.Event()
        self.failure: BaseException | None = None
        # One of each agent, held while it has a record in hand: a rebalance waits for them, or what is
        # written late would overwrite the next owner's state.
        self._in_hand: list[asyncio.Lock] = []
        self._joined = self._stopping = False
        self._committer: asyncio.Task[None] | None = None
        kafka, conduct = settings.kafka, settings.conduct
        self._app = app = faust_app(settings)
        self._letters = raw_topic(app, kafka.dead_letters_topic)
        self._escalations = raw_topic(app, kafka.escalations_topic)
        self._entries = raw_topic(app, conduct.entries_topic)
        self._states = States(app, settings, self._send)
        app.agent(raw_topic(app, kafka.decisions_topic), name="decisions")(self._agent(self._decision))
        app.agent(raw_topic(app, kafka.reviews_topic), name="reviews")(self._agent(self._review))
        app.agent(self._entries, name="entries")(self._agent(self._entry))
        self._reading = Reading(
            app, (kafka.decisions_topic, kafka.reviews_topic, conduct.entries_topic), self._fill
        )
        self._counting = Counting(engine, self._states, self, metrics, self._mine)
        app.on_partitions_revoked.connect(self._revoked)
        app.on_partitions_assigned.connect(self._assigned)

    async def start(self) -> None:
        """Join the group; state is read from its topic before anything is counted."""
        try:
            await self._app.start()
        except Exception as error:
            raise StartError(f"the conduct app did not start: {type(error).__name__}") from error
        self._joined = True
        self._committer = asyncio.create_task(self._commit_always())

    async def stop(self) -> None:
        """Finish the record in hand, commit, leave the group."""
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.gather(self._committer, return_exceptions=True)
        if self._joined and self.failure is None and not self.crashed:
            try:
                async with self._idle():
                    self._stopping = True
                    await self._commit()
                    await self._app.stop()
                    return
            except Exception as error:  # noqa: BLE001 - Faust's thread is no daemon: it has to be stopped
                self.fail(error)
        self._stopping = True
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
        return bool(self._partitions()) and not self._reading.resting

    def state(self, key: bytes) -> State | Elsewhere | None:
        """What is remembered under a key."""
        if not self.ready:
            return Elsewhere()
        stored = self._states.get(key)
        if stored is not None:
            return decode_state(stored)
        topic = self._settings.conduct.entries_topic
        count = self._app.consumer.topic_partitions(topic)
        if count is None:
            return Elsewhere()
        partition = self._app.producer.key_partition(topic, key).partition
        return None if partition in self._partitions() else Elsewhere()

    async def states(self) -> AsyncIterator[list[State]]:
        """Everything that is remembered here, some at a time; ends early where partitions go."""
        for partition in sorted(self._partitions()):
            async for chunk in self._states.chunks(partition, partial(self._has, partition)):
                yield [decode_state(value) for _, value in chunk]

    async def publish(self, entries: Iterable[Entry]) -> None:
        """Put entries on their topic; returns when they are acknowledged."""
        await self._send([_of(self._entries, entry) for entry in entries])

    def _mine(self, tp: Any) -> bool:
        return self.failure is None and self._reading.here(tp)

    def _has(self, partition: int) -> bool:
        return self.ready and partition in self._partitions()

    def _partitions(self) -> set[int]:
        topic = self._settings.conduct.entries_topic
        assigned = self._app.consumer.assignment() if self._joined else ()
        return {one.partition for one in assigned if one.topic == topic}

    def _agent(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        in_hand = asyncio.Lock()
        self._in_hand.append(in_hand)

        async def body(stream: Any) -> None:
            async for event in stream.events():
                async with in_hand:
                    try:
                        await self._reading.one(event, step)
                    except Exception as error:  # noqa: BLE001 - the outermost loop: it stops, uncommitted
                        self.fail(error)
                    else:
                        continue
                await _for_ever()

        return body

    async def _decision(self, event: Any) -> None:
        self._metrics.conduct_behind.set(max(0.0, time.time() - event.message.timestamp))
        decision = decode_decision(event.message.value)
        await self._arrival(version_named(decision))
        read = decision if isinstance(decision, Unreadable) else entries_of(decision, self._book)
        await self._take("decisions", event, read)

    async def _review(self, event: Any) -> None:
        await self._take("reviews", event, read_review(event.message.value))

    async def _take(self, source: str, event: Any, read: Sequence[Entry] | Unreadable) -> None:
        if isinstance(read, Unreadable):
            await self.publish(read.entries)
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
        await self._counting.take(event.message.tp, entry)
        return None

    async def step(self, made: Step) -> None:
        """Publish what a step leads to: see `counting.Publish`."""
        for entry in made.entries:
            if isinstance(entry, Erase):
                await self._everywhere(entry)
        sent = [_of(self._entries, one) for one in made.entries if not isinstance(one, Erase)]
        await self._send([*sent, *(self._told(one) for one in made.escalations)])

    async def _everywhere(self, entry: Entry) -> None:
        count = self._app.consumer.topic_partitions(self._settings.conduct.entries_topic)
        if count is None:
            raise StreamStopped("the number of partitions of the topic of entries is not known")
        for partition in range(count):
            await self._send([_of(self._entries, entry)], partition)

    async def _fill(self, tps: Iterable[Any]) -> None:
        topic = self._settings.conduct.entries_topic
        await self._states.fill([tp.partition for tp in tps if tp.topic == topic])

    def _told(self, made: Escalation) -> Sent:
        source = f"/rsafe-stream/{self._settings.conduct.group_id}".encode()
        value, headers = escalation_record(made, source)
        return self._escalations, record_key(made.tenant, made.subject), value, headers

    async def _send(self, records: Sequence[Sent], partition: int | None = None) -> list[Any]:
        waiting = [
            await topic.send(key=key, value=value, headers=list(headers), partition=partition)
            for topic, key, value, headers in records
        ]
        return [await one for one in waiting]

    async def _revoked(self, *_: Any, **__: Any) -> None:
        if self._stopping:
            return  # nothing is in hand, and all is committed
        async with self._idle():
            await self._commit()
            self._reading.end()

    async def _assigned(self, _app: Any, assigned: Iterable[Any], **_: Any) -> None:
        self._states.begin()
        await self._reading.begin(assigned)

    @asynccontextmanager
    async def _idle(self) -> AsyncIterator[None]:
        """No agent has a record in hand. Raises `TimeoutError` when one takes too long."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(_IDLE_S):
                for one in self._in_hand:
                    await stack.enter_async_context(one)
            yield

    def fail(self, error: BaseException) -> None:
        """The process cannot go on because of this: it is to be stopped. The first one counts."""
        self.failure = self.failure or error
        self.failed.set()

    async def _commit_always(self) -> None:
        try:
            while True:
                await asyncio.sleep(_COMMIT_S)
                self._metrics.conduct_partitions.set(len(self._partitions()))
                await self._reading.settle()
                await self._commit()
        except Exception as error:  # noqa: BLE001 - nobody awaits this task; the app stops, uncommitted
            self.fail(error)

    async def _commit(self) -> None:
        self._states.note()
        await self._reading.commit()


async def _for_ever() -> NoReturn:
    """The record in hand is never done; the process is about to stop."""
    while True:
        await asyncio.Event().wait()


def _of(topic: Any, entry: Entry) -> Sent:
    return topic, entry.subject.key, encode(entry), ()
