"""The local stack: a real Kafka, a real Redis and, if wanted, a Prometheus on this machine, for development,
the demo and the tests.

    with LocalStack(ephemeral=True) as stack:
        stack.addresses.bootstrap_servers, stack.addresses.redis_url
        stack.kafka.kill()

Parts end with the process that made the stack, however that ends, unless it is `detached`. A folder holds one
stack at a time; ephemeral ones stand beside each other.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from workers.adapters.embedded_addresses import SERVERS, Addresses, broker_accepts
from workers.adapters.embedded_folder import PartRecord, StackFolder, StackRecord, temporary_folder
from workers.adapters.embedded_kafka import KafkaProcess
from workers.adapters.embedded_process import ProcessIdentity
from workers.adapters.embedded_prometheus import DEFAULT_TARGETS, PrometheusProcess
from workers.adapters.embedded_redis import RedisProcess, redis_answers
from workers.adapters.embedded_server import Progress, ServerProcess, no_progress
from workers.errors import StartError

DEFAULT_FOLDER: Final = Path(".rsafe/local")
# A part that an earlier `up` started may be busy for a moment; one that is silent for longer is replaced.
ADOPTION_TIMEOUT_S: Final = 10.0


class LocalStack:
    """Kafka, Redis and Prometheus as processes. Not safe for threads."""

    def __init__(
        self,
        folder: Path | None = None,
        ephemeral: bool = False,
        kafka: bool = True,
        redis: bool = True,
        *,
        existing: Addresses | None = None,
        detached: bool = False,
        kafka_port: int = 0,
        redis_port: int = 0,
        prometheus: bool = False,
        prometheus_port: int = 0,
        scrape: Sequence[str] = DEFAULT_TARGETS,
        rules: Path | None = None,
        kafka_properties: Mapping[str, str] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Data and logs are kept in `folder` (default `.rsafe/local`), or go with the stack if `ephemeral`.

        Parts whose address `existing` names are used instead of starting one. Port 0 takes a free one.
        `detached` parts outlive this process, until `take_down`. Prometheus asks the workers at `scrape` and
        evaluates the alerts in the file `rules`.
        """
        self.addresses = Addresses()
        self._home = StackFolder(folder or DEFAULT_FOLDER)
        self._ephemeral = ephemeral
        self._wanted = {"Kafka": kafka, "Redis": redis, "Prometheus": prometheus}
        self._existing = existing or Addresses()
        self._detached = detached
        self._ports = {"Kafka": kafka_port, "Redis": redis_port, "Prometheus": prometheus_port}
        self._scrape, self._rules = scrape, rules
        self._kafka_properties = kafka_properties
        self._progress = progress
        self._parts: dict[str, ServerProcess] = {}
        self._started = False

    @property
    def kafka(self) -> KafkaProcess:
        """The Kafka that this stack runs. Raises `StartError` if it runs none."""
        part = self._parts.get("Kafka")
        if not isinstance(part, KafkaProcess):
            raise StartError("this stack runs no Kafka of its own")
        return part

    @property
    def redis(self) -> RedisProcess:
        """The Redis that this stack runs. Raises `StartError` if it runs none."""
        part = self._parts.get("Redis")
        if not isinstance(part, RedisProcess):
            raise StartError("this stack runs no Redis of its own")
        return part

    def start(self) -> Addresses:
        """Start what is wanted and return when all of it answers.

        Raises `StartError`, and then nothing that this call started is left.
        """
        try:
            if self._ephemeral and not self._detached:
                self._home = StackFolder(temporary_folder())
            with self._home.locked():
                return self._start_locked()
        except OSError as error:
            raise StartError(f"the local stack cannot use {self._home.path}: {error}") from error

    def stop(self) -> None:
        """End the parts in good order, and remove ephemeral data. A stopped stack may start again."""
        if self._started:
            with self._home.locked():
                self._end(self._parts)
                self._home.release()
            self._started = False
            self._parts = {}
            self.addresses = Addresses()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_locked(self) -> Addresses:
        before = self._home.read()
        existing = self._usable_existing(before)
        if all(existing.of(name) for name, wanted in self._wanted.items() if wanted):
            self.addresses = existing
            return existing
        self._refuse_occupied(before)
        record = self._claim(before)
        started: dict[str, ServerProcess] = {}
        try:
            for name in (name for name, wanted in self._wanted.items() if wanted):
                if existing.of(name):
                    self._progress(f"{name}: using the one whose address was given")
                    continue
                known = record.parts.get(name, PartRecord(port=0))
                part = self._parts[name] = self._make(name, Path(record.data), known.port)
                if not self._adopted(part, known):
                    started[name] = part
                    part.start(on_spawn=self._note(name, part, ready=False))
                self._note(name, part, ready=True)()
        except BaseException:
            # Whatever the reason, an interrupt included: no half-started stack is left.
            self._end(started)
            self._parts = {}
            if not self._home.read().running():
                self._home.release()
            raise
        for name, part in self._parts.items():
            existing = existing.with_part(name, part.address)
        self.addresses, self._started = existing, True
        return existing

    def _refuse_occupied(self, record: StackRecord) -> None:
        owner = record.owner
        if owner and record.owner_runs():
            raise StartError(f"{self._home.path} is in use by process {owner.pid}; name another folder")
        alive = record.running()
        if alive and not owner and not self._detached:
            raise StartError(
                f"a local stack is up in {self._home.path} ({', '.join(alive)}); `rsafe local down` takes it "
                "down, and with `--ephemeral` another one can run beside it"
            )

    def _usable_existing(self, record: StackRecord) -> Addresses:
        existing = self._existing
        if self._detached:
            # What an earlier `up` printed and a shell kept is our own part, perhaps to be started again.
            for name, part in record.parts.items():
                if existing.of(name) == SERVERS[name].address_at(part.port):
                    existing = existing.with_part(name, "")
        if existing.bootstrap_servers and not broker_accepts(existing.bootstrap_servers):
            raise StartError(
                f"RSAFE_KAFKA__BOOTSTRAP_SERVERS names {existing.bootstrap_servers}, and nobody accepts "
                "connections there; unset it to have a broker started"
            )
        if existing.redis_url and not redis_answers(existing.redis_url):
            # The address may hold a password.
            raise StartError(
                "the Redis that RSAFE_REDIS__URL names does not answer; unset it to have one started"
            )
        return existing

    def _claim(self, before: StackRecord) -> StackRecord:
        """Write down whose the folder is now, and end what a killed owner left."""
        alive = before.running()
        if alive and before.owner is None:
            return before  # detached as we are: only what is missing is started
        for process in alive.values():
            process.end(KafkaProcess.stop_timeout_s)
        self._home.release()
        data = self._home.path
        if self._ephemeral and self._detached:
            data = temporary_folder()
        record = StackRecord(
            data=str(data),
            ephemeral=self._ephemeral,
            owner=None if self._detached else ProcessIdentity.of(os.getpid()),
            parts={name: PartRecord(part.port) for name, part in before.parts.items()},
        )
        self._home.write(record)
        return record

    def _make(self, name: str, data: Path, last_port: int) -> ServerProcess:
        options: dict[str, Any] = {
            "port": self._ports[name],
            "preferred_port": last_port,
            "detached": self._detached,
            # Data that go anyway need no good order, and nothing can delay a kill.
            "death_signal": signal.SIGKILL if self._ephemeral else signal.SIGTERM,
            "progress": self._progress,
        }
        if name == "Kafka":
            return KafkaProcess(data, properties=self._kafka_properties, **options)
        if name == "Prometheus":
            return PrometheusProcess(data, targets=self._scrape, rules=self._rules, **options)
        return RedisProcess(data, ephemeral=self._ephemeral, **options)

    def _adopted(self, part: ServerProcess, known: PartRecord) -> bool:
        """Whether a part of an earlier `up` could be kept; one that is not well is ended."""
        process = known.running()
        if process is None:
            return False
        if known.ready:
            part.adopt(process, known.port)
            if part.answers_within(ADOPTION_TIMEOUT_S):
                self._progress(f"{part.name}: up already at {part.address}")
                return True
        self._progress(f"{part.name}: process {process.pid} does not answer, starting another one")
        process.end(part.stop_timeout_s)
        return False

    def _note(self, name: str, part: ServerProcess, *, ready: bool) -> Callable[[], None]:
        def note() -> None:
            identity = part.process.identity if part.process else None
            self._home.write_part(name, PartRecord(part.port, identity, ready))

        return note

    def _end(self, parts: Mapping[str, ServerProcess]) -> None:
        with contextlib.ExitStack() as endings:  # one that fails keeps no other from ending
            for name, part in parts.items():
                endings.callback(self._note(name, part, ready=False))
                endings.callback(part.stop)
