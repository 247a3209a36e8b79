"""Follows the topic of policies: a change is in force for what is read from then on.

Events are judged by snapshots. Records are taken in beside the stream, in a thread, and a new snapshot takes
the place of the old one only when everything that has come is in it; at the start, and after new credentials,
only when the topic's end was reached.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, Protocol

from pydantic import SecretStr

from schemas.dead_letter import DeadLetter
from schemas.policy import Policy
from workers.adapters.topics_io import Record
from workers.errors import StartError, StreamStopped
from workers.moderation.choose_policy import PolicyBook
from workers.moderation.outcome import ChosenPolicy
from workers.policy_state import PolicyState, RefusedChange
from workers.settings import KafkaSettings, PoliciesSettings

# Between two tries of what a broker that is away refuses, in seconds.
AGAIN_S: Final = 1.0


class PolicyRecords(Protocol):
    """The records of the topic of policies. Calls may block for a moment; one thread at a time."""

    def open(self, kafka: KafkaSettings) -> None:
        """Begin at the beginning, with a new client. Raises `StartError`."""
        ...

    def read(self) -> tuple[Sequence[Record], bool]:
        """What has come, and whether all that stood there at `open` was given. Raises `StreamStopped`."""
        ...

    def close(self) -> None: ...


class Letters(Protocol):
    """Where records go that cannot be used."""

    def send(self, kafka: KafkaSettings, record: Record, letter: DeadLetter) -> None:
        """Returns when it is acknowledged. Raises `StartError` or `StreamStopped`."""
        ...


class PolicyObserver(Protocol):
    """Is told of changes; must not wait. May be called in another thread."""

    def policy_record(self, outcome: Literal["published", "retired", "refused"]) -> None: ...

    def policy_refused(self, letter: DeadLetter) -> None:
        """A record changes nothing, and is a dead letter; `letter` quotes nothing of it."""
        ...

    def policies_changed(self, book: PolicyBook) -> None:
        """Another snapshot is in force."""
        ...

    def policies_not_followed(self, why: str) -> None:
        """The topic, or that of the dead letters, cannot be reached; it is tried again."""
        ...


class PolicyFollower:
    """One per worker. `ready` as of `PolicyState`."""

    def __init__(
        self,
        kafka: KafkaSettings,
        policies: PoliciesSettings,
        *,
        records: PolicyRecords,
        letters: Letters,
        ready: Callable[[Policy], ChosenPolicy],
    ) -> None:
        self._kafka, self._policies, self._records, self._letters = kafka, policies, records, letters
        self._ready = ready
        self._state = PolicyState(ready)
        self._at_end = self._changed = self._stopping = False
        self._starting = True
        self._renewed: KafkaSettings | None = None
        self._told: set[tuple[int, int]] = set()
        self._unsent: deque[tuple[Record, DeadLetter]] = deque()
        self._use: Callable[[PolicyBook], None] = lambda _: None
        self.observer: PolicyObserver | None = None
        self.book = PolicyBook(self._state.snapshot("", "dead_letter"))
        """The snapshot in force."""

    def load(self) -> PolicyBook:
        """Read to the topic's end. Raises `StartError`: no topic, no end in time, or no default policy."""
        self._records.open(self._kafka)
        until = time.monotonic() + self._kafka.start_timeout_s
        while not self._at_end:
            before = time.monotonic()
            if self._take():  # records come: the topic may be long
                until = before + self._kafka.start_timeout_s
            elif not self._at_end and before > until:
                raise StartError(
                    f"topic {self._kafka.policies_topic}: its end was not reached within "
                    f"{self._kafka.start_timeout_s:g} s of the last record"
                )
        default = self._policies.default
        if default and self._state.get(None, default) is None:
            raise StartError(
                f"RSAFE_POLICIES__DEFAULT: topic {self._kafka.policies_topic} holds no policy {default!r} "
                "for everybody; `rsafe policy publish` brings it there"
            )
        self.book, self._starting = self._snapshot(), False
        return self.book

    def attach(self, use: Callable[[PolicyBook], None]) -> None:
        """Tell `use` of the snapshot in force, now and whenever it is another one."""
        self._use = use
        use(self.book)

    def renew(self, kafka: KafkaSettings) -> None:
        """Read with these settings from now on, from the beginning; until its end the snapshot stays."""
        self._renewed = kafka

    def log_in(self, username: str, password: str) -> None:
        """As `renew`, with another password."""
        changed = {"sasl_username": username, "sasl_password": SecretStr(password)}
        self.renew(self._kafka.model_copy(update=changed))

    async def follow(self) -> None:
        """Until `stop`. Raises `StreamStopped` where following cannot go on: the old policies would stay."""
        if self.observer is not None:
            self.observer.policies_changed(self.book)
        while not self._stopping:
            try:
                book = await asyncio.to_thread(self._turn)
            except StartError as error:
                if self.observer is not None:
                    self.observer.policies_not_followed(str(error))
                await asyncio.sleep(AGAIN_S)
                continue
            if book is not None:
                self.book = book
                self._use(book)
                if self.observer is not None:
                    self.observer.policies_changed(book)

    def stop(self) -> None:
        """Let `follow` end within a moment."""
        self._stopping = True

    def close(self) -> None:
        """End the client; after `follow` has ended."""
        self._records.close()

    def _turn(self) -> PolicyBook | None:
        """Take in what has come; the new snapshot, if any. Raises as `follow` does, and `StartError`."""
        if self._renewed is not None:
            kafka = self._renewed
            self._records.open(kafka)
            self._kafka, self._renewed = kafka, None
            self._state, self._at_end = PolicyState(self._ready), False
        self._take()
        if self._at_end and self._changed:
            # The letters come after it: one that cannot be written keeps no good version out of force.
            return self._snapshot()
        self._send_letters()
        return None

    def _take(self) -> bool:
        """Whether any record came."""
        records, at_end = self._records.read()
        for record in records:
            if self._starting and record.key is not None:
                # Replaced before this start: nobody has to act, and compaction may have removed it as well.
                self._unsent = deque(one for one in self._unsent if one[0].key != record.key)
            result = self._state.apply(record.key, record.value)
            if isinstance(result, RefusedChange):
                self._refuse(record, result)
                continue
            self._changed = True
            self._tell(result)
        # An end that is reached after new credentials is a change: what was retired meanwhile is not there.
        self._changed |= at_end and not self._at_end
        self._at_end = at_end
        return bool(records)

    def _tell(self, outcome: Literal["published", "retired", "refused"]) -> None:
        if self.observer is not None:
            self.observer.policy_record(outcome)

    def _refuse(self, record: Record, why: RefusedChange) -> None:
        place = record.partition, record.offset
        if place in self._told:
            return
        self._told.add(place)
        self._unsent.append(
            (
                record,
                DeadLetter(
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    reason="invalid_policy",
                    sentence=why.sentence,
                    field=why.field,
                    timestamp_ms=record.timestamp_ms,
                ),
            )
        )

    def _send_letters(self) -> None:
        while self._unsent:
            record, letter = self._unsent[0]
            try:
                self._letters.send(self._kafka, record, letter)
            except StreamStopped as error:
                raise StartError(str(error)) from error
            self._unsent.popleft()
            if self.observer is not None:
                self.observer.policy_record("refused")
                self.observer.policy_refused(letter)

    def _snapshot(self) -> PolicyBook:
        self._changed = False
        policies = self._state.snapshot(self._policies.default, self._policies.unknown)
        return PolicyBook(policies, ready={id(one.policy): one.ready for one in self._state.standing()})


@asynccontextmanager
async def following(
    follower: PolicyFollower | None, observer: PolicyObserver, stopping: asyncio.Event
) -> AsyncIterator[None]:
    """The topic of policies is followed within the block; a failure stops the worker and is raised after."""
    if follower is None:
        yield
        return
    follower.observer = observer
    task = asyncio.create_task(follower.follow())
    task.add_done_callback(lambda _: stopping.set())
    try:
        yield
    finally:
        follower.stop()
        await asyncio.wait({task})
        follower.close()
    task.result()
