"""Which questions were at the guard when it died, and how often each died with it alone.

A suspect is judged again with nothing else at the guard. Before that, a marker is written into the note of
its partition's commit, so that the death is counted even when the worker dies as well. What was alone at two
deaths is not asked again.

A note reads `1;1043.1!,+2,+7.1`: its version, then offsets in ascending order, each counted from the one
before, with the number of deaths alone after the dot, and `!` for what is alone at the guard now.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

DEATHS_TO_CONVICT: Final = 2
"""Deaths of the guard, alone with one question, after which that question is not asked again."""
# Journal's bound. What is at the guard now comes first, then what was alone at a death; the rest only spares
# a worker that has to find out anew a further death, and is cut.
_NOTE_BYTES: Final = 3_000
_VERSION: Final = "1;"
_ENTRY: Final = re.compile(r"(\d{1,19})(?:\.(\d))?(!?)\Z", re.ASCII)
_LARGEST_OFFSET: Final = 2**63 - 1
# Questions that are not asked again, remembered so that repeating one does not end the guard twice more each
# time; 64 characters each.
_CONVICTED: Final = 4_096


class Place(NamedTuple):
    """Where a record stands."""

    partition: int
    offset: int


class Mark(NamedTuple):
    """What is known of a suspect: deaths of the guard while it was alone there, and whether it is now."""

    deaths: int = 0
    alone: bool = False


def write_note(marks: Mapping[int, Mark]) -> str:
    """The marks of one partition, by offset, as text of at most 3,000 bytes; "" for none."""
    worth = sorted(marks, key=lambda offset: (not marks[offset].alone, -marks[offset].deaths, offset))
    note = ""
    # An entry takes at most 23 bytes, and most take 3: nearly always all of them fit.
    kept = len(worth)
    while kept:
        note = _VERSION + ",".join(_entries(sorted(worth[:kept]), marks))
        if len(note) <= _NOTE_BYTES:
            break
        kept = kept * 9 // 10
    return note


def _entries(offsets: Iterable[int], marks: Mapping[int, Mark]) -> Iterable[str]:
    before = None
    for offset in offsets:
        deaths, alone = marks[offset]
        at = str(offset) if before is None else f"+{offset - before}"
        yield f"{at}{f'.{min(deaths, 9)}' if deaths else ''}{'!' if alone else ''}"
        before = offset


def read_note(note: str) -> dict[int, Mark]:
    """The inverse of `write_note`. Anything else gives no marks; never raises."""
    if not note.startswith(_VERSION) or len(note) > _NOTE_BYTES:
        return {}
    marks: dict[int, Mark] = {}
    offset = -1
    for part in note.removeprefix(_VERSION).split(","):
        match = _ENTRY.match(part.removeprefix("+"))
        if match is None or part.startswith("+") != (offset >= 0):
            return {}
        step = int(match[1])
        if offset >= 0 and step == 0:
            return {}
        offset = step if offset < 0 else offset + step
        if offset > _LARGEST_OFFSET:
            return {}
        marks[offset] = Mark(int(match[2] or 0), bool(match[3]))
    return marks


class _Question:
    __slots__ = ("alone", "deaths", "places")

    def __init__(self) -> None:
        self.deaths = 0
        self.alone = False
        self.places: set[Place] = set()


class Suspects:
    """A `Journal` of questions that may have ended the guard. One per worker; its loop writes the notes.

    A question is known by its key. All who ask it are one suspect.
    """

    def __init__(self) -> None:
        self._marks: dict[int, dict[int, Mark]] = {}  # of the partitions that are assigned
        self._written: dict[int, str] = {}
        self._touched: set[int] = set()
        self._questions: dict[str, _Question] = {}
        self._convicted: OrderedDict[str, None] = OrderedDict()
        self._changed: asyncio.Event | None = None

    # the journal

    def recall(self, partition: int, note: str) -> None:
        """Take over what a worker before wrote; what was alone when that worker ended counts as a death."""
        self._marks[partition] = {
            offset: Mark(min(mark.deaths + mark.alone, DEATHS_TO_CONVICT))
            for offset, mark in read_note(note).items()
        }
        self._written[partition] = note
        self._touch(partition)

    def note(self, partition: int) -> str:
        return write_note(self._marks.get(partition, {}))

    def stale(self) -> Collection[int]:
        self._touched = {number for number in self._touched if self._differs(number)}
        return self._touched

    def written(self, partition: int, note: str) -> None:
        if partition in self._marks:
            self._written[partition] = note
            self._touch(partition)

    def forget(self, partition: int) -> None:
        self._marks.pop(partition, None)
        self._written.pop(partition, None)
        self._touched.discard(partition)
        self._wake()

    # the path

    def recognise(self, key: str, place: Place) -> None:
        """This place asks this question, for the first time in this worker."""
        mark = self._marks.get(place.partition, {}).get(place.offset)
        if mark is not None:
            self._accuse(key, place, mark.deaths)

    @property
    def any(self) -> bool:
        """Whether anything is known of any record."""
        return any(self._marks.values())

    def clear(self, place: Place) -> None:
        """The record has an outcome without being asked."""
        if self._marks.get(place.partition, {}).pop(place.offset, None) is not None:
            self._touch(place.partition)

    def accuse(self, key: str, place: Place) -> None:
        """The question of this place was at the guard when it died."""
        self._accuse(key, place, 0)

    def suspected(self, key: str) -> bool:
        """Whether the question has to be alone at the guard."""
        return key in self._questions

    def deaths(self, key: str) -> int:
        """How often the guard died while it was alone with a suspect."""
        question = self._questions.get(key)
        return 0 if question is None else question.deaths

    def convicted(self, key: str) -> bool:
        """Whether the question must not be asked again; remembered from then on."""
        if self.deaths(key) >= DEATHS_TO_CONVICT:
            self._convicted[key] = None
            if len(self._convicted) > _CONVICTED:
                self._convicted.popitem(last=False)
        return key in self._convicted

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        """Around the exclusive turn of a suspect; begins when its marker is written."""
        question = self._questions.get(key) or _Question()
        question.alone = True
        self._mark(question)
        try:
            await self._in_writing({place.partition for place in question.places})
            yield
        finally:
            question.alone = False
            self._mark(question)

    def died(self, key: str) -> None:
        """The guard died while it was alone with the question."""
        question = self._questions.get(key)
        if question is not None:
            question.deaths += 1
            self._mark(question)

    def leave(self, key: str, place: Place) -> None:
        """Whoever asked is told to stop before there was an outcome: alone no more, and suspect still."""
        question = self._questions.get(key)
        if question is not None and place in question.places:
            self._set(place, Mark(question.deaths))
            self._drop(key, question, place)

    def acquit(self, key: str, place: Place) -> None:
        """There is an outcome; nothing needs to be known of this place any more."""
        self.clear(place)
        question = self._questions.get(key)
        if question is not None:
            self._drop(key, question, place)

    def _accuse(self, key: str, place: Place, deaths: int) -> None:
        question = self._questions.setdefault(key, _Question())
        question.places.add(place)
        question.deaths = max(question.deaths, deaths)
        self._mark(question)

    def _mark(self, question: _Question) -> None:
        for place in question.places:
            self._set(place, Mark(question.deaths, question.alone))

    def _drop(self, key: str, question: _Question, place: Place) -> None:
        question.places.discard(place)
        if not question.places:
            del self._questions[key]

    def _set(self, place: Place, mark: Mark) -> None:
        marks = self._marks.get(place.partition)
        if marks is not None and marks.get(place.offset) != mark:
            marks[place.offset] = mark
            self._touch(place.partition)

    def _differs(self, partition: int) -> bool:
        return partition in self._marks and self._written.get(partition, "") != self.note(partition)

    async def _in_writing(self, partitions: Collection[int]) -> None:
        while any(self._differs(partition) for partition in partitions):
            self._changed = self._changed or asyncio.Event()
            await self._changed.wait()

    def _touch(self, partition: int) -> None:
        self._touched.add(partition)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
