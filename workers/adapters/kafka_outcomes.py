"""Outcomes at least once: each is sent at once, and its offset may be committed when the broker has it.

Reports of the producer are served by `collect`, in the thread of the loop. A thread of its own that polls
would have to take Python's lock for every single report, and would wait for it while the loop is busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from workers.adapters.kafka import KafkaSource
from workers.adapters.kafka_errors import delivery_failure, error_of
from workers.adapters.kafka_options import producer_options
from workers.adapters.kafka_stamps import Published, Stamped, with_stamp
from workers.errors import StreamStopped
from workers.ports import Position, Publication, Refused
from workers.settings import KafkaSettings

# How long a full queue of the producer may block the loop at a time, in seconds.
_FULL_QUEUE_POLL_S: Final = 0.05
_POLL_S: Final = 0.002


class KafkaOutcomes:
    """`Outcomes` at least once."""

    def __init__(
        self,
        kafka: KafkaSettings,
        source: KafkaSource,
        *,
        topic_bytes: int | None = None,
        clock: Stamped | None = None,
        published: Published | None = None,
    ) -> None:
        self._source, self._clock, self._published = source, clock, published
        self._timeout_s = kafka.delivery_timeout_ms / 1000
        self._producer = Producer(
            producer_options(kafka, topic_bytes) | {"delivery.timeout.ms": kafka.delivery_timeout_ms}
        )
        self._produce = self._producer.produce
        self._delivered: list[Any] = []
        self._too_large: list[Refused] = []
        self._failure: str | None = None

    def publish(self, ticket: Any, publication: Publication) -> None:
        """Hand to the producer. Raises `StreamStopped` when it takes nothing more, or not this."""
        if self._failure is not None:
            raise StreamStopped(f"an outcome was not delivered: {self._failure}")
        # Of a decision no more is kept than its topic: the client has its bytes.
        topic, letter = publication.topic, publication if publication.line is None else None
        told: Callable[..., None] = partial(self._report, ticket, topic, letter)
        if self._clock is not None and self._clock.wants_report():
            told = with_stamp(self._clock, told)
        try:
            self._produce(
                topic,
                publication.value,
                publication.key,
                headers=publication.headers,
                on_delivery=told,
            )
        except BufferError:
            self._retry(publication, told)
        except KafkaException as error:
            self._refuse(publication.topic, told, error)

    def collect(self) -> tuple[Sequence[Any], Sequence[Refused]]:
        """Tickets delivered and outcomes refused as too large since the last call."""
        self._producer.poll(0)
        if self._failure is not None:
            raise StreamStopped(f"an outcome was not delivered: {self._failure}")
        delivered, too_large = self._delivered, self._too_large
        self._delivered, self._too_large = [], []
        if self._published is not None and delivered:
            self._published([ticket.timestamp_ms for ticket in delivered])
        return delivered, too_large

    async def commit(self, positions: Mapping[int, Position]) -> Collection[int]:
        return await self._source.commit(positions)

    async def flush(self, timeout_s: float) -> None:
        """Wait for reports; `collect` then gives them."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while len(self._producer) and loop.time() < until:
            self._producer.poll(0)
            await asyncio.sleep(_POLL_S)

    def close(self) -> None:
        """Forget what is not delivered; its offsets are not committed."""
        self._producer.purge()
        self._producer.poll(0)

    def log_in(self, username: str, password: str) -> None:
        """Log in with these from the next connection on."""
        self._producer.set_sasl_credentials(username, password)

    async def end(self) -> None:
        """Close the connections, which a process that goes on with new clients would keep."""
        await asyncio.get_running_loop().run_in_executor(None, self._producer.close)

    def _retry(self, publication: Publication, told: Callable[..., None]) -> None:
        waited = 0.0
        while waited < self._timeout_s:
            self._producer.poll(_FULL_QUEUE_POLL_S)
            waited += _FULL_QUEUE_POLL_S
            try:
                self._produce(
                    publication.topic,
                    publication.value,
                    publication.key,
                    headers=publication.headers,
                    on_delivery=told,
                )
            except BufferError:
                continue
            return
        raise StreamStopped("the producer's queue stays full")

    def _refuse(self, topic: str, told: Callable[..., None], error: KafkaException) -> None:
        if error_of(error).code() != KafkaError.MSG_SIZE_TOO_LARGE:
            why = delivery_failure(topic, error_of(error))
            raise StreamStopped(f"an outcome cannot be sent: {why}") from error
        told(error_of(error), None)

    def _report(
        self, ticket: Any, topic: str, letter: Publication | None, error: KafkaError | None, _: Any
    ) -> None:
        if error is None:
            self._delivered.append(ticket)
        elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            self._too_large.append(Refused(ticket, letter))
        elif self._failure is None:  # what is thrown away below is reported here as well
            self._failure = delivery_failure(topic, error)
            # The worker is about to stop. What follows must not be delivered meanwhile: the next owner would
            # publish this one behind it.
            self._producer.purge()
