"""What a broker with users and rights refuses, said in one sentence before anything slow is begun."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from pydantic import SecretStr

from tests.conftest import require
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_server import LOOPBACK, free_port
from workers.adapters.kafka_checks import check_topics
from workers.errors import StartError
from workers.settings import KafkaSettings

Right = tuple[ResourceType, str, ResourcePatternType, AclOperation]
LITERAL, PREFIXED = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
RIGHTS: list[Right] = [
    (ResourceType.TOPIC, "e", LITERAL, AclOperation.READ),
    (ResourceType.TOPIC, "d", LITERAL, AclOperation.WRITE),
    (ResourceType.TOPIC, "x", LITERAL, AclOperation.WRITE),
    (ResourceType.GROUP, "g", LITERAL, AclOperation.READ),
    (ResourceType.TRANSACTIONAL_ID, "g-", PREFIXED, AclOperation.WRITE),
]
# Good to have: without them the worker does not know the limit and the timestamps of its topics.
READ_CONFIGURATIONS: list[Right] = [
    (ResourceType.TOPIC, name, LITERAL, AclOperation.DESCRIBE_CONFIGS)
    for name in ("e", "d", "x", "senders-time", "small")
]
USERS = ["all", "bare", *(f"lacks-{number}" for number in range(len(RIGHTS)))]


def secured(plain: int, sasl: int, controller: int) -> dict[str, str]:
    """A second listener with users; who comes over the first is nobody, and may do everything."""
    users = " ".join(f'user_{user}="right"' for user in USERS)
    listeners = f"PLAINTEXT://{LOOPBACK}:{plain},SASL_PLAINTEXT://{LOOPBACK}:{sasl}"
    return {
        "listeners": f"{listeners},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": listeners,
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT"
        ),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A broker with a user for each right that may lack."""
    plain, sasl, controller = free_port(), free_port(), free_port()
    properties = secured(plain, sasl, controller)
    stack = LocalStack(ephemeral=True, redis=False, kafka_port=plain, kafka_properties=properties)
    try:
        stack.start()
    except StartError as error:
        require(False, str(error))
    try:
        admin: Any = AdminClient({"bootstrap.servers": stack.addresses.bootstrap_servers})
        topics = [
            NewTopic("e", 2, 1, config={"message.timestamp.type": "LogAppendTime"}),
            NewTopic("senders-time", 2, 1),
            NewTopic("d", 2, 1, config={"max.message.bytes": "5000"}),
            NewTopic("x", 1, 1, config={"max.message.bytes": "8388608"}),
            NewTopic("small", 1, 1),
        ]
        bindings = [
            AclBinding(kind, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
            for user in USERS
            for number, (kind, name, pattern, operation) in enumerate(RIGHTS)
            if user != f"lacks-{number}"
        ]
        bindings += [
            AclBinding(kind, name, pattern, "User:all", "*", operation, AclPermissionType.ALLOW)
            for kind, name, pattern, operation in [
                *READ_CONFIGURATIONS,
                (ResourceType.TOPIC, "senders-time", LITERAL, AclOperation.READ),
                (ResourceType.TOPIC, "small", LITERAL, AclOperation.WRITE),
            ]
        ]
        for future in [*admin.create_topics(topics).values(), *admin.create_acls(bindings).values()]:
            future.result(30)
        yield f"{LOOPBACK}:{sasl}"
    finally:
        stack.stop()


@pytest.fixture
def settings(address: str) -> Callable[..., KafkaSettings]:
    def make(user: str = "all", **more: Any) -> KafkaSettings:
        fields = {
            "bootstrap_servers": address,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": user,
            "sasl_password": SecretStr("right"),
            "group_id": "g",
            "events_topic": "e",
            "decisions_topic": "d",
            "dead_letters_topic": "x",
        }
        return KafkaSettings.model_validate(fields | more)

    return make


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_a_user_with_the_rights_of_the_guide_passes(
    settings: Callable[..., KafkaSettings], delivery: str
) -> None:
    assert check_topics(settings(delivery=delivery)) == 5000
    assert check_topics(settings("bare", delivery=delivery)) is None


@pytest.mark.parametrize(
    ("user", "more", "words"),
    [
        ("all", {"sasl_password": SecretStr("wrong")}, "RSAFE_KAFKA__SASL_USERNAME"),
        ("nobody", {}, "RSAFE_KAFKA__SASL_USERNAME"),
        ("lacks-0", {}, "may not read topic e; it needs the ACL READ"),
        ("lacks-1", {}, "may not write to topic d; it needs the ACL WRITE"),
        ("lacks-2", {}, "may not write to topic x; it needs the ACL WRITE"),
        ("lacks-3", {}, "may not use the group g; it needs the ACL READ"),
        (
            "lacks-4",
            {"delivery": "exactly-once"},
            "may not use the transactional id g- (prefixed); it needs the ACL WRITE",
        ),
        ("all", {"min_partitions": 3}, "topic e has 2 partitions"),
        ("all", {"events_topic": "senders-time"}, "message.timestamp.type=CreateTime"),
        ("all", {"dead_letters_topic": "small"}, "topic small has max.message.bytes=4194304, too little"),
    ],
)
def test_what_is_refused_is_named_in_time(
    settings: Callable[..., KafkaSettings], user: str, more: dict[str, Any], words: str
) -> None:
    began = time.monotonic()
    with pytest.raises(StartError) as caught:
        check_topics(settings(user, **more))
    text = str(caught.value)
    assert words in text
    assert "\n" not in text
    assert "right" not in text.replace("rights", "") and "wrong" not in text
    assert time.monotonic() - began < 30  # a client that tries for ever would never end
