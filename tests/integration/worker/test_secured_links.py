"""Kafka and Redis with certificates, passwords and rights, on real servers with certificates of the test."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from schemas.decision import Origin, decision_id
from schemas.keys import record_key
from schemas.review import Review
from tests.certificates import Authority
from tests.integration.worker.harness import Topics, Worker, event, order_inversions, topics_of
from tests.integration.worker.secured import (
    REAUTH_MS,
    Broker,
    own,
    put,
    put_pair,
    secured_broker,
)
from tests.waiting import patiently, wait_for
from workers.adapters.admin import WantedTopic, create_topics
from workers.adapters.kafka_checks import check_login, check_topics
from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import RecordWriter, read_records
from workers.errors import StartError
from workers.kafka_rights import Right, rights
from workers.settings import KafkaSettings

ROOMS = 7
PASSWORD = "kafka-s3cret-of-the-test"
# With a transaction the rights are those of at least once, and one more.
EVERYTHING = KafkaSettings(delivery="exactly-once")
NEEDED = [
    (number, operation)
    for number, right in enumerate(rights(EVERYTHING))
    for operation in right.operations
    if operation != "DescribeConfigs"
]


@pytest.fixture(scope="module")
def next_clients(folder: Path) -> Authority:
    """Another authority that the broker takes certificates of clients from, until it is told otherwise."""
    return Authority(folder, "next-clients")


@pytest.fixture(scope="module")
def broker(folder: Path, next_clients: Authority) -> Iterator[Broker]:
    with secured_broker(folder, Authority(folder, "clients"), next_clients) as made:
        made.set_passwords(
            {"checked": PASSWORD, **{f"lacks-{number}": PASSWORD for number in range(len(NEEDED))}}
        )
        yield made


@pytest.fixture(scope="module")
def checked(broker: Broker, folder: Path, fresh_name: Callable[[str], str]) -> Topics:
    """Topics for the checks before the start, and users that each lack one right over them."""
    topics = Topics(broker.plain, "", folder, fresh_name("checked"))
    topics.create()
    all_rights = rights(settings(broker, topics, delivery="exactly-once"))
    broker.allow("checked", all_rights)
    for user, lack in enumerate(NEEDED):
        broker.allow(f"lacks-{user}", without(all_rights, *lack))
    return topics


@pytest.fixture
def topics(broker: Broker, tmp_path: Path, fresh_name: Callable[[str], str]) -> Iterator[Topics]:
    made = Topics(broker.plain, "", tmp_path, fresh_name("secured"))
    made.create()
    with topics_of(made):
        yield made


def without(some: list[Right], number: int, operation: str) -> list[Right]:
    changed = some[number]._replace(operations=tuple(o for o in some[number].operations if o != operation))
    return [*some[:number], *([changed] if changed.operations else []), *some[number + 1 :]]


def settings(broker: Broker, topics: Topics, **changes: Any) -> KafkaSettings:
    fields = {
        "bootstrap_servers": broker.password,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": "checked",
        "sasl_password": SecretStr(PASSWORD),
        "ssl_ca_location": str(broker.authority.file),
        "group_id": topics.name,
        "events_topic": f"{topics.name}.events",
        "decisions_topic": f"{topics.name}.decisions",
        "dead_letters_topic": f"{topics.name}.dead",
    }
    return KafkaSettings.model_validate(fields | changes)


def refused(kafka: KafkaSettings) -> str:
    """The one sentence, which comes before the client would give up by itself, and holds no secret."""
    began = time.monotonic()
    with pytest.raises(StartError) as caught:
        check_topics(kafka)
    assert time.monotonic() - began < 45
    text = str(caught.value)
    assert "\n" not in text
    assert PASSWORD not in text
    return text


# Kafka at the start


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_right_credentials_pass_whatever_the_way_in(broker: Broker, checked: Topics, delivery: str) -> None:
    mine = broker.clients.issue("checked")
    locked = broker.clients.issue("checked-locked", key_password="of-the-key")
    by_certificate = {
        "bootstrap_servers": broker.certificate,
        "security_protocol": "SSL",
        "sasl_mechanism": "",
    }
    for way in (
        {},
        by_certificate | own(mine),
        {"bootstrap_servers": broker.both} | own(mine),
        {"bootstrap_servers": broker.both, "ssl_key_password": SecretStr("of-the-key")} | own(locked),
    ):
        assert check_topics(settings(broker, checked, delivery=delivery, **way)) is not None


def test_a_wrong_password_and_an_unknown_user_are_refused(broker: Broker, checked: Topics) -> None:
    wrong = refused(settings(broker, checked, sasl_password=SecretStr("no-such-password")))
    assert wrong.startswith("RSAFE_KAFKA__SASL_USERNAME: the broker at localhost:")
    assert "refuses this user or its password; check RSAFE_KAFKA__SASL_PASSWORD" in wrong
    assert "no-such-password" not in wrong
    assert refused(settings(broker, checked, sasl_username="nobody")) == wrong
    options = client_options(settings(broker, checked, sasl_username="nobody"))
    with pytest.raises(StartError) as caught:  # and so it is by the commands
        create_topics(options, [], timeout_s=2)
    assert str(caught.value) == wrong
    other = refused(settings(broker, checked, sasl_mechanism="PLAIN"))
    assert "RSAFE_KAFKA__SASL_MECHANISM: " in other
    assert "does not take PLAIN; expected one that its listener offers" in other


def test_an_unknown_authority_is_refused(broker: Broker, checked: Topics, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").file
    assert refused(settings(broker, checked, ssl_ca_location=str(stranger))) == (
        f"RSAFE_KAFKA__SSL_CA_LOCATION: the certificate of {broker.password} is from an authority that is "
        f"not in {stranger}; expected the file of its authority"
    )


def test_another_host_name_is_refused(broker: Broker, checked: Topics) -> None:
    by_number = broker.password.replace("localhost", "127.0.0.1")
    assert refused(settings(broker, checked, bootstrap_servers=by_number)) == (
        f"the certificate of {by_number} is for another host name; use a name that stands in the "
        "certificate, or have this one added to it"
    )


def test_a_client_without_certificate_and_one_with_a_strange_one_are_refused(
    broker: Broker, checked: Topics, tmp_path: Path
) -> None:
    ways = {
        broker.certificate: {"security_protocol": "SSL", "sasl_mechanism": ""},
        broker.both: {},
    }
    stranger = own(Authority(tmp_path, "stranger").issue("checked"))
    for address, way in ways.items():
        bare = settings(broker, checked, bootstrap_servers=address, **way)
        assert refused(bare) == (
            f"RSAFE_KAFKA__SSL_CERTIFICATE_LOCATION: {address} asks for a client certificate; expected a "
            "file, and its key"
        )
        strange = refused(settings(broker, checked, bootstrap_servers=address, **way, **stranger))
        assert (
            f"RSAFE_KAFKA__SSL_CERTIFICATE_LOCATION: {address} refuses the client certificate in " in strange
        )


def test_another_protocol_than_the_listener_s_is_refused(broker: Broker, checked: Topics) -> None:
    tls_to_plain = settings(broker, checked, bootstrap_servers=broker.plain, start_timeout_s=3)
    assert "RSAFE_KAFKA__SECURITY_PROTOCOL is SASL_SSL" in refused(tls_to_plain)
    bare = {
        "security_protocol": "PLAINTEXT",
        "sasl_mechanism": "",
        "ssl_ca_location": "",
        "start_timeout_s": 3,
    }
    assert "RSAFE_KAFKA__SECURITY_PROTOCOL is PLAINTEXT" in refused(settings(broker, checked, **bare))


@pytest.mark.parametrize("lacks", range(len(NEEDED)))
def test_each_right_that_lacks_is_named(broker: Broker, checked: Topics, lacks: int) -> None:
    kafka = settings(broker, checked, sasl_username=f"lacks-{lacks}", delivery="exactly-once")
    number, operation = NEEDED[lacks]
    text = refused(kafka)
    assert rights(kafka)[number].name in text
    assert f"it needs the ACL {operation.upper()}" in text


def test_librdkafka_writes_no_password_whatever_it_is_told_to_write(broker: Broker, checked: Topics) -> None:
    lines: list[str] = []
    logger = logging.getLogger("rsafe.test-of-everything")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    locked = own(broker.clients.issue("checked-locked-too", key_password="of-the-key"))
    kafka = settings(
        broker, checked, bootstrap_servers=broker.both, ssl_key_password=SecretStr("of-the-key"), **locked
    )
    with AdminClient(client_options(kafka) | {"debug": "all", "logger": logger}) as client:
        patiently(lambda: client.list_topics(timeout=10))
        client.poll(0)
    text = "\n".join(lines)
    assert "sasl.password" in text  # it does write its settings
    assert PASSWORD not in text
    assert "of-the-key" not in text


# workers


def environment(broker: Broker, secrets: Path, address: str, user: str = "") -> dict[str, str]:
    """A way in, with the secrets in files."""
    found = {
        "RSAFE_KAFKA__BOOTSTRAP_SERVERS": address,
        "RSAFE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL" if user else "SSL",
        "RSAFE_KAFKA__SSL_CA_LOCATION": str(broker.authority.file),
        "RSAFE_SECRETS__WATCH_S": "0.2",
    }
    if user:
        found |= {
            "RSAFE_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
            "RSAFE_KAFKA__SASL_USERNAME": user,
            "RSAFE_KAFKA__SASL_PASSWORD_FILE": str(secrets / "password"),
        }
    if address != broker.password:
        found |= {
            "RSAFE_KAFKA__SSL_CERTIFICATE_LOCATION": str(secrets / "tls.crt"),
            "RSAFE_KAFKA__SSL_KEY_LOCATION": str(secrets / "tls.key"),
        }
    return found


@pytest.mark.parametrize(
    ("way", "delivery", "protocol"),
    [("certificate", "at-least-once", "consumer"), ("password", "exactly-once", "classic")],
)
def test_the_least_rights_are_enough_for_a_worker_and_for_redrive(
    broker: Broker, topics: Topics, way: str, delivery: Any, protocol: Any
) -> None:
    """What `rsafe topics acls` prints. The two other pairs are run under the change of secrets below."""
    kafka = settings(broker, topics, delivery=delivery)
    user, redriver = f"least-{way}", f"redriver-{way}"
    broker.set_passwords({user: PASSWORD, redriver: PASSWORD})
    broker.allow(user, rights(kafka))
    broker.allow(redriver, rights(kafka, "redrive"))
    put_pair(topics.folder, broker.clients.issue(user))
    put(topics.folder / "password", PASSWORD.encode() + b"\n")
    address = broker.certificate if way == "certificate" else broker.password
    link = environment(broker, topics.folder, address, user if way == "password" else "")
    worker = topics.start(**link, RSAFE_KAFKA__DELIVERY=delivery, RSAFE_KAFKA__GROUP_PROTOCOL=protocol)
    topics.produce([*some_events(topics, 20), b"no event"], [*their_keys(20), b"x"])
    topics.wait_decided(20)
    wait_for(lambda: topics.count("dead") >= 1, "the dead letter")
    assert worker.stop() == 0
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
    done = subprocess.run(
        [sys.executable, "-m", "workers", "redrive"],
        env=clean | topics.environment | environment(broker, topics.folder, broker.password, redriver),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "1 put back (" in done.stdout


def test_the_least_rights_are_enough_to_export_reviews_and_to_announce(
    broker: Broker, topics: Topics
) -> None:
    """And without one to read the events nothing counts as expired: it is an error."""
    names = {stem: f"{topics.name}.{stem}" for stem in ("reviews", "checkpoints")}
    plain = client_options(KafkaSettings(bootstrap_servers=broker.plain))
    create_topics(plain, [WantedTopic(name, 2, 1, {}) for name in names.values()], timeout_s=30)
    topics.produce([*some_events(topics, 1)], [*their_keys(1)])
    ((record,),) = read_records(plain, f"{topics.name}.events", start="beginning", follow=False, timeout_s=30)
    origin = Origin(topic=record.topic, partition=record.partition, offset=record.offset)
    review = Review(
        review_id="r-1",
        decision_id=decision_id(origin=origin, event_id="event-0"),
        origin=origin,
        reviewer="reviewer",
        label="safe",
        reviewed_at=datetime(2026, 2, 1, tzinfo=UTC),
    )
    writer = RecordWriter(plain, names["reviews"], timeout_s=30, delivery_timeout_ms=30_000)
    writer.send(review.decision_id.encode(), msgspec.json.encode(review))
    writer.finish()
    kafka = settings(broker, topics, **{f"{stem}_topic": name for stem, name in names.items()})
    users = {"trainer": rights(kafka, "export"), "releaser": rights(kafka, "announce")}
    users["half-trainer"] = rights(kafka, "export")[:1]
    broker.set_passwords(dict.fromkeys(users, PASSWORD))
    for user, some in users.items():
        broker.allow(user, some)
    put(topics.folder / "password", PASSWORD.encode() + b"\n")

    def run(user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RSAFE_")}
        called = {f"RSAFE_KAFKA__{stem.upper()}_TOPIC": name for stem, name in names.items()}
        return subprocess.run(
            [sys.executable, "-m", "workers", *arguments],
            env=clean
            | topics.environment
            | called
            | environment(broker, topics.folder, broker.password, user),
            capture_output=True,
            text=True,
            timeout=60,
        )

    rows = topics.folder / "rows.jsonl"
    done = run("trainer", "train", "export", "--output", str(rows))
    assert (done.returncode, len(rows.read_text().splitlines())) == (0, 1), done.stderr
    announced = run("releaser", "checkpoint", "announce", "tiny")
    assert announced.returncode == 0, announced.stderr
    refused = run("half-trainer", "train", "export", "--output", str(topics.folder / "none.jsonl"))
    assert (refused.returncode, f"topic {topics.name}.events" in refused.stderr) == (3, True)
    assert not (topics.folder / "none.jsonl").exists()


def some_events(topics: Topics, count: int, first: int = 0) -> Iterator[bytes]:
    for number in range(first, first + count):
        text = f"text {number % 20} of {topics.name}"
        yield event(f"event-{number}", "tenant", f"room-{number % ROOMS}", text)


def their_keys(count: int, first: int = 0) -> list[bytes | None]:
    return [record_key("tenant", f"room-{number % ROOMS}") for number in range(first, first + count)]


class Load:
    """Events all the time, in a thread; counts them."""

    def __init__(self, topics: Topics) -> None:
        self._topics, self._ends, self.count = topics, threading.Event(), 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ends.wait(0.1):
            values = list(some_events(self._topics, 30, self.count))
            self._topics.produce(values, their_keys(30, self.count))
            self.count += 30

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._ends.set()
            self._thread.join()


def renewals(worker: Worker) -> int:
    return sum(line.get("event") == "A changed password or certificate is in use." for line in worker.lines())


def commits(worker: Worker) -> float:
    """How many offsets the broker has taken."""
    lines = worker.get("/metrics").splitlines()
    (taken,) = [line for line in lines if line.startswith('rsafe_commits_total{outcome="taken"}')]
    return float(taken.split()[1])


@pytest.mark.parametrize(
    ("delivery", "protocol"), [("exactly-once", "consumer"), ("at-least-once", "classic")]
)
def test_password_and_certificate_change_under_load_and_nothing_is_lost(
    broker: Broker, next_clients: Authority, topics: Topics, delivery: Any, protocol: Any
) -> None:
    user, former, later = f"turning-{protocol}", "former-s3cret", "later-s3cret"
    secrets = topics.folder
    broker.set_passwords({user: former})
    broker.trust(broker.clients, next_clients)
    broker.allow(user, rights(settings(broker, topics, delivery=delivery)))
    put_pair(secrets, broker.clients.issue(user))
    put(secrets / "password", former.encode())
    worker = topics.start(
        **environment(broker, secrets, broker.both, user),
        RSAFE_KAFKA__DELIVERY=delivery,
        RSAFE_KAFKA__GROUP_PROTOCOL=protocol,
    )
    load = Load(topics)
    with load.running():
        topics.wait_decided(60)
        broker.set_passwords({user: later})
        put(secrets / "password", later.encode())
        wait_for(lambda: renewals(worker) == 1, "the new password")
        time.sleep(REAUTH_MS / 1000 + 1)  # every connection has had to log in once more
        taken = commits(worker)
        wait_for(lambda: commits(worker) > taken + 10, "commits over the connections of the new password")
        broker.trust(next_clients)  # whoever connects from now on needs the new certificate
        put_pair(secrets, next_clients.issue(f"{user}-next"))
        wait_for(lambda: renewals(worker) == 2, "the new certificate")
        before = load.count
        wait_for(lambda: load.count > before + 300, "more events")
    wait_for(lambda: complete(topics, load.count), "all decisions")
    assert worker.process.poll() is None  # the same process
    assert 'rsafe_guard_restarts_total{outcome="answers"} 1.0' in worker.get("/metrics")
    assert 'rsafe_link_renewals_total{link="kafka",outcome="used"} 2.0' in worker.get("/metrics")
    hidden(worker, secrets, former, later)
    assert worker.stop() == 0
    decided = topics.decisions()
    assert len(decided) == load.count  # and none twice
    assert order_inversions(decided) == 0
    old = settings(broker, topics, bootstrap_servers=broker.both, sasl_username=user)
    for pair, password, words in (
        (next_clients.issue("new"), former, "refuses this user or its password"),
        (broker.clients.issue("old"), later, "refuses the client certificate"),
    ):
        with pytest.raises(StartError, match=words):
            check_login(old.model_copy(update=own(pair) | {"sasl_password": SecretStr(password)}))


def complete(topics: Topics, count: int) -> bool:
    decided = {decision.event_id for decision in topics.decisions()}
    return decided == {f"event-{number}" for number in range(count)}


def hidden(worker: Worker, folder: Path, *passwords: str) -> None:
    """The passwords stand nowhere but in their files."""
    process = Path("/proc") / str(worker.process.pid)
    places = {
        "log": worker.log.read_bytes(),
        "command line": (process / "cmdline").read_bytes(),
        "environment": (process / "environ").read_bytes(),
        "title": (process / "comm").read_bytes(),
    }
    for password in passwords:
        assert [name for name, text in places.items() if password.encode() in text] == []
