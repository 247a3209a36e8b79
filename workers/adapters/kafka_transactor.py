"""One transaction at a time, in blocking calls: for a thread of its own.

What the client reports falls into three: it may be called again (`retriable`), the transaction must be
aborted, or the producer is spent (`fatal`: its transaction took longer than the coordinator waits, or
somebody runs under its id). A spent producer is replaced; whether its last transaction was committed is then
read from the offsets, which stand in the same transaction as the outcomes.

One call may never return: `send_offsets_to_transaction`, when the group's coordinator goes away under it
(librdkafka issues 5456 and 5511). It gets a thread of its own, which is left behind with its producer; the
next producer of the same id has the coordinator end the transaction, and nobody is there to commit it.

Over 300 lines: what is retried, undone and found out afterwards is one matter, read in one piece.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from workers.adapters.kafka_errors import REACTIONS, delivery_failure, error_of, sentence
from workers.adapters.kafka_stamps import stamp_of
from workers.errors import SettingsError, StreamStopped
from workers.ports import Publication, Record

# One blocking call, in seconds: how long the thread needs to notice that it shall end.
_CALL_S: Final = 1.0
# Sending offsets cannot be resumed when its time is up, so it gets more.
_OFFSETS_S: Final = 5.0
# When its time has been up for so long, it will not return.
_OVERDUE_S: Final = 3.0
_LOOK_S: Final = 0.2
_FULL_QUEUE_POLL_S: Final = 0.05
_PAUSE_S: Final = 0.2
# Producers that may be spent one after the other without a transaction between them.
_SPENT_PRODUCERS: Final = 3

Committed = Callable[[Sequence[TopicPartition]], Sequence[TopicPartition]]
"""Offsets and notes that the group has for these partitions; raises `KafkaException`."""


@dataclass(eq=False, slots=True)
class Outgoing:
    """An outcome on its way. `alone`: in a batch of its own, to learn whether it is what is too large."""

    ticket: Any
    publication: Publication
    record: Record
    alone: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What shall be one transaction: outcomes in order per partition, and the places after them.

    `moved`: the partitions whose offset goes forward with this job.
    """

    outgoing: Sequence[Outgoing]
    places: Sequence[TopicPartition]
    moved: frozenset[int]
    membership: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """`refused`: outcomes that their topic did not take for their size. `why`: the name of the error.

    `stamps`: of the first outcome that the broker took, as `stamp_of` gives it.
    """

    committed: bool
    refused: Sequence[Outgoing] = field(default=())
    why: str = ""
    stamps: Sequence[float | None] = field(default=())


_HANGS: Final = "the client does not return from sending the offsets"


class _Hangs(Exception):
    """A call that does not return; its producer must not be used any more."""


@dataclass(slots=True)
class _Told:
    """What a producer reports about the outcomes of one job, possibly after the job was given up."""

    refused: list[Outgoing] = field(default_factory=list)
    stamps: list[float | None] = field(default_factory=list)
    failure: str | None = None

    def report(self, outcome: Outgoing, error: KafkaError | None, message: Any) -> None:
        if error is None:
            if not self.stamps:
                self.stamps.append(stamp_of(message))
            return
        if error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self.refused.append(outcome)
        elif error.code() in _GONE_FOR_GOOD or _hopeless(error):
            self.failure = delivery_failure(outcome.publication.topic, error)


