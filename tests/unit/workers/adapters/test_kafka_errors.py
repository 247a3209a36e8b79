"""Which errors pass and which stop the worker."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from workers.adapters.kafka_errors import REACTIONS, delivery_failure, reaction, sentence

PASSING = [
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.OFFSET_OUT_OF_RANGE,
]
STOPPING = [
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.UNRELEASED_INSTANCE_ID,
    KafkaError.INVALID_SESSION_TIMEOUT,
    KafkaError.INCONSISTENT_GROUP_PROTOCOL,
    KafkaError.OFFSET_METADATA_TOO_LARGE,
    KafkaError._BAD_COMPRESSION,
]


@pytest.mark.parametrize("code", PASSING)
def test_what_goes_away_by_itself_passes(code: int) -> None:
    assert not reaction(KafkaError(code)).stops


@pytest.mark.parametrize("code", STOPPING)
def test_what_never_goes_away_stops(code: int) -> None:
    assert reaction(KafkaError(code)).stops


def test_a_code_that_nobody_foresaw_passes_unless_the_client_calls_it_fatal() -> None:
    unforeseen = KafkaError.LISTENER_NOT_FOUND
    assert unforeseen not in REACTIONS
    assert not reaction(KafkaError(unforeseen)).stops
    assert reaction(KafkaError(unforeseen, "x", fatal=True)).stops
    # A code that passes otherwise stops when it is fatal, and does not claim that it will pass.
    found = reaction(KafkaError(KafkaError._TRANSPORT, "x", fatal=True))
    assert found.stops and "by itself" not in found.reason


def test_every_reaction_has_a_reason_that_ends_a_sentence() -> None:
    for code, (_, reason) in REACTIONS.items():
        assert reason and not reason.endswith("."), code


def test_a_sentence_names_what_failed_and_why() -> None:
    text = sentence("offsets cannot be committed", KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    assert text == (
        "offsets cannot be committed: GROUP_AUTHORIZATION_FAILED (the broker refuses this user; see the ACLs)"
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "topic d is gone"),
        (KafkaError._UNKNOWN_TOPIC, "topic d is gone"),
        (KafkaError._UNKNOWN_PARTITION, "topic d is gone"),
        (KafkaError.MSG_SIZE_TOO_LARGE, "larger than topic d takes"),
        (KafkaError._MSG_TIMED_OUT, "topic d did not acknowledge"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "topic d: TOPIC_AUTHORIZATION_FAILED"),
    ],
)
def test_a_delivery_that_failed_names_its_topic(code: int, words: str) -> None:
    assert words in delivery_failure("d", KafkaError(code))
