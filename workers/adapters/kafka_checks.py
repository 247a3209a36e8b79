"""What can be wrong with the broker, its topics and this user's rights, asked before anything slow is begun.

All questions together take no longer than `kafka.start_timeout_s`. What this user may not ask is not held
against the worker; what it may not do is.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, ResourceType

from workers.adapters.kafka_errors import error_of
from workers.adapters.kafka_options import (
    LOGGER,
    Option,
    client_options,
    transaction_options,
    transactional_id,
)
from workers.adapters.kafka_refusals import hint, refusal
from workers.errors import StartError
from workers.settings import KafkaSettings

_LIMIT: Final = "max.message.bytes"
_TIMESTAMPS: Final = "message.timestamp.type"
# What the headers of a dead letter add to a record, at most and generously.
_LETTER_BYTES: Final = 16_384
# A first answer is tried for in steps, so that refused credentials are noticed at once, in seconds.
_TRY_S: Final = 0.5
# The least that a later question gets when the first answer came late, in seconds.
_LEAST_S: Final = 1.0
_OLD: Final = frozenset({KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE})


def check_topics(kafka: KafkaSettings) -> int | None:
    """The largest batch that the decisions topic takes, in bytes; None where the broker does not tell.

    Raises `StartError` with one sentence: no broker answers or it refuses the user, a topic of the worker is
    missing, too small or of the wrong timestamps, or the user lacks a right.
    """
    until = time.monotonic() + kafka.start_timeout_s
    with reached(kafka, until) as client:
        limit = _check_all(client, kafka, until)
    if kafka.delivery == "exactly-once":
        check_transactions(kafka, until)
    return int(limit) if limit else None


def check_login(kafka: KafkaSettings) -> None:
    """Raises `StartError` unless a broker lets this client in, and `SettingsError` for files of no use."""
    with reached(kafka, time.monotonic() + kafka.start_timeout_s):
        pass


@contextmanager
def reached(kafka: KafkaSettings, until: float) -> Iterator[Any]:
    """A client that a broker has let in. Raises as `check_login` does."""
    options, errors = client_options(kafka), list[KafkaError]()
    try:
        client: Any = AdminClient({**options, "error_cb": errors.append, "log_level": 0})
    except KafkaException as error:  # it reads the files of certificates by itself, and may take fewer
        why = " ".join(error_of(error).str().split())
        raise StartError(f"RSAFE_KAFKA__SSL_…: the client library cannot use these files: {why}") from error
    # Closed here: left to the garbage collector, it may be ended in a thread of the client library, which
    # aborts the process.
    with client:
        _reach(client, kafka, options, errors, until)
        yield client


def _check_all(client: Any, kafka: KafkaSettings, until: float) -> str | None:
    """The limit of the decisions topic, None when this user may not ask."""
    names = [kafka.events_topic, kafka.decisions_topic, kafka.dead_letters_topic]
    left = _left(until)
    described = client.describe_topics(
        TopicCollection(names), include_authorized_operations=True, request_timeout=left
    )
    resources = {name: ConfigResource(ResourceType.TOPIC, name) for name in names}
    configs = client.describe_configs(list(resources.values()), request_timeout=left)
    groups = client.describe_consumer_groups(
        [kafka.group_id], include_authorized_operations=True, request_timeout=left
    )
    _check_described(kafka, described)
    _check_group(kafka.group_id, groups[kafka.group_id])
    told = {name: configs[resource] for name, resource in resources.items()}
    check_timestamps(kafka, _config(told[kafka.events_topic], _TIMESTAMPS))
    check_sizes(
        kafka, _config(told[kafka.events_topic], _LIMIT), _config(told[kafka.dead_letters_topic], _LIMIT)
    )
    return _config(told[kafka.decisions_topic], _LIMIT)


def _reach(
    client: Any,
    kafka: KafkaSettings,
    options: Mapping[str, Option],
    errors: list[KafkaError],
    until: float,
) -> None:
    step = _TRY_S
    while True:
        try:
            client.list_topics(timeout=min(step, _left(until)))
        except KafkaException as error:
            client.poll(0)
            if why := refusal(options, errors):
                raise StartError(why) from error
            if time.monotonic() >= until:
                raise StartError(_unreachable(kafka, options, errors)) from error
            step *= 2  # a slow broker answers the same question late each time
        else:
            return


def _unreachable(kafka: KafkaSettings, options: Mapping[str, Option], errors: Sequence[KafkaError]) -> str:
    names = {error.name() for error in errors} - {"_ALL_BROKERS_DOWN"}
    reason = f" ({', '.join(sorted(names))})" if names else ""
    return (
        f"RSAFE_KAFKA__BOOTSTRAP_SERVERS: no broker at {kafka.bootstrap_servers} answered "
        f"within {kafka.start_timeout_s:g} s{reason}{hint(options, errors)}"
    )


def _check_described(kafka: KafkaSettings, described: Mapping[str, Any]) -> None:
    missing = []
    for name, answer in described.items():
        reads = name == kafka.events_topic
        needed, verb = (AclOperation.READ, "read") if reads else (AclOperation.WRITE, "write to")
        try:
            topic = _answer(answer)
        except KafkaException as error:
            code = error_of(error).code()
            if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise _not_allowed(f"{verb} topic {name}", needed) from error
            if code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise StartError(f"topic {name} cannot be looked at: {error_of(error).name()}") from error
            missing.append(name)
            continue
        if topic.authorized_operations and needed not in topic.authorized_operations:
            raise _not_allowed(f"{verb} topic {name}", needed)
        if reads and len(topic.partitions) < kafka.min_partitions:
            raise StartError(
                f"topic {name} has {len(topic.partitions)} partitions and RSAFE_KAFKA__MIN_PARTITIONS asks "
                f"for {kafka.min_partitions}; add partitions, or lower the setting"
            )
    if missing:
        raise StartError(
            f"the broker has no topic {', '.join(missing)} (or this user may not see it); "
            "`rsafe topics create` makes the topics"
        )


def _check_group(group: str, answer: Any) -> None:
    try:
        found = _answer(answer)
    except KafkaException as error:
        if error_of(error).code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            raise _not_allowed(f"use the group {group}", AclOperation.READ) from error
        return  # a group that is not there yet, or a question that this broker does not answer
    if found.authorized_operations and AclOperation.READ not in found.authorized_operations:
        raise _not_allowed(f"use the group {group}", AclOperation.READ)


def check_timestamps(kafka: KafkaSettings, found: str | None) -> None:
    """Raises `StartError` for an events topic with its senders' timestamps, unless that is accepted."""
    if kafka.events_timestamps == "broker" and found not in (None, "LogAppendTime"):
        raise StartError(
            f"topic {kafka.events_topic} has {_TIMESTAMPS}={found}, so that deadlines would count from the "
            "clocks of the senders; set it to LogAppendTime, or accept that with "
            "RSAFE_KAFKA__EVENTS_TIMESTAMPS=any"
        )


