"""A place for faults: topics and a group of their own, workers, load and watch, over one local stack."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from tests.acceptance.evidence import json_object
from tests.acceptance.faults.load import Load
from tests.acceptance.faults.traffic import LIMITS, SECRETS, Planned, endless, malformed
from tests.acceptance.faults.watch import Watch
from tests.acceptance.scenario import Topics, guard_environment, write_policies
from tests.acceptance.topics import committed, uncommitted
from tests.acceptance.worker_process import Spawn, WorkerProcess
from tests.waiting import patiently
from workers.adapters.admin import create_topics
from workers.adapters.embedded import LocalStack
from workers.adapters.kafka_options import client_options
from workers.commands.topics import wanted_topics
from workers.demo.worker_process import spawn_worker
from workers.settings import load_settings

PARTITIONS: Final = 4
WINDOW: Final = 100
"""Records in flight that a worker may have: its bound on duplicates."""
FIRST_ANSWER_S: Final = 240.0
"""Longest start of a worker; vLLM on two busy cores is up after one to two minutes."""
STOP_S: Final = 60.0
_ADMIN_S: Final = 30.0
# A worker that answers so many works.
_FIRST_ANSWERS: Final = 3
_POLL_S: Final = 0.05
_SETTINGS: Final = {
    "RSAFE_KAFKA__PARTITIONS": str(PARTITIONS),
    "RSAFE_KAFKA__SESSION_TIMEOUT_MS": "6000",
    "RSAFE_STREAM__IN_FLIGHT_RECORDS": str(WINDOW),
    # Every lookup goes to Redis: what its faults do is not hidden by a cache in the process.
    "RSAFE_CACHE__LOCAL_BYTES": "0",
    "RSAFE_LIMITS__EVENT_BYTES": str(LIMITS.event_bytes),
    "RSAFE_LIMITS__TEXT_CHARS": str(LIMITS.text_chars),
    "RSAFE_LIMITS__CONTEXT_TURNS": str(LIMITS.context_turns),
    "RSAFE_LIMITS__CONTEXT_CHARS": str(LIMITS.context_chars),
    "RSAFE_HEALTH__PORT": "0",
}


@dataclass(slots=True)
class Instants:
    """When the fault of a repeat began and ended, in Unix milliseconds."""

    began_ms: float = 0.0
    ended_ms: float = 0.0


class Site:
    """A context manager that ends all that it started, but not the stack. One at a time on a stack."""

    def __init__(
        self,
        stack: LocalStack,
        folder: Path,
        *,
        engine: str = "scripted",
        seed: str = "0",
        short: bool = False,
    ) -> None:
        """`short`: faults that last do so only as long as they must to be one."""
        self.stack, self.folder, self.engine, self.short = stack, folder, engine, short
        self.run_id = uuid.uuid4().hex[:12]
        self.topics = Topics(f"events-{self.run_id}", f"decisions-{self.run_id}", f"dead-{self.run_id}")
        self.group = f"moderation-{self.run_id}"
        self.workers: list[WorkerProcess] = []
        self.instants = Instants()
        self.repeat = 1
        """Number of the repeat that runs, for faults that take their kinds in turn."""
        self._settings: dict[str, str] = {}
        self._made: list[WorkerProcess] = []
        self._read: dict[Path, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        # Every policy holds: with one that does not, an absent guard would show as unjudged decisions.
        self._policies = write_policies(folder / "policies", on_unavailable="hold")
        self._base = self._base_environment()
        self.make_topics()
        address = stack.addresses.bootstrap_servers
        self.watch = Watch(address, self.topics)
        self.load = Load(address, self.topics.events, endless(self._policies, f"{seed}-{self.run_id}"))
        self._seed = seed

    def __enter__(self) -> Self:
        self.watch.__enter__()
        self.load.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as endings:
            endings.push(self.watch)
            endings.push(self.load)
            for worker in self._made:
                endings.push(worker)

    def use(
        self,
        settings: Mapping[str, str],
        *,
        rate_per_s: float,
        malformed_only: bool = False,
        deadline_ms: int | None = None,
    ) -> None:
        """Have one worker with these settings under this load, and return when it answers."""
        wanted = dict(settings)
        if wanted != self._settings or len(self.workers) != 1 or not self.workers[0].running:
            for worker in [*self.workers]:
                self.stop(worker)
            self._settings = wanted
            self.start()
        records: Iterator[Planned] = (
            malformed(self._seed)
            if malformed_only
            else endless(self._policies, f"{self._seed}-{uuid.uuid4().hex}", deadline_ms=deadline_ms)
        )
        enough = self.watch.answers() + _FIRST_ANSWERS
        self.load.go(rate_per_s, records)

        def answers() -> bool:
            self.assert_alive()
            return self.watch.answers() >= enough

        self.watch.wait(answers, timeout_s=FIRST_ANSWER_S, awaited="answers of a worker that was started")

    def start(self, *, spawn: Spawn = spawn_worker, **changes: str) -> WorkerProcess:
        """Start one more worker; returns at once. `changes`: further settings of this one."""
        number = len(self._made)
        worker = WorkerProcess(
            self._base | self._settings | changes, self.folder / f"worker-{number}.log", SECRETS, spawn=spawn
        )
        self._made.append(worker)
        self.workers.append(worker)
        worker.start()
        return worker

    def kill(self, worker: WorkerProcess) -> None:
        """SIGKILL, and forget it."""
        self.workers.remove(worker)
        worker.kill()

    def stop(self, worker: WorkerProcess) -> None:
        """SIGTERM, and forget it. Raises AssertionError unless it ends well."""
        self.workers.remove(worker)
        code = worker.terminate(STOP_S)
        assert code == 0, f"exit code {code} after SIGTERM; its log ends:\n{worker.last_lines()}"

    def assert_alive(self) -> None:
        """Raises AssertionError with the end of its log when a worker has ended that should run."""
        for worker in self.workers:
            worker.assert_alive()

    def begins(self) -> None:
        """The fault begins now."""
        self.instants = Instants(began_ms=time.time() * 1000)

    def ends(self) -> None:
        """The fault is over now."""
        self.instants.ended_ms = time.time() * 1000

    def partitions(self, worker: WorkerProcess) -> list[int]:
        """What the worker reads, by its own word."""
        for line in reversed(worker.log_lines()):
            body = json_object(line.encode())
            if body is not None and isinstance(found := body.get("partitions"), list):
                return [int(number) for number in found]
        return []

    def until(self, condition: Callable[[], bool], *, timeout_s: float, awaited: str) -> None:
        """Wait for something that is not on the topics. Raises AssertionError naming `awaited`."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"no {awaited} within {timeout_s:.0f} s"
            time.sleep(_POLL_S)

    def settle(self, timeout_s: float) -> None:
        """Hold the load until all that was published is answered."""
        self.load.hold()
        self.watch.wait_answered(self.load.ends(), timeout_s=timeout_s, each=self.assert_alive)

    def log_lines(self) -> list[str]:
        """What the workers wrote since the last call."""
        lines: list[str] = []
        for worker in self._made:
            if not worker.log.is_file():  # a device that takes nothing
                continue
            with worker.log.open("rb") as log:
                log.seek(self._read.get(worker.log, 0))
                whole = log.read()
                whole = whole[: whole.rfind(b"\n") + 1]
            self._read[worker.log] = self._read.get(worker.log, 0) + len(whole)
            lines += whole.decode("utf-8", "replace").splitlines()
        return lines

    def uncommitted(self) -> int:
        """Records of the events topic that the group has not committed."""
        return uncommitted(self.stack.addresses.bootstrap_servers, self.group, self.topics.events)

    def committed(self) -> dict[int, int]:
        """Partition of the events topic → the offset that the group has committed; negative: none."""
        return committed(self.stack.addresses.bootstrap_servers, self.group, self.topics.events)

    def topic_ends(self) -> dict[str, int]:
        """Topic and partition → the offset behind its last record, committed or not."""
        names = (self.topics.events, self.topics.decisions, self.topics.dead_letters)
        asked = {TopicPartition(name, n): OffsetSpec.latest() for name in names for n in range(PARTITIONS)}
        answers = self._asking.list_offsets(asked, request_timeout=_ADMIN_S)
        return {
            f"{at.topic}/{at.partition}": future.result(_ADMIN_S).offset for at, future in answers.items()
        }

    def members(self) -> str:
        """State of the group, and the partitions of each member."""
        (found,) = self._asking.describe_consumer_groups([self.group], request_timeout=_ADMIN_S).values()
        group = found.result(_ADMIN_S)
        held = [sorted(at.partition for at in one.assignment.topic_partitions) for one in group.members]
        return f"{group.state.name} {held}"

    def open_transactions(self) -> bool:
        """Whether decisions stand on their topic that a reader of committed records does not see yet."""
        written = patiently(lambda: self._output_ends(IsolationLevel.READ_UNCOMMITTED))
        seen = patiently(lambda: self._output_ends(IsolationLevel.READ_COMMITTED))
        return any(written[number] > seen[number] for number in written)

    def _output_ends(self, isolation: IsolationLevel) -> dict[int, int]:
        asked = {TopicPartition(self.topics.decisions, n): OffsetSpec.latest() for n in range(PARTITIONS)}
        return {
            place.partition: future.result(_ADMIN_S).offset
            for place, future in self._asking.list_offsets(asked, isolation_level=isolation).items()
        }

    def make_topics(self) -> None:
        """As `rsafe topics create` does with the settings of the worker."""
        settings = load_settings(self._base)
        create_topics(client_options(settings.kafka), wanted_topics(settings), timeout_s=_ADMIN_S)

    def delete_output(self) -> None:
        """Delete the topic of the decisions; when this returns, the broker takes no record for it."""
        admin, name = self._admin(), self.topics.decisions  # an awaited answer is lost with its client
        (deleted,) = admin.delete_topics([name], operation_timeout=_ADMIN_S).values()
        deleted.result(_ADMIN_S)
        # That was the controller's word, and the broker hears of it after that.
        gone = "broker without the topic of the decisions"
        self.until(lambda: name not in admin.list_topics(timeout=5).topics, timeout_s=_ADMIN_S, awaited=gone)

    def limit_output(self, max_bytes: int | None) -> None:
        """Let the topic of the decisions take records of so many bytes; None: as many as the broker does."""
        operation = AlterConfigOpType.DELETE if max_bytes is None else AlterConfigOpType.SET
        entry = ConfigEntry("max.message.bytes", str(max_bytes or 0), incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, self.topics.decisions, incremental_configs=[entry])
        admin = self._admin()
        (altered,) = admin.incremental_alter_configs([resource]).values()
        altered.result(_ADMIN_S)

    @cached_property
    def _asking(self) -> Any:
        """Kept, for questions that are asked many times a second."""
        return self._admin()

    def _admin(self) -> Any:
        return AdminClient({"bootstrap.servers": self.stack.addresses.bootstrap_servers, "log_level": 0})

    def _base_environment(self) -> dict[str, str]:
        guard = guard_environment(self.engine, self.folder / "checkpoint")
        return {
            **self.stack.addresses.environment(),
            **guard,
            **_SETTINGS,
            "RSAFE_KAFKA__GROUP_ID": self.group,
            "RSAFE_KAFKA__EVENTS_TOPIC": self.topics.events,
            "RSAFE_KAFKA__DECISIONS_TOPIC": self.topics.decisions,
            "RSAFE_KAFKA__DEAD_LETTERS_TOPIC": self.topics.dead_letters,
            "RSAFE_POLICIES__PATH": str(self.folder / "policies"),
            "RSAFE_SECRETS__CONTENT_KEY": f"faults-{self.run_id}",
        }
