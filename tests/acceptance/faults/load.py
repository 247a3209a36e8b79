"""Publishes without a break: a thread with a producer of its own, whatever happens to broker and worker."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import Producer

from schemas.keys import PARTITIONER
from tests.acceptance.evidence import DeadLetterDue
from tests.acceptance.faults.traffic import Planned
from tests.acceptance.records import Place

# How often it looks at the clock; at fifty records a second one goes out at every look.
_TICK_S: Final = 0.02
# After a stop of the machine the missed records do not go out in one burst larger than this.
_MOST_AT_ONCE: Final = 50
_ACKNOWLEDGED_S: Final = 60.0


class Load:
    """Publishes what the iterator gives, `rate_per_s` records a second, from `start` to `close`.

    Records are produced once: the producer is idempotent and waits for a broker that is away.
    """

    def __init__(self, bootstrap_servers: str, topic: str, records: Iterator[Planned]) -> None:
        self._topic, self._records = topic, records
        self._producer: Any = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "partitioner": PARTITIONER,
                "enable.idempotence": True,
                "linger.ms": 5,
                "log_level": 0,
            }
        )
        self._lock = threading.Lock()
        self._ends: dict[int, int] = {}
        self._due: dict[Place, DeadLetterDue] = {}
        self._late: set[Place] = set()
        self._places: dict[int, Place] = {}
        self._extra: deque[Planned] = deque()
        self._sent = self._delivered = self._added = 0
        self._failure = ""
        self._rate_per_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def go(self, rate_per_s: float, records: Iterator[Planned] | None = None) -> None:
        """Publish at that rate from now on, what the other iterator gives if there is one."""
        with self._lock:
            self._records = records or self._records
            self._rate_per_s = rate_per_s

    @property
    def rate_per_s(self) -> float:
        """Records a second; 0 while it holds."""
        return self._rate_per_s

    def hold(self) -> None:
        """Publish nothing until `go`, and return when everything sent is acknowledged."""
        with self._lock:
            self._rate_per_s = 0.0
        self._await(lambda: self._sent - self._delivered + self._added)

    def add(self, planned: Iterable[Planned]) -> list[Place]:
        """Publish these too, in this order, and return where they stand when they are acknowledged."""
        records = [*planned]
        with self._lock:
            self._extra.extend(records)
            self._added += len(records)
        self._await(lambda: self._added)
        with self._lock:
            return [self._places.pop(id(one)) for one in records]

    def _await(self, outstanding: Callable[[], int]) -> None:
        """Return when nothing is outstanding. Raises AssertionError after a while."""
        end = time.monotonic() + _ACKNOWLEDGED_S
        while True:
            with self._lock:
                left = outstanding()
                assert not self._failure, f"a record was not published: {self._failure}"
            if not left:
                return
            assert time.monotonic() < end, f"{left} records were not acknowledged in time"
            time.sleep(_TICK_S)

    def state(self) -> str:
        """How much was handed to the client and how much the broker took."""
        with self._lock:
            return f"{self._sent} sent, {self._delivered} acknowledged, ends {self._ends} {self._failure}"

    def ends(self) -> dict[int, int]:
        """Partition → offset behind the last record that is acknowledged."""
        with self._lock:
            assert not self._failure, f"a record was not published: {self._failure}"
            return dict(self._ends)

    def due(self) -> dict[Place, DeadLetterDue]:
        """The records that must become dead letters, as far as they are acknowledged."""
        with self._lock:
            return dict(self._due)

    def late(self) -> set[Place]:
        """The records that must come out late, as far as they are acknowledged."""
        with self._lock:
            return set(self._late)

    def _run(self) -> None:
        clock, owed = time.monotonic(), 0.0
        while not self._stopping.wait(_TICK_S):
            now = time.monotonic()
            with self._lock:
                owed = min(owed + (now - clock) * self._rate_per_s, _MOST_AT_ONCE)
                batch = [(self._extra.popleft(), True) for _ in range(len(self._extra))]
                batch += [(next(self._records), False) for _ in range(int(owed))]
                owed -= int(owed)
                self._sent += len(batch)
            clock = now
            for planned, added in batch:
                self._produce(planned, added)
            self._producer.poll(0)
        self._producer.purge()
        self._producer.poll(0)

    def _produce(self, planned: Planned, added: bool) -> None:
        sent = planned.sent
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    value=sent.value,
                    key=sent.key,
                    headers=list(sent.headers),
                    on_delivery=lambda error, message: self._report(planned, added, error, message),
                )
            except BufferError:
                self._producer.poll(_TICK_S)
            else:
                return

    def _report(self, planned: Planned, added: bool, error: Any, message: Any) -> None:
        with self._lock:
            self._delivered += 1
            self._added -= added
            if error is not None:
                if not self._stopping.is_set():
                    self._failure = self._failure or str(error.name())
                return
            place = Place(message.topic(), message.partition(), message.offset())
            self._ends[place.partition] = max(self._ends.get(place.partition, 0), place.offset + 1)
            if planned.due is not None:
                self._due[place] = planned.due
            if planned.late:
                self._late.add(place)
            if added:
                self._places[id(planned)] = place
