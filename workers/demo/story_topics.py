"""What a story left on its topics so far, followed until all of it is decided, counted and read."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import msgspec

from schemas.dead_letter import read_dead_letter
from schemas.decision import Decision
from schemas.escalation import Escalation
from workers.adapters.group_progress import all_done, group_progress
from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import Record, read_records
from workers.demo.story_site import Site
from workers.errors import StreamStopped

Outcome = Decision | Escalation


class StoryTopics:
    """Decisions and escalations in the order in which they were read. A context manager."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.decisions: list[Decision] = []
        self.escalations: list[Escalation] = []
        self._reached: dict[tuple[str, int], int] = {}
        self._held: list[Escalation] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        kafka = self._site.settings.kafka
        self._readers = {
            topic: self._reader(topic)
            for topic in (kafka.decisions_topic, kafka.escalations_topic, kafka.dead_letters_topic)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def follow(self, events: Collection[str]) -> Iterator[list[Outcome]]:
        """What is new, batch by batch, until these events are decided, conduct has counted everything, and
        every escalation is read.

        Raises `StreamStopped` when a process ends, when nothing new comes for too long, and as `look` does.
        """
        quiet_since = time.monotonic()
        while not self._complete(events):
            new = self.look()
            if new:
                quiet_since = time.monotonic()
                yield new
            self._site.check(time.monotonic() - quiet_since, "decisions and escalations")
        if self._held:  # of decisions that nobody made
            yield list(self._held)
            self._held.clear()

    def _complete(self, events: Collection[str]) -> bool:
        decided = {one.event_id for one in self.decisions}
        if not decided.issuperset(events):
            return False
        kafka, conduct = self._site.settings.kafka, self._site.settings.conduct
        counted = (kafka.decisions_topic, kafka.reviews_topic, conduct.entries_topic)
        if not all_done(group_progress(kafka, conduct.group_id, counted)):
            return False
        told = group_progress(kafka, conduct.group_id, [kafka.escalations_topic])
        return told is not None and all(self._reached.get(at, 0) >= one.end for at, one in told.items())

    def look(self) -> list[Outcome]:
        """What is new, within a second; an escalation after the decisions that it names.

        Raises `StreamStopped` for a dead letter, of which no story tells.
        """
        kafka = self._site.settings.kafka
        new: list[Outcome] = []
        for topic, reader in self._readers.items():
            for record in next(reader):
                self._reached[topic, record.partition] = record.offset + 1
                if topic == kafka.dead_letters_topic:
                    letter = read_dead_letter(record.headers)
                    raise StreamStopped(f"a dead letter: {letter.reason}: {letter.sentence}")
                if topic == kafka.decisions_topic:
                    new.append(self._decided(record))
                else:
                    self._held.append(self._escalated(record))
        known = {one.decision_id for one in self.decisions}
        told = [one for one in self._held if known.issuperset(one.decisions)]
        self._held = [one for one in self._held if one not in told]
        return [*new, *told]

    def _decided(self, record: Record) -> Decision:
        made = msgspec.json.decode(record.value or b"", type=Decision)
        self.decisions.append(made)
        return made

    def _escalated(self, record: Record) -> Escalation:
        made = msgspec.json.decode(record.value or b"", type=Escalation)
        self.escalations.append(made)
        return made

    def _reader(self, topic: str) -> Iterator[list[Record]]:
        kafka = self._site.settings.kafka
        reader = read_records(
            client_options(kafka), topic, start="beginning", follow=True, timeout_s=kafka.start_timeout_s
        )
        if isinstance(reader, Generator):
            self._open.callback(reader.close)  # which closes its client
        return reader
