"""The local stack with real servers. Redis stands for both where Kafka's seconds would show nothing more."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import NewTopic

from tests.conftest import require
from workers.adapters.embedded import LocalStack
from workers.adapters.embedded_addresses import Addresses
from workers.adapters.embedded_kafka import KafkaProcess, admin_client
from workers.adapters.embedded_redis import RedisProcess
from workers.adapters.embedded_server import LOOPBACK, port_is_free
from workers.adapters.embedded_status import stack_status, take_down
from workers.errors import StartError

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def own_temporary_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ephemeral stacks of these tests keep their folders here, so that what is left can be seen."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaProcess]:
    """A Kafka of this module's own, to be broken."""
    server = KafkaProcess(tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
    except StartError as error:
        require(False, str(error))
    yield server
    server.stop()


def ping(url: str) -> bool:
    client = redis.Redis.from_url(url)
    try:
        return bool(client.ping())
    finally:
        client.close()


def states(folder: Path) -> dict[str, str]:
    return {part.name: part.state for part in stack_status(folder)}


def test_the_session_stack_answers(local_stack: Addresses) -> None:
    assert ping(local_stack.redis_url)
    assert admin_client(local_stack.bootstrap_servers).list_topics(timeout=PATIENCE_S).topics


def test_records_survive_a_crash_of_the_broker_and_a_frozen_one_does_not_answer(kafka: KafkaProcess) -> None:
    admin = admin_client(kafka.address)
    admin.create_topics([NewTopic("kept", 3, 1)])["kept"].result(PATIENCE_S)
    producer = Producer({"bootstrap.servers": kafka.address, "acks": "all", "log_level": 0})
    for number in range(30):
        producer.produce("kept", value=str(number).encode(), partition=number % 3)
    assert producer.flush(PATIENCE_S) == 0

    kafka.suspend()
    assert not kafka.answers()
    kafka.resume()
    assert kafka.answers_within(PATIENCE_S)
    address = kafka.address
    kafka.kill()
    assert not kafka.running
    kafka.start()
    assert kafka.address == address

    consumer = Consumer({
        "bootstrap.servers": address,
        "group.id": "after-the-crash",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "log_level": 0,
    })  # fmt: skip
    consumer.subscribe(["kept"])
    values: set[int] = set()
    while len(values) < 30:
        for message in consumer.consume(30, timeout=PATIENCE_S):
            assert message.error() is None
            values.add(int(message.value() or b""))
    consumer.close()
    assert values == set(range(30))


def test_topics_are_not_created_by_a_mistyped_name(kafka: KafkaProcess) -> None:
    producer = Producer({
        "bootstrap.servers": kafka.address,
        "message.timeout.ms": 1000,
        "log_level": 0,
    })  # fmt: skip
    errors: list[object] = []
    producer.produce("no-such-topic", value=b"", on_delivery=lambda error, _: errors.append(error))
    producer.flush(PATIENCE_S)
    assert errors[0] is not None
    assert "no-such-topic" not in admin_client(kafka.address).list_topics(timeout=PATIENCE_S).topics


def test_a_broker_that_refuses_its_configuration_is_an_error_with_its_own_words(tmp_path: Path) -> None:
    server = KafkaProcess(tmp_path, properties={"log.segment.bytes": "much"})
    with pytest.raises(StartError, match=r"log\.segment\.bytes"):
        server.start()
    assert not server.running


def test_a_start_that_fails_takes_the_started_parts_down(
    own_temporary_folders: Path, monkeypatch: pytest.MonkeyPatch, kafka: KafkaProcess
) -> None:
    started: list[int] = []

    def note(server: KafkaProcess, on_spawn: object = None) -> None:
        # Another broker would take seconds to show the same: the stack has one part up when the next fails.
        RedisProcess.start(server)
        assert server.process
        started.append(server.process.pid)

    monkeypatch.setattr(KafkaProcess, "start", note)
    monkeypatch.setattr(KafkaProcess, "_prepare", lambda server: ["sleep", "300"])
    monkeypatch.setattr(KafkaProcess, "answers", lambda server: True)
    monkeypatch.setattr(RedisProcess, "_prepare", lambda server: ["false"])
    stack = LocalStack(ephemeral=True)
    with pytest.raises(StartError, match="Redis ended with exit code 1"):
        stack.start()
    assert not Path(f"/proc/{started[0]}").exists()
    assert not list(own_temporary_folders.iterdir())


def test_an_ephemeral_stack_leaves_nothing_not_even_after_an_exception(own_temporary_folders: Path) -> None:
    stack, pids = LocalStack(ephemeral=True, kafka=False), list[int]()

    def fail() -> None:
        assert stack.redis.process
        pids.append(stack.redis.process.pid)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), stack:
        fail()
    assert not Path(f"/proc/{pids[0]}").exists()
    assert not list(own_temporary_folders.iterdir())
    with stack:  # and it may start again
        assert ping(stack.addresses.redis_url)


