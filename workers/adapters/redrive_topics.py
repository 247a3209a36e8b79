"""What `rsafe redrive` does with Kafka: reads the dead letters, and writes batches in transactions.

The id of the transactions is the same for every run over one dead-letters topic. A run that begins makes the
broker end what an earlier one left open, and shuts an earlier one out that is still there: what it reads
then is all that was ever put back, and it stays so until the run is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.keys import PARTITIONER
from workers.adapters.kafka_options import Option
from workers.adapters.topics_io import Record, partitions_of, quiet_logger, read_records, read_span
from workers.errors import StartError, StreamStopped
from workers.redrive import Outgoing

# Readers of the source topic wait behind an open transaction: so long at most when a run is killed. Ten
# seconds are far more than a batch needs, and little beside the session time-out of a killed worker.
TRANSACTION_TIMEOUT_MS: Final = 10_000
# Far above any topic, so that the topic's own limit decides.
_LARGEST_MESSAGE_BYTES: Final = 100_000_000
# A topic's limit is one of batches: smaller ones than any topic forbids, and large records travel alone.
_BATCH_BYTES: Final = 16_384
# Between two tries of a call that the broker could not serve yet, in ms; librdkafka's default is 100.
_RETRY_MS: Final = 20
# Each takes as long as the start time-out at most.
_CALLS: Final = 3
# How long somebody who interrupts a run is kept waiting, in seconds.
_INTERRUPTED_S: Final = 3.0
_FENCED: Final = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
)
_DENIED: Final = frozenset(
    {
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)


class DeadLetters:
    """The dead-letters topic. Raises `StartError` and `StreamStopped` as the readers of topics do."""

    def __init__(self, options: Mapping[str, Option], topic: str, *, timeout_s: float) -> None:
        self._options, self._topic, self._timeout_s = options, topic, timeout_s

    def all(self) -> Iterator[list[Record]]:
        return read_records(
            self._options, self._topic, start="beginning", follow=False, timeout_s=self._timeout_s
        )

    def span(self, partition: int, first: int, last: int) -> Iterator[list[Record]]:
        return read_span(self._options, self._topic, partition, first, last)


class TransactionalWriter:
    """Writes batches, each as one transaction. One at a time per `transactional_id`: the newest.

    Raises `StartError` when the broker does not answer within `timeout_s`, has no such topic, or does not
    allow transactions under this id, and `StreamStopped` when another run begins at the same time.
    """

    def __init__(
        self, options: Mapping[str, Option], transactional_id: str, topic: str, *, timeout_s: float
    ) -> None:
        self._options, self._timeout_s = options, timeout_s
        self._producer = Producer(
            {
                **options,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                # Librdkafka wants a delivery to end before its transaction does.
                "delivery.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "retry.backoff.ms": _RETRY_MS,
                "partitioner": PARTITIONER,
                "compression.type": "lz4",
                "linger.ms": 5,
                "batch.size": _BATCH_BYTES,
                "message.max.bytes": _LARGEST_MESSAGE_BYTES,
                "logger": quiet_logger(),
            }
        )
        self.partitions = frozenset(partitions_of(self._producer, topic, options, timeout_s))
        """Of `topic`."""
        self._too_large = False
        self._failure = ""
        try:
            self._call(partial(self._producer.init_transactions, timeout_s))
        except KafkaException as error:
            if error.args[0].code() in _FENCED:
                raise _stopped(error.args[0], "") from error
            raise StartError(
                f"no transaction under the id {transactional_id}: {error.args[0].str()}; "
                + (
                    "the user needs Write and Describe on this transactional id"
                    if error.args[0].code() in _DENIED
                    else "redrive needs a broker with transactions"
                )
            ) from error

    def write(self, records: Sequence[Outgoing]) -> bool:
        """Whether all records are committed; False when a topic refuses one as too large, and none is.

        Raises `StreamStopped` when the broker fails, or another run has begun.
        """
        try:
            return self._write(records)
        except KeyboardInterrupt:
            # Or the readers of the topic would wait until the transaction times out.
            with suppress(KafkaException):
                self._producer.abort_transaction(_INTERRUPTED_S)
            raise

    def _write(self, records: Sequence[Outgoing]) -> bool:
        for left in reversed(range(_CALLS)):
            self._too_large, self._failure = False, ""
            undone = self._try(records)
            if undone is None:
                return True
            if self._too_large:
                return False
            # A refused batch may spoil the sequence numbers of the next one; aborted, it may be sent again.
            if not left or self._failure:
                raise StreamStopped(f"a record was not delivered: {undone}; its batch was not written")
        raise AssertionError("at least one try")

    def _try(self, records: Sequence[Outgoing]) -> str | None:
        """None when the batch is committed; else why not, and nothing of it is.

        Raises `StreamStopped` when no further try makes sense.
        """
        try:
            self._producer.begin_transaction()
            for record in records:
                self._produce(record)
            self._producer.flush(TRANSACTION_TIMEOUT_MS / 1000)
            if not self._too_large and not self._failure:
                self._call(partial(self._producer.commit_transaction, self._timeout_s))
                return None
            reason = self._failure
        except KafkaException as error:
            said = error.args[0]
            spoilt = self._too_large or said.txn_requires_abort()
            if not spoilt and not said.fatal() and said.code() != KafkaError._FATAL:
                # The marks know whether it was: the next run reads them.
                raise _stopped(said, "it is not known whether the last batch was written") from error
            reason = said.str()
        except SystemError:
            # The client raises a fatal error, such as being fenced, and goes on telling reports meanwhile;
            # Python takes the call for broken. The next call says what it was.
            reason = "the Kafka client failed"
        self._abort()  # raises what a fatal error was
        return reason

    def _produce(self, record: Outgoing) -> None:
        place = {} if record.partition is None else {"partition": record.partition}
        self._producer.produce(
            record.topic,
            record.value,
            record.key,
            headers=record.headers,
            on_delivery=self._report,
            **place,
        )
        self._producer.poll(0)

    def _report(self, error: KafkaError | None, _: Any) -> None:
        if error is None or error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._too_large = True
        else:
            self._failure = self._failure or error.str()

    def _abort(self) -> None:
        try:
            self._call(partial(self._producer.abort_transaction, self._timeout_s))
        except KafkaException as error:
            raise _stopped(error.args[0], "the batch was not written") from error

    def _call(self, call: Callable[[], object]) -> None:
        """Call until it is done, a few times at most. The same call goes on where it was."""
        for left in reversed(range(_CALLS)):
            try:
                call()
            except KafkaException as error:
                if not left or not error.args[0].retriable():
                    raise
            else:
                return


def _stopped(error: KafkaError, sentence: str) -> StreamStopped:
    if error.code() in _FENCED:
        return StreamStopped("another `rsafe redrive` has begun over the same topic; this one ends")
    return StreamStopped(f"{sentence}: {error.str()}")