def check_sizes(kafka: KafkaSettings, events: str | None, letters: str | None) -> None:
    """A record that does not fit as a dead letter has no outcome at all, and would stop every worker."""
    if events is None or letters is None or int(letters) >= int(events) + _LETTER_BYTES:
        return
    raise StartError(
        f"topic {kafka.dead_letters_topic} has {_LIMIT}={letters}, too little for a dead letter of the "
        f"largest record of {kafka.events_topic}; set it to {int(events) + _LETTER_BYTES} or more"
    )


def check_transactions(kafka: KafkaSettings, until: float) -> None:
    """A transaction is opened under an id that the worker might use, and given up."""
    name = transactional_id(kafka, uuid.uuid4().hex)
    producer = Producer(transaction_options(kafka, name, None) | {"logger": LOGGER, "log_level": 2})
    left = _left(until)
    try:
        producer.init_transactions(left)
    except KafkaException as error:
        found = error_of(error)
        if found.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
            prefix = name if kafka.group_instance_id else f"{kafka.group_id}- (prefixed)"
            what = f"use the transactional id {prefix}"
            raise _not_allowed(what, AclOperation.WRITE) from error
        if found.code() in _OLD:
            why = "the broker is too old for transactions"
        elif found.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
            why = "the broker's transaction.max.timeout.ms is below 10000"
        else:
            why = f"no coordinator of transactions answered within {left:.0f} s ({found.name()})"
        raise StartError(f"RSAFE_KAFKA__DELIVERY: exactly-once is not to be had: {why}") from error


def _not_allowed(what: str, operation: AclOperation) -> StartError:
    return StartError(f"this user may not {what}; it needs the ACL {operation.name}")


def _config(answer: Any, name: str) -> str | None:
    """A setting of a topic, None when this user may not ask."""
    try:
        return str(_answer(answer)[name].value)
    except (KafkaException, KeyError):
        return None


def _answer(future: Any) -> Any:
    return future.result()


def _left(until: float) -> float:
    return max(_LEAST_S, until - time.monotonic())
