"""The topic of policies, and the dead letters of its records. Joins no group and commits nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Place

from schemas.dead_letter import DeadLetter, dead_letter_headers
from workers.adapters.kafka_errors import reaction, sentence
from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import OF_NO_GROUP, Record, RecordWriter, as_record, partitions_of, reader
from workers.errors import StartError, StreamStopped
from workers.settings import KafkaSettings

_BATCH: Final = 500
# How long a read waits for the first record, in seconds: what a stop of the worker waits for.
_POLL_S: Final = 0.2


class PolicyTopic:
    """Implements `workers.policy_follower.PolicyRecords`. One thread at a time."""

    def __init__(self) -> None:
        self._consumer: Any = None
        self._topic = ""
        self._unfinished: set[int] = set()

    def open(self, kafka: KafkaSettings) -> None:
        """Begin at the beginning of every partition. Raises `StartError` and `SettingsError`."""
        self.close()
        options, self._topic = client_options(kafka), kafka.policies_topic
        consumer = reader(options)
        try:
            numbers = partitions_of(consumer, self._topic, options, kafka.start_timeout_s)
            consumer.assign([Place(self._topic, number, OFFSET_BEGINNING) for number in numbers])
        except KafkaException as error:
            consumer.close()
            raise StartError(f"reading {self._topic}: {error.args[0].str()}") from error
        except StartError:
            consumer.close()
            raise
        self._consumer, self._unfinished = consumer, set(numbers)

    def read(self) -> tuple[Sequence[Record], bool]:
        """What has come within a moment; what passes by itself is waited for. Raises `StreamStopped`."""
        records = []
        try:
            messages = self._consumer.consume(_BATCH, _POLL_S)
        except KafkaException as error:
            raise StreamStopped(sentence(f"reading {self._topic}", error.args[0])) from error
        for message in messages:
            failed = message.error()
            if failed is None:
                records.append(as_record(message))
            elif failed.code() == KafkaError._PARTITION_EOF:
                self._unfinished.discard(message.partition())
            elif failed.code() not in OF_NO_GROUP and reaction(failed).stops:
                raise StreamStopped(sentence(f"reading {self._topic}", failed))
        return records, not self._unfinished

    def close(self) -> None:
        """May be called twice."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None


class PolicyLetters:
    """Implements `workers.policy_follower.Letters`: rare, so that each has a producer of its own."""

    def send(self, kafka: KafkaSettings, record: Record, letter: DeadLetter) -> None:
        """Write the record, untouched, with the reason in headers. Raises `StartError` or `StreamStopped`."""
        writer = RecordWriter(
            client_options(kafka),
            kafka.dead_letters_topic,
            timeout_s=kafka.start_timeout_s,
            delivery_timeout_ms=kafka.delivery_timeout_ms,
        )
        # A refused record has a value, or no key: then it may have none, and keeps that.
        headers = [*record.headers, *dead_letter_headers(letter)]
        writer.send(record.key, record.value, headers)
        writer.finish()
