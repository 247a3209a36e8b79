"""Publishes the demo's records and watches what becomes of them, until every one is accounted for."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from schemas.dead_letter import DeadLetter, read_dead_letter
from schemas.decision import Decision
from schemas.redrive import read_mark
from workers.adapters.kafka_options import Option
from workers.adapters.topics_io import Record, RecordWriter, read_records
from workers.demo.board import Board, Summary, decision_row, percentile
from workers.demo.traffic import DemoRecord
from workers.demo.worker_process import WorkerProcess
from workers.errors import StreamStopped, WorkerError
from workers.settings import KafkaSettings

# With no outcome for this long, in seconds, the demo gives up; one judgement takes well under a second.
SILENCE_S: Final = 120.0
_LOOK_S: Final = 0.25

Outcome = Decision | DeadLetter
Inbox = queue.Queue[tuple[Outcome, int] | WorkerError]


@dataclass(slots=True)
class _Tally:
    """What was seen so far. The first outcome of an event counts."""

    decisions: dict[str, Decision] = field(default_factory=dict)
    dead_letters: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    first_received_ms: float = math.inf
    last_published_ms: float = -math.inf

    @property
    def outcomes(self) -> int:
        return len(self.decisions) + self.dead_letters


def publish_and_watch(
    records: Sequence[DemoRecord],
    *,
    rate: float,
    kafka: KafkaSettings,
    options: Mapping[str, Option],
    titles: Mapping[str, Mapping[str, str]],
    worker: WorkerProcess,
    board: Board,
) -> Summary:
    """Publish `rate` records a second, show each outcome, and sum up.

    `titles`: category title by policy id and code. Raises `StreamStopped` when the worker ends or says
    nothing for too long.
    """
    said = {record.event.event_id: record.event.message.text for record in records if record.event}
    ours = {record.key for record in records}
    stopping = threading.Event()
    inbox: Inbox = queue.Queue()
    # Nothing is published before both readers know where the topics end now.
    begin = threading.Barrier(3, timeout=3 * kafka.start_timeout_s)
    threads = [
        threading.Thread(
            target=_read, args=(options, topic, kafka, ours, stopping, begin, inbox), daemon=True
        )
        for topic in (kafka.decisions_topic, kafka.dead_letters_topic)
    ]
    threads.append(
        threading.Thread(
            target=_publish, args=(records, rate, kafka, options, stopping, begin, inbox), daemon=True
        )
    )
    for thread in threads:
        thread.start()
    tally = _Tally()
    try:
        with board:
            while tally.outcomes < len(records):
                outcome, published_ms = _next(inbox, worker, len(records) - tally.outcomes)
                _count(tally, outcome, published_ms, said, titles, board)
    finally:
        stopping.set()
        for thread in threads:
            thread.join(timeout=10)
    return _summary(tally, len(records))


def _count(
    tally: _Tally,
    outcome: Outcome,
    published_ms: int,
    said: Mapping[str, str],
    titles: Mapping[str, Mapping[str, str]],
    board: Board,
) -> None:
    if isinstance(outcome, DeadLetter):
        tally.dead_letters += 1
        board.add_dead_letter(outcome.reason, outcome.sentence)
        return
    if outcome.event_id not in said or outcome.event_id in tally.decisions:
        return
    tally.decisions[outcome.event_id] = outcome
    received_ms = outcome.received_at.timestamp() * 1000
    milliseconds = published_ms - received_ms
    tally.first_received_ms = min(tally.first_received_ms, received_ms)
    tally.last_published_ms = max(tally.last_published_ms, published_ms)
    tally.latencies_ms.append(milliseconds)
    board.add(
        decision_row(
            outcome,
            said=said[outcome.event_id],
            titles=titles.get(outcome.policy.id, {}),
            milliseconds=milliseconds,
        )
    )


def _next(inbox: Inbox, worker: WorkerProcess, owed: int) -> tuple[Outcome, int]:
    silent_since = time.monotonic()
    while True:
        try:
            found = inbox.get(timeout=_LOOK_S)
        except queue.Empty:
            if worker.exit_code is not None:
                raise StreamStopped(
                    f"the worker ended with exit code {worker.exit_code}; {worker.last_lines()}"
                ) from None
            if time.monotonic() - silent_since > SILENCE_S:
                raise StreamStopped(
                    f"{owed} events had no outcome for {SILENCE_S:.0f} s; {worker.last_lines()}"
                ) from None
            continue
        if isinstance(found, WorkerError):
            raise found
        return found


def _read(
    options: Mapping[str, Option],
    topic: str,
    kafka: KafkaSettings,
    ours: set[bytes],
    stopping: threading.Event,
    begin: threading.Barrier,
    inbox: Inbox,
) -> None:
    batches = read_records(options, topic, start=0, follow=True, timeout_s=kafka.start_timeout_s)
    try:
        for number, batch in enumerate(batches):
            if number == 0:
                begin.wait()
            for record in batch:
                if record.key in ours and read_mark(record.headers) is None:
                    inbox.put((_outcome(record, kafka), record.timestamp_ms))
            if stopping.is_set():
                return
    except threading.BrokenBarrierError:
        inbox.put(StreamStopped(f"{topic}: could not be read in time"))
    except WorkerError as error:
        begin.abort()
        inbox.put(error)


def _outcome(record: Record, kafka: KafkaSettings) -> Outcome:
    if record.topic == kafka.dead_letters_topic:
        return read_dead_letter(record.headers)
    return msgspec.json.decode(record.value or b"", type=Decision)


def _publish(
    records: Sequence[DemoRecord],
    rate: float,
    kafka: KafkaSettings,
    options: Mapping[str, Option],
    stopping: threading.Event,
    begin: threading.Barrier,
    inbox: Inbox,
) -> None:
    try:
        writer = RecordWriter(
            options,
            kafka.events_topic,
            timeout_s=kafka.start_timeout_s,
            delivery_timeout_ms=kafka.delivery_timeout_ms,
        )
        begin.wait()
        begun = time.monotonic()
        for number, record in enumerate(records):
            wait = begun + number / rate - time.monotonic()
            if wait > 0 and stopping.wait(wait):
                break
            writer.send(record.key, record.value)
        writer.finish()
    except threading.BrokenBarrierError:
        return  # the reader that failed says why
    except WorkerError as error:
        begin.abort()
        inbox.put(error)


def _summary(tally: _Tally, events: int) -> Summary:
    decisions = tally.decisions.values()
    # From the first event to the last decision, by the broker's clock and the worker's: one machine here.
    seconds = max(0.001, (tally.last_published_ms - tally.first_received_ms) / 1000) if decisions else 1.0
    return Summary(
        events=events,
        decisions=len(tally.decisions),
        dead_letters=tally.dead_letters,
        unjudged=sum(decision.status == "unjudged" for decision in decisions),
        cache_hits=sum(decision.cache.hit for decision in decisions),
        events_per_second=len(decisions) / seconds,
        p50_ms=percentile(tally.latencies_ms, 50),
        p95_ms=percentile(tally.latencies_ms, 95),
        p99_ms=percentile(tally.latencies_ms, 99),
    )
