"""What is refused at the start, with a broker that answers as told."""

from __future__ import annotations

import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation

from workers.adapters import kafka_checks as module
from workers.adapters.kafka_checks import check_login, check_topics
from workers.errors import StartError
from workers.settings import KafkaSettings

SETTINGS = KafkaSettings(events_topic="e", decisions_topic="d", dead_letters_topic="x", group_id="g")
NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1", start_timeout_s=0.5)
EVERYTHING = [AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE]


def failure(code: int, *flags: bool) -> KafkaException:
    return KafkaException(KafkaError(code, "why", *flags))


def done(answer: Any) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
    return future


def topic(partitions: int = 3, operations: Any = EVERYTHING) -> Any:
    return SimpleNamespace(partitions=[None] * partitions, authorized_operations=operations)


class Admin:
    """A broker on which nothing is wrong, unless a test says so."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.topics: dict[str, Any] = {name: topic() for name in "edx"}
        self.group: Any = SimpleNamespace(authorized_operations=[AclOperation.READ])
        self.configs: Any = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "2000"}
        self.letters_bytes = "20000"
        self.refuses: KafkaError | None = None

    def __call__(self, options: dict[str, Any]) -> Admin:
        self.options = options
        return self

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None: ...

    def list_topics(self, timeout: float) -> None:
        if self.refuses:
            self.options["error_cb"](self.refuses)
            raise failure(KafkaError._TRANSPORT)

    def poll(self, timeout: float) -> None: ...

    def describe_topics(self, names: Any, **options: Any) -> Any:
        return {name: done(answer) for name, answer in self.topics.items()}

    def describe_configs(self, resources: Any, **options: Any) -> Any:
        answer = self.configs
        if isinstance(answer, dict):
            answer = {name: SimpleNamespace(value=value) for name, value in answer.items()}
            letters = answer | {"max.message.bytes": SimpleNamespace(value=self.letters_bytes)}
            return {resource: done(letters if resource.name == "x" else answer) for resource in resources}
        return {resource: done(answer) for resource in resources}

    def describe_consumer_groups(self, groups: Any, **options: Any) -> Any:
        return {group: done(self.group) for group in groups}


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Admin:
    made = Admin()
    monkeypatch.setattr(module, "AdminClient", made)
    return made


def refused(settings: KafkaSettings = SETTINGS) -> str:
    with pytest.raises(StartError) as caught:
        check_topics(settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_the_decisions_topic_takes_is_told(admin: Admin) -> None:
    assert check_topics(SETTINGS) == 2000


def test_what_may_not_be_asked_is_not_held_against_the_worker(admin: Admin) -> None:
    admin.configs = failure(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    admin.group = failure(KafkaError.GROUP_ID_NOT_FOUND)
    admin.topics = {name: topic(operations=None) for name in "edx"}
    assert check_topics(SETTINGS) is None


def test_a_broker_that_does_not_answer_is_named_with_its_setting() -> None:
    began = time.monotonic()
    assert "RSAFE_KAFKA__BOOTSTRAP_SERVERS: no broker at 127.0.0.1:1 answered within 0.5 s" in refused(
        NOWHERE
    )
    assert time.monotonic() - began < 10


def test_refused_credentials_are_said_at_once(admin: Admin) -> None:
    admin.refuses = KafkaError(KafkaError._AUTHENTICATION)
    assert "RSAFE_KAFKA__SASL_USERNAME" in refused()


def test_missing_topics_are_named_together(admin: Admin) -> None:
    admin.topics |= {name: failure(KafkaError.UNKNOWN_TOPIC_OR_PART) for name in "dx"}
    assert "no topic d, x " in refused()


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("e", failure(KafkaError.TOPIC_AUTHORIZATION_FAILED), "may not read topic e; it needs the ACL READ"),
        (
            "d",
            failure(KafkaError.TOPIC_AUTHORIZATION_FAILED),
            "may not write to topic d; it needs the ACL WRITE",
        ),
        ("e", topic(operations=[AclOperation.DESCRIBE]), "may not read topic e"),
        ("x", topic(operations=[AclOperation.READ]), "may not write to topic x"),
        ("x", failure(KafkaError.UNKNOWN), "topic x cannot be looked at: UNKNOWN"),
    ],
)
def test_a_right_that_lacks_is_named_with_its_topic(admin: Admin, name: str, answer: Any, words: str) -> None:
    admin.topics[name] = answer
    assert words in refused()


@pytest.mark.parametrize(
    "answer",
    [
        failure(KafkaError.GROUP_AUTHORIZATION_FAILED),
        SimpleNamespace(authorized_operations=[AclOperation.DESCRIBE]),
    ],
)
def test_a_group_that_may_not_be_used_is_named(admin: Admin, answer: Any) -> None:
    admin.group = answer
    assert "may not use the group g; it needs the ACL READ" in refused()


def test_too_few_partitions_are_refused(admin: Admin) -> None:
    settings = SETTINGS.model_copy(update={"min_partitions": 4})
    assert "topic e has 3 partitions and RSAFE_KAFKA__MIN_PARTITIONS asks for 4" in refused(settings)


def test_the_senders_timestamps_are_refused_unless_accepted(admin: Admin) -> None:
    admin.configs = {"message.timestamp.type": "CreateTime", "max.message.bytes": "2000"}
    text = refused()
    assert "topic e has message.timestamp.type=CreateTime" in text
    assert "RSAFE_KAFKA__EVENTS_TIMESTAMPS=any" in text
    assert check_topics(SETTINGS.model_copy(update={"events_timestamps": "any"})) == 2000


def test_a_topic_too_small_for_some_dead_letters_is_refused(admin: Admin) -> None:
    admin.letters_bytes = "18383"
    assert "topic x has max.message.bytes=18383, too little for a dead letter of" in (text := refused())
    assert text.endswith("set it to 18384 or more")
    admin.letters_bytes = "18384"
    assert check_topics(SETTINGS) == 2000


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "may not use the transactional id g- (prefixed)"),
        (KafkaError._UNSUPPORTED_FEATURE, "too old for transactions"),
        (KafkaError.INVALID_TRANSACTION_TIMEOUT, "transaction.max.timeout.ms"),
        (KafkaError._TIMED_OUT, "no coordinator of transactions answered"),
    ],
)
def test_exactly_once_is_tried_at_the_start(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    class Refusing:
        def __init__(self, options: Any) -> None: ...

        def init_transactions(self, timeout: float) -> None:
            raise failure(code)

    monkeypatch.setattr(module, "Producer", Refusing)
    assert check_topics(SETTINGS) == 2000
    assert words in refused(SETTINGS.model_copy(update={"delivery": "exactly-once"}))


def test_files_that_the_client_library_does_not_take_are_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfit(options: dict[str, Any]) -> Any:
        raise KafkaException(KafkaError(KafkaError._SSL, "ssl.key.location failed:\n unsupported"))

    monkeypatch.setattr(module, "AdminClient", unfit)
    with pytest.raises(StartError) as caught:
        check_login(SETTINGS)
    sentence = "RSAFE_KAFKA__SSL_…: the client library cannot use these files: "
    assert str(caught.value) == f"{sentence}ssl.key.location failed: unsupported"
