"""Follows events, decisions and dead letters in a thread of its own, while faults happen."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException

from tests.acceptance.faults.seen import Seen, Slice
from tests.acceptance.records import Place, Record
from tests.acceptance.scenario import Topics
from tests.acceptance.topics import TopicFollower

# Short, because it is the precision of the times to resume.
_POLL_S: Final = 0.02
# How often a condition is asked although nothing arrived.
_LOOK_AGAIN_S: Final = 0.1


class Watch:
    """Keeps everything that it read. Errors of its thread are raised by whoever asks it next."""

    def __init__(self, bootstrap_servers: str, topics: Topics) -> None:
        self._bootstrap_servers, self._topics = bootstrap_servers, topics
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._seen = Seen(topics)
        self._failure: KafkaException | None = None
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
            return self._sound().answered

    def is_answered(self, place: Place) -> bool:
        """As `Seen.is_answered`."""
        with self._lock:
            return self._sound().is_answered(place)

    def answered_behind(self, place: Place) -> int:
        """As `Seen.answered_behind`."""
        with self._lock:
            return self._sound().answered_behind(place)

    def first_answer_after(self, instant_ms: float) -> float | None:
        """As `Seen.first_answer_after`."""
        with self._lock:
            return self._sound().first_answer_after(instant_ms)

    def take(self, ends: Mapping[int, int]) -> Slice:
        """As `Seen.take`."""
        with self._lock:
            return self._sound().take(ends)

    def everything(self) -> Slice:
        """As `Seen.everything`."""
        with self._lock:
            return self._sound().everything()

    def wait(self, until: Callable[[], bool], *, timeout_s: float, awaited: str) -> None:
        """Wait until the condition holds; it is asked at every arrival, and a few times a second besides.

        It may raise to end the wait. Raises AssertionError naming `awaited`.
        """
        end = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < end, f"no {awaited} within {timeout_s:.0f} s"
            with self._lock:
                self._arrived.wait(_LOOK_AGAIN_S)

    def wait_answered(
        self, ends: Mapping[int, int], *, timeout_s: float, each: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until every event before these offsets is answered; `each` may raise to end the wait.

        Raises AssertionError naming the first offsets that are not.
        """
        at = dict.fromkeys(ends, 0)

        def done() -> bool:
            each()
            with self._lock:
                seen = self._sound()
                at.update({number: seen.first_open(number, at[number], end) for number, end in ends.items()})
            return all(at[number] >= end for number, end in ends.items())

        try:
            self.wait(done, timeout_s=timeout_s, awaited="answer to every event")
        except AssertionError as error:
            left = {number: (at[number], end) for number, end in ends.items() if at[number] < end}
            raise AssertionError(f"{error}; partitions, first unanswered offset and end: {left}") from error

    def _sound(self) -> Seen:
        if self._failure is not None:
            raise AssertionError(f"the topics could not be followed: {self._failure}") from self._failure
        return self._seen

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._take_in(self._steady.poll(_POLL_S), 0)
                with self._lock:  # whoever closes the follower waits for the poll to be over
                    output, generation = self._output, self._generation
                    new = output.poll(_POLL_S) if output is not None else []
                self._take_in(new, generation)
        except KafkaException as error:
            with self._lock:
                self._failure = error

    def _take_in(self, records: Sequence[Record], generation: int) -> None:
        if not records:
            return
        now_ms = time.time() * 1000
        with self._lock:
            # All of them, before anybody is told.
            if sum(self._seen.add(_named(record, generation), now_ms) for record in records):
                self._arrived.notify_all()


def _named(record: Record, generation: int) -> Record:
    """Places of a topic that was made anew sort behind those of the old one."""
    if not generation:
        return record
    place = record.place._replace(topic=f"{record.place.topic}#{generation}")
    return dataclasses.replace(record, place=place)
