"""Follows events, decisions and dead letters in a thread, and cuts what it saw into slices."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Final, NamedTuple, Self

from confluent_kafka import KafkaException

from tests.acceptance.evidence import DeadLetterDue, read_decisions, read_letters
from tests.acceptance.records import Place, Record
from tests.acceptance.scenario import Topics
from tests.acceptance.topics import TopicFollower

# Short, because it is the precision of the times to resume.
_POLL_S: Final = 0.02


class Arrival(NamedTuple):
    """An answer as it came in: Unix milliseconds, the event that it answers, and whether by a decision."""

    at_ms: float
    origin: Place
    decided: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """What belongs to one repeat: its events, and all answers to every event that was answered in it."""

    events: list[Record]
    decisions: list[Record]
    dead_letters: list[Record]
    arrivals: list[Arrival]
    fresh: int
    """Events that no earlier slice had."""
    duplicates: int
    """Answers to events that had one already."""


class Watch:
    """Keeps everything that it read. Errors of its thread are raised by whoever asks it next."""

    def __init__(self, bootstrap_servers: str, topics: Topics) -> None:
        self._bootstrap_servers, self._topics = bootstrap_servers, topics
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._events: dict[Place, Record] = {}
        self._decisions: dict[Place, list[Record]] = defaultdict(list)
        self._letters: dict[Place, list[Record]] = defaultdict(list)
        self._unreadable: list[Record] = []
        self._arrivals: list[Arrival] = []
        self._touched: set[Place] = set()
        self._duplicates = 0
        self._taken: dict[int, int] = {}
        self._failure: BaseException | None = None
        self._steady = TopicFollower(bootstrap_servers, (topics.events, topics.dead_letters))
        self._output: TopicFollower | None = TopicFollower(bootstrap_servers, (topics.decisions,))
        self._generation = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        with self._steady:
            self.forget_output()

    def forget_output(self) -> None:
        """Follow the decisions no further; what was read stays."""
        with self._lock:
            output, self._output = self._output, None
        if output is not None:
            with output:
                pass

    def follow_new_output(self) -> None:
        """Follow a topic of decisions that was made anew; its records come behind those of the old one."""
        output = TopicFollower(self._bootstrap_servers, (self._topics.decisions,))
        with self._lock:
            self._generation += 1
            self._output = output

    def answers(self) -> int:
        """Events that were answered so far."""
        with self._lock:
            self._raise_failure()
            return len(self._answered_origins())

    def is_answered(self, origin: Place) -> bool:
        with self._lock:
            self._raise_failure()
            return origin in self._decisions or origin in self._letters

    def wait(self, until: Callable[[], bool], *, timeout_s: float, awaited: str) -> None:
        """Wait until the condition holds; it is asked after every arrival, and at least a few times a second.

        It may raise to end the wait. Raises AssertionError naming `awaited`.
        """
        end = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < end, f"no {awaited} within {timeout_s:.0f} s"
            with self._lock:
                self._answered.wait(0.1)

    def wait_answered(
        self, ends: Mapping[int, int], *, timeout_s: float, each: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until every event before these offsets is answered; `each` may raise to end the wait."""
        at = {number: self._taken.get(number, 0) for number in ends}

        def done() -> bool:
            each()
            with self._lock:
                self._raise_failure()
                for number, end in ends.items():
                    while at[number] < end and self._is_settled(
                        Place(self._topics.events, number, at[number])
                    ):
                        at[number] += 1
            return all(at[number] >= end for number, end in ends.items())

        try:
            self.wait(done, timeout_s=timeout_s, awaited="answer to every event")
        except AssertionError as error:
            left = {number: end - at[number] for number, end in ends.items() if at[number] < end}
            raise AssertionError(
                f"{error}; first unanswered offsets {at}, events behind them {left}"
            ) from error

    def first_answer_after(self, instant_ms: float) -> float | None:
        """When the first event published after the instant was answered: seconds after it; None: not yet."""
        with self._lock:
            self._raise_failure()
            for arrival in self._arrivals:
                event = self._events.get(arrival.origin)
                if event is not None and event.timestamp_ms > instant_ms:
                    return max(0.0, arrival.at_ms - instant_ms) / 1000
        return None

    def take(self, ends: Mapping[int, int]) -> Slice:
        """The slice of the events before these offsets, and what was answered besides since the last one."""
        with self._lock:
            self._raise_failure()
            fresh = {
                place
                for number, end in ends.items()
                for offset in range(self._taken.get(number, 0), end)
                if (place := Place(self._topics.events, number, offset)) in self._events
            }
            self._taken.update(ends)
            early = {place for place in self._touched if place.offset >= ends.get(place.partition, 0)}
            origins = sorted(fresh | (self._touched - early))
            self._touched = early
            made = Slice(
                events=[self._events[place] for place in origins if place in self._events],
                decisions=[*_all(self._decisions, origins), *self._unreadable],
                dead_letters=_all(self._letters, origins),
                arrivals=self._arrivals,
                fresh=len(fresh),
                duplicates=self._duplicates,
            )
            self._arrivals, self._unreadable, self._duplicates = [], [], 0
            return made

    def everything(self) -> Slice:
        """All that was read since the beginning."""
        with self._lock:
            self._raise_failure()
            return Slice(
                events=list(self._events.values()),
                decisions=_all(self._decisions, self._decisions),
                dead_letters=_all(self._letters, self._letters),
                arrivals=[],
                fresh=0,
                duplicates=0,
            )

    def _answered_origins(self) -> set[Place]:
        return self._decisions.keys() | self._letters.keys()

    def _is_settled(self, place: Place) -> bool:
        return place in self._events and (place in self._decisions or place in self._letters)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise AssertionError(f"the topics could not be followed: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._take_in(self._steady.poll(_POLL_S), 0)
                with self._lock:  # closing waits for a poll to be over
                    output, generation = self._output, self._generation
                    decisions = [] if output is None else output.poll(_POLL_S)
                self._take_in(decisions, generation)
                if output is None:
                    self._stopping.wait(_POLL_S)
        except KafkaException as error:
            with self._lock:
                self._failure = error

    def _take_in(self, records: Iterable[Record], generation: int) -> None:
        now_ms = time.time() * 1000
        with self._lock:
            before = len(self._arrivals)
            for record in records:
                self._sort(_named(record, generation), now_ms)
            if len(self._arrivals) > before:
                self._answered.notify_all()

    def _sort(self, record: Record, now_ms: float) -> None:
        topic = record.place.topic.partition("#")[0]
        if topic == self._topics.events:
            self._events[record.place] = record
            return
        if decided := topic == self._topics.decisions:
            found = [one.origin for one in read_decisions([record])[0]]
            kept = self._decisions
        else:
            found = [letter.origin for letter in read_letters([record])[0]]
            kept = self._letters
        for origin in found:
            if origin in self._decisions or origin in self._letters:
                self._duplicates += 1
            kept[origin].append(record)
            self._touched.add(origin)
            self._arrivals.append(Arrival(now_ms, origin, decided))
        if not found:
            self._unreadable.append(record)


def longest_pause_s(arrivals: Iterable[Arrival]) -> float:
    """The longest time between two answers, in seconds."""
    times = sorted(arrival.at_ms for arrival in arrivals)
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0) / 1000


def due_of(events: Iterable[Record], due: Mapping[Place, DeadLetterDue]) -> dict[Place, DeadLetterDue]:
    """Those of the dead letters due that belong to the events."""
    return {record.place: due[record.place] for record in events if record.place in due}


def _all(kept: Mapping[Place, list[Record]], origins: Iterable[Place]) -> list[Record]:
    return [record for origin in origins for record in kept.get(origin, ())]


def _named(record: Record, generation: int) -> Record:
    """Places of a topic that was made anew sort behind those of the old one."""
    if not generation:
        return record
    place = record.place._replace(topic=f"{record.place.topic}#{generation}")
    return dataclasses.replace(record, place=place)
