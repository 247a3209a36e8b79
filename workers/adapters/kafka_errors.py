"""What an error of Kafka means for the stream: it passes, or the worker stops uncommitted.

One table for the consumer, for commits and for transactions. librdkafka retries whatever may go away, so an
error that is not in the table passes: to stop for every new code would make a worker fragile, and nothing is
committed that was not delivered. A delivery that failed has no such rule: it was retried until its time was
up, so it stops the stream whatever the code (`delivery_failure`).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException


class Reaction(NamedTuple):
    """`stops`: trying again cannot help. `reason`: why, as the second half of a sentence."""

    stops: bool
    reason: str


_AWAY: Final = "a broker is away or comes back; the client connects again by itself"
_MOVED: Final = "a leader or coordinator moved; the client asks for the new one"
_REBALANCE: Final = "the group is dividing its partitions anew; whoever has them then commits"
_TOPIC: Final = "the topic is not to be seen; a broker that starts may not know it yet"
_REFUSED: Final = "the broker refuses this user; see the ACLs"
_UNREADABLE: Final = "a stored batch cannot be read, and to go on would skip its records"

_STOPS: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: _REFUSED,
    KafkaError.GROUP_AUTHORIZATION_FAILED: _REFUSED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: _REFUSED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: _REFUSED,
    KafkaError.FENCED_INSTANCE_ID: "another worker runs with the same RSAFE_KAFKA__GROUP_INSTANCE_ID",
    # Fatal in the client. Only the consumer protocol knows it: a static member that was killed is remembered.
    KafkaError.UNRELEASED_INSTANCE_ID: (
        "the worker that had this RSAFE_KAFKA__GROUP_INSTANCE_ID before did not leave; start again when its "
        "session has run out"
    ),
    KafkaError.INVALID_SESSION_TIMEOUT: (
        "RSAFE_KAFKA__SESSION_TIMEOUT_MS is not between the broker's group.min.session.timeout.ms and "
        "group.max.session.timeout.ms"
    ),
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: (
        "other members of the group use another way to divide partitions; RSAFE_KAFKA__GROUP_ID must belong "
        "to this worker alone"
    ),
    KafkaError.GROUP_MAX_SIZE_REACHED: "the group is full (group.max.size of the broker)",
    KafkaError.INVALID_GROUP_ID: "the broker does not take RSAFE_KAFKA__GROUP_ID",
    KafkaError.UNSUPPORTED_ASSIGNOR: "the broker does not divide partitions in the way that was asked for",
    KafkaError.UNSUPPORTED_VERSION: "the broker is too old for what the settings ask for",
    KafkaError._UNSUPPORTED_FEATURE: "the broker is too old for what the settings ask for",
    KafkaError.OFFSET_METADATA_TOO_LARGE: (
        "the broker's offset.metadata.max.bytes is below 4096, its default; the worker keeps notes there"
    ),
    KafkaError.INVALID_COMMIT_OFFSET_SIZE: "the broker cannot store the offsets",
    KafkaError._AUTO_OFFSET_RESET: "the offset to go on from is gone and there is no rule where to go on",
    KafkaError._BAD_COMPRESSION: _UNREADABLE,
    KafkaError._BAD_MSG: _UNREADABLE,
    KafkaError.INVALID_MSG: _UNREADABLE,
    KafkaError._NOT_IMPLEMENTED: _UNREADABLE,
}
_PASSES: Final = {
    KafkaError._TRANSPORT: _AWAY,
    KafkaError._ALL_BROKERS_DOWN: _AWAY,
    KafkaError._RESOLVE: _AWAY,
    KafkaError._TIMED_OUT: _AWAY,
    KafkaError._TIMED_OUT_QUEUE: _AWAY,
    KafkaError.REQUEST_TIMED_OUT: _AWAY,
    KafkaError.NETWORK_EXCEPTION: _AWAY,
    KafkaError.BROKER_NOT_AVAILABLE: _AWAY,
    # Credentials may be changed on both sides one after the other; at the start they are checked.
    KafkaError._AUTHENTICATION: "the broker refuses the credentials; they may be in the course of a change",
    KafkaError.SASL_AUTHENTICATION_FAILED: "the credentials may be in the course of a change",
    KafkaError.LEADER_NOT_AVAILABLE: _MOVED,
    KafkaError.NOT_LEADER_FOR_PARTITION: _MOVED,
    KafkaError.FENCED_LEADER_EPOCH: _MOVED,
    KafkaError.UNKNOWN_LEADER_EPOCH: _MOVED,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS: _MOVED,
    KafkaError.COORDINATOR_NOT_AVAILABLE: _MOVED,
    KafkaError.NOT_COORDINATOR: _MOVED,
    KafkaError._WAIT_COORD: _MOVED,
    KafkaError.KAFKA_STORAGE_ERROR: "a disk of the broker failed; another replica takes over",
    KafkaError.ILLEGAL_GENERATION: _REBALANCE,
    KafkaError.UNKNOWN_MEMBER_ID: _REBALANCE,
    KafkaError.REBALANCE_IN_PROGRESS: _REBALANCE,
    KafkaError.STALE_MEMBER_EPOCH: _REBALANCE,
    KafkaError.FENCED_MEMBER_EPOCH: _REBALANCE,
    KafkaError.MEMBER_ID_REQUIRED: _REBALANCE,
    KafkaError._ASSIGNMENT_LOST: _REBALANCE,
    KafkaError._STATE: _REBALANCE,
    KafkaError._NO_OFFSET: "there was nothing to commit",
    KafkaError._MAX_POLL_EXCEEDED: (
        "the loop did not fetch for RSAFE_KAFKA__MAX_POLL_INTERVAL_MS; its partitions went to others, and it "
        "joins again"
    ),
    KafkaError._UNKNOWN_TOPIC: _TOPIC,
    KafkaError._UNKNOWN_PARTITION: _TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART: _TOPIC,
    KafkaError.UNKNOWN_TOPIC_ID: _TOPIC,
    KafkaError.OFFSET_OUT_OF_RANGE: "the records were removed meanwhile; reading goes on at the oldest left",
    KafkaError.OFFSET_NOT_AVAILABLE: _MOVED,
    KafkaError.UNSTABLE_OFFSET_COMMIT: "a transaction of the former owner is being ended",
    KafkaError.CONCURRENT_TRANSACTIONS: "the transaction before is being ended",
    KafkaError.FETCH_SESSION_ID_NOT_FOUND: _MOVED,
    KafkaError.INVALID_FETCH_SESSION_EPOCH: _MOVED,
    KafkaError.THROTTLING_QUOTA_EXCEEDED: "the broker slows this user down",
}
REACTIONS: Final = MappingProxyType(
    {code: Reaction(stops=True, reason=reason) for code, reason in _STOPS.items()}
    | {code: Reaction(stops=False, reason=reason) for code, reason in _PASSES.items()}
)
_UNFORESEEN: Final = Reaction(stops=False, reason="the client tries again")
_FATAL: Final = Reaction(stops=True, reason="the client cannot go on")

_GONE: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
)


def reaction(error: KafkaError) -> Reaction:
    """What the table says; what the client calls fatal always stops."""
    cause = _cause(error)
    found = REACTIONS.get(cause.code())
    if error.fatal() or error.code() == KafkaError._FATAL:
        return found if found is not None and found.stops else _FATAL
    return found or _UNFORESEEN


def sentence(what: str, error: KafkaError) -> str:
    """`what` failed, the error's name, and the reason of the table. Never holds what a record holds."""
    return f"{what}: {_cause(error).name()} ({reaction(error).reason})"


def _cause(error: KafkaError) -> KafkaError:
    """What is behind an error; itself, unless the consumer gave it as a record.

    Then whatever is fatal has the one code `_FATAL`, is not marked as fatal, and says in words alone what
    happened: "Fatal error: ", librdkafka's words for the code, and more.
    """
    if error.code() == KafkaError._FATAL:
        for code in _STOPS:
            if KafkaError(code).str() in error.str():
                return KafkaError(code)
    return error


def delivery_failure(topic: str, error: KafkaError) -> str:
    """Why an outcome did not reach its topic, for the operator."""
    code = error.code()
    if code in _GONE:
        return f"topic {topic} is gone ({error.name()}); `rsafe topics create` makes it"
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return f"a dead letter is larger than topic {topic} takes; raise its max.message.bytes"
    if code == KafkaError._MSG_TIMED_OUT:
        return f"topic {topic} did not acknowledge within RSAFE_KAFKA__DELIVERY_TIMEOUT_MS ({error.name()})"
    return f"topic {topic}: {error.name()}"


def error_of(exception: KafkaException) -> Any:
    """The `KafkaError` in an exception of the client."""
    return exception.args[0]
