"""What was read of the topics, sorted by event, and cut into slices for the checker. Knows no broker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from tests.acceptance.evidence import DeadLetterDue, read_decisions, read_letters
from tests.acceptance.records import Place, Record
from tests.acceptance.scenario import Topics


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


class Seen:
    """Everything that was read so far. Not safe for threads."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._events: dict[Place, Record] = {}
        self._decisions: dict[Place, list[Record]] = defaultdict(list)
        self._letters: dict[Place, list[Record]] = defaultdict(list)
        self._unreadable: list[Record] = []
        self._arrivals: list[Arrival] = []
        self._touched: set[Place] = set()
        self._duplicates = 0
        self._taken: dict[int, int] = {}

    def add(self, record: Record, now_ms: float) -> bool:
        """Take in a record of any of the topics; whether it is an answer.

        Of a topic that was made anew, the name ends in `#` and a number.
        """
        topic = record.place.topic.partition("#")[0]
        if topic == self._topics.events:
            self._events[record.place] = record
            return False
        if decided := topic == self._topics.decisions:
            origins = [one.origin for one in read_decisions([record])[0]]
        else:
            origins = [letter.origin for letter in read_letters([record])[0]]
        kept = self._decisions if decided else self._letters
        for origin in origins:
            self._duplicates += self._is_answered(origin)
            kept[origin].append(record)
            self._touched.add(origin)
            self._arrivals.append(Arrival(now_ms, origin, decided))
        if not origins:
            self._unreadable.append(record)
        return True

    @property
    def answered(self) -> int:
        """Events with an answer."""
        return len(self._decisions.keys() | self._letters.keys())

    def first_open(self, partition: int, start: int, end: int) -> int:
        """The first offset from `start` on that is not read or not answered yet; `end` if there is none."""
        offset = max(start, self._taken.get(partition, 0))
        while offset < end:
            place = Place(self._topics.events, partition, offset)
            if place not in self._events or not self._is_answered(place):
                break
            offset += 1
        return max(start, offset)

    def is_answered(self, place: Place) -> bool:
        """Whether the event at this place is answered."""
        return self._is_answered(place)

    def answered_behind(self, place: Place) -> int:
        """Events with an answer that stand behind this one in its partition."""
        answered = self._decisions.keys() | self._letters.keys()
        return sum(one[:2] == place[:2] and one.offset > place.offset for one in answered)

    def first_answer_after(self, instant_ms: float) -> float | None:
        """When the first event published after the instant was answered: seconds after it; None: not yet.

        Looks at what came in since the last slice.
        """
        for arrival in self._arrivals:
            event = self._events.get(arrival.origin)
            if event is not None and event.timestamp_ms > instant_ms:
                return max(0.0, arrival.at_ms - instant_ms) / 1000
        return None

    def take(self, ends: Mapping[int, int]) -> Slice:
        """The slice of the events before these offsets, and what was answered besides since the last one.

        What was answered of events behind the offsets is left for the next slice.
        """
        fresh = {
            place
            for number, end in ends.items()
            for offset in range(self._taken.get(number, 0), end)
            if (place := Place(self._topics.events, number, offset)) in self._events
        }
        self._taken.update(ends)
        later = {place for place in self._touched if place.offset >= self._taken.get(place.partition, 0)}
        origins = sorted(fresh | (self._touched - later))
        made = Slice(
            events=[self._events[place] for place in origins if place in self._events],
            decisions=[*_of(self._decisions, origins), *self._unreadable],
            dead_letters=_of(self._letters, origins),
            arrivals=self._arrivals,
            fresh=len(fresh),
            duplicates=self._duplicates,
        )
        self._touched = later
        self._arrivals, self._unreadable, self._duplicates = [], [], 0
        return made

    def everything(self) -> Slice:
        """All that was read since the beginning; no arrivals and no counts."""
        decisions, letters = _of(self._decisions, self._decisions), _of(self._letters, self._letters)
        return Slice(list(self._events.values()), decisions, letters, [], 0, 0)

    def _is_answered(self, place: Place) -> bool:
        return place in self._decisions or place in self._letters


def longest_pause_s(arrivals: Iterable[Arrival]) -> float:
    """The longest time between two answers, in seconds."""
    times = sorted(arrival.at_ms for arrival in arrivals)
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0) / 1000


def due_of(events: Iterable[Record], due: Mapping[Place, DeadLetterDue]) -> dict[Place, DeadLetterDue]:
    """Those of the dead letters due that belong to the events."""
    return {record.place: due[record.place] for record in events if record.place in due}


def _of(kept: Mapping[Place, list[Record]], origins: Iterable[Place]) -> list[Record]:
    return [record for origin in origins for record in kept.get(origin, ())]