def test_data_in_a_folder_survive_and_the_port_is_kept(tmp_path: Path) -> None:
    addresses = []
    for expected in (None, b"value"):
        with LocalStack(tmp_path, kafka=False) as stack:
            addresses.append(stack.addresses)
            client = redis.Redis.from_url(stack.addresses.redis_url)
            assert client.get("key") == expected
            client.set("key", "value")
            client.close()
    assert addresses[0] == addresses[1]


def test_a_folder_has_one_stack_at_a_time(tmp_path: Path) -> None:
    with LocalStack(tmp_path, kafka=False):
        for detached in (False, True):
            with pytest.raises(StartError, match="is in use by process"):
                LocalStack(tmp_path, kafka=False, detached=detached).start()
        with pytest.raises(StartError, match="is in use by process"):
            take_down(tmp_path)


def test_a_detached_stack_stays_until_it_is_taken_down(tmp_path: Path) -> None:
    first = LocalStack(tmp_path, kafka=False, detached=True).start()
    assert states(tmp_path) == {"Kafka": "down", "Redis": "up"}
    again = LocalStack(tmp_path, kafka=False, detached=True, existing=first)
    assert again.start() == first
    with pytest.raises(StartError, match="is up in"):
        LocalStack(tmp_path, kafka=False).start()
    user = LocalStack(tmp_path, kafka=False, existing=first)
    assert user.start() == first
    user.stop()
    again.redis.kill()
    assert states(tmp_path)["Redis"] == "down"
    assert LocalStack(tmp_path, kafka=False, detached=True, existing=first).start() == first
    assert take_down(tmp_path) == ["Redis"]
    assert take_down(tmp_path) == []
    assert states(tmp_path)["Redis"] == "down"


def test_a_detached_part_that_froze_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.adapters.embedded.ADOPTION_TIMEOUT_S", 0.1)
    first = LocalStack(tmp_path, kafka=False, detached=True)
    first.start()
    frozen = first.redis.process
    assert frozen
    first.redis.suspend()
    assert states(tmp_path)["Redis"] == "not answering"
    second = LocalStack(tmp_path, kafka=False, detached=True)
    second.start()
    assert frozen.wait(PATIENCE_S)
    assert ping(second.addresses.redis_url)
    take_down(tmp_path)


def test_ephemeral_data_of_a_detached_stack_go_when_it_is_taken_down(
    tmp_path: Path, own_temporary_folders: Path
) -> None:
    LocalStack(tmp_path, ephemeral=True, kafka=False, detached=True).start()
    assert len(list(own_temporary_folders.iterdir())) == 1
    take_down(tmp_path)
    assert not list(own_temporary_folders.iterdir())


def test_existing_parts_are_used_and_left_alone(local_stack: Addresses, tmp_path: Path) -> None:
    with LocalStack(tmp_path, existing=local_stack) as stack:
        assert stack.addresses == local_stack
        with pytest.raises(StartError, match="runs no Kafka"):
            assert stack.kafka
        with pytest.raises(StartError, match="runs no Redis"):
            assert stack.redis
    assert ping(local_stack.redis_url)


@pytest.mark.parametrize(
    ("existing", "variable"),
    [
        (Addresses(bootstrap_servers=f"{LOOPBACK}:1"), "RSAFE_KAFKA__BOOTSTRAP_SERVERS"),
        (Addresses(redis_url=f"redis://:secret@{LOOPBACK}:1/0"), "RSAFE_REDIS__URL"),
    ],
)
def test_an_existing_part_that_is_not_there_is_an_error_that_names_its_variable(
    existing: Addresses, variable: str, tmp_path: Path
) -> None:
    stack = LocalStack(tmp_path, kafka=bool(existing.bootstrap_servers), existing=existing)
    with pytest.raises(StartError, match=variable) as caught:
        stack.start()
    assert "secret" not in str(caught.value)


def test_servers_listen_on_the_loopback_address_only(tmp_path: Path) -> None:
    with LocalStack(tmp_path, kafka=False) as stack:
        table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        port = f":{stack.redis.port:04X} "
        local = [row.split()[1] for row in table.splitlines() if port in row.split()[1] + " "]
        assert local
        assert all(address.startswith("0100007F:") for address in local)
        assert not port_is_free(stack.redis.port)