class Transactor:
    """Runs jobs one after the other. Only `close` and `log_in` may be called from another thread."""

    def __init__(self, make: Callable[[], Any], committed: Committed) -> None:
        self._make, self._committed = make, committed
        self._producer: Any = None
        self._coming: Any = None
        self.login: tuple[str, str] | None = None
        """User and password, when they have changed since the start."""
        self._closing = threading.Event()
        self._spent = 0
        self._told = _Told()

    def close(self) -> None:
        """End what is being waited for; what is not committed is not claimed to be."""
        self._closing.set()

    def log_in(self, username: str, password: str) -> None:
        """Log in with these from the next connection on, producers that are made later included."""
        self.login = (username, password)
        # In this order: `prepare` makes one of the other meanwhile, and it must be seen as one of them.
        for producer in (self._coming, self._producer):
            if producer is not None:
                producer.set_sasl_credentials(username, password)

    def end(self) -> None:
        """Let go of the producer, and so of its connections. Nothing can be run afterwards."""
        self._producer = self._coming = None

    def prepare(self) -> Any:
        """Register with the coordinator, which ends what a former producer of this id left open."""
        if self._producer is None:
            # Seen by `log_in` before the password is looked at, so that none is missed.
            self._coming = producer = self._patiently(lambda _: self._make())
            if self.login is not None:
                producer.set_sasl_credentials(*self.login)
            self._patiently(producer.init_transactions)
            self._producer, self._coming = producer, None
        return self._producer

    def run(self, job: Job) -> Result:
        """Commit the job, or undo it. Raises `StreamStopped` when trying again cannot help."""
        self._told = _Told()
        ending = False
        try:
            producer = self.prepare()
            producer.begin_transaction()
            self._produce(producer, job.outgoing)
            self._send_offsets(producer, job)
            ending = True
            self._patiently(producer.commit_transaction)
        except KafkaException as error:
            return self._undo(job, error_of(error), ending)
        except _Hangs:
            self._spend(f"transactions fail again and again: {_HANGS}")
            return Result(committed=False, why=_HANGS)
        self._spent = 0
        return Result(committed=True, stamps=self._told.stamps)

    def _send_offsets(self, producer: Any, job: Job) -> None:
        """Raises `KafkaException` as the call does, and `_Hangs` when it does not return."""
        answer: Future[None] = Future()

        def call() -> None:
            try:
                producer.send_offsets_to_transaction(list(job.places), job.membership, _OFFSETS_S)
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                answer.set_exception(error)
            else:
                answer.set_result(None)

        # A daemon, so that the process can end while it hangs.
        threading.Thread(target=call, name="rsafe-transaction-offsets", daemon=True).start()
        until = time.monotonic() + _OFFSETS_S + _OVERDUE_S
        while not wait({answer}, timeout=_LOOK_S).done:
            if self._closing.is_set():
                until = min(until, time.monotonic() + _CALL_S)
            if time.monotonic() >= until:
                raise _Hangs
        answer.result()

    def _produce(self, producer: Any, outgoing: Sequence[Outgoing]) -> None:
        for outcome in outgoing:
            if outcome.alone:
                producer.flush(_OFFSETS_S)
            self._hand_over(producer, outcome)
            if outcome.alone:
                producer.flush(_OFFSETS_S)

    def _hand_over(self, producer: Any, outcome: Outgoing) -> None:
        publication = outcome.publication
        while True:
            try:
                producer.produce(
                    publication.topic,
                    publication.value,
                    publication.key,
                    headers=publication.headers,
                    on_delivery=partial(self._told.report, outcome),
                )
            except BufferError as error:
                if self._closing.is_set():
                    raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from error
                producer.poll(_FULL_QUEUE_POLL_S)
            except KafkaException as error:
                if error_of(error).code() == KafkaError.MSG_SIZE_TOO_LARGE:  # for the client already
                    outcome.alone = True
                    self._told.refused.append(outcome)
                raise
            else:
                return

    def _undo(self, job: Job, error: KafkaError, ending: bool) -> Result:
        name = str(error.name())
        undone = not error.fatal() and self._abort()
        if self._told.failure is not None:
            raise StreamStopped(f"an outcome was not delivered: {self._told.failure}")
        if _hopeless(error):
            raise StreamStopped(sentence("a transaction failed", error))
        if undone:
            if error.code() == KafkaError._TIMED_OUT:
                self._look_at_topics(job)
            return Result(committed=False, refused=self._told.refused, why=name)
        self._spend(sentence("transactions fail again and again", error))
        # The broker may have committed what the client gave up.
        return Result(committed=ending and self._was_committed(job), refused=self._told.refused, why=name)

    def _abort(self) -> bool:
        """Whether the transaction is undone for certain."""
        if self._producer is None:  # it never began
            return True
        try:
            self._patiently(self._producer.abort_transaction)
        except KafkaException:
            return False
        return True

    def _look_at_topics(self, job: Job) -> None:
        """A transaction with a topic that was deleted does not fail, it waits until its time is up."""
        if self._producer is None:
            return
        for topic in {outcome.publication.topic for outcome in job.outgoing}:
            try:
                error = self._producer.list_topics(topic, _CALL_S).topics[topic].error
            except KafkaException:  # the broker is away, which is the likelier reason
                return
            if error is not None and error.code() in _GONE_FOR_GOOD:
                raise StreamStopped(f"an outcome was not delivered: {delivery_failure(topic, error)}")

    def _spend(self, why: str) -> None:
        if self._producer is not None:
            self._producer.purge(blocking=False)
            self._producer = None
        self._spent += 1
        if self._spent >= _SPENT_PRODUCERS:
            raise StreamStopped(why)

    def _was_committed(self, job: Job) -> bool:
        """Whether the offsets of a job are those that it set; one that moved speaks for the whole job.

        Raises `StreamStopped` when that cannot be told: a restart reads it from the offsets.
        """
        try:
            self.prepare()
            found = self._patiently(partial(self._committed, job.places), with_timeout=False)
        except KafkaException as error:
            what = "it cannot be told whether a transaction was committed"
            raise StreamStopped(sentence(what, error_of(error))) from error
        at = {place.partition: place.offset for place in found}
        return any(
            place.partition in job.moved and at.get(place.partition) == place.offset for place in job.places
        )

    def _patiently(self, call: Callable[..., Any], *, with_timeout: bool = True) -> Any:
        """The call's answer, called again as long as its error may pass. Raises `KafkaException`.

        Waits for files of certificates that are in the course of a change; closed, it raises their
        `SettingsError`.
        """
        while True:
            try:
                return call(_CALL_S) if with_timeout else call()
            except KafkaException as error:
                found = error_of(error)
                if self._closing.is_set() or found.fatal() or not _passes(found, with_timeout):
                    raise
                self._closing.wait(_PAUSE_S)
            except SettingsError:
                if self._closing.wait(_PAUSE_S):
                    raise


# Messages to such a topic fail at once; a broker that starts hides its topics for less than the client waits.
_GONE_FOR_GOOD: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
)


# Of the membership that a job was made with. A static member that was away for longer than its session comes
# back as another member of the same name, so that its own older one is refused; whether somebody else has the
# name is for the consumer to say, which is told as well.
_OLDER_MEMBER: Final = frozenset({KafkaError.FENCED_INSTANCE_ID})


def _hopeless(error: KafkaError) -> bool:
    known = REACTIONS.get(error.code())
    return known is not None and known.stops and error.code() not in _OLDER_MEMBER


def _passes(error: KafkaError, transactional: bool) -> bool:
    return bool(error.retriable()) if transactional else not _hopeless(error)
