"""The state as its topic has it: for commands, which ask no process."""

from __future__ import annotations

import msgspec

from workers.adapters.topics_io import read_whole
from workers.conduct.entries import Subject
from workers.conduct.state import State, decode_state
from workers.errors import StreamStopped
from workers.settings import Settings


def stored_state(settings: Settings, subject: Subject) -> State | None:
    """The newest state of a subject. Reads the whole topic, which holds one record per subject or a few.

    Raises `StartError` and `StreamStopped`.
    """
    key, newest, topic = subject.key, None, settings.conduct.state_topic
    for batch in read_whole(settings.kafka, topic):
        for record in batch:
            if record.key == key:  # all of one key lie in one partition, in order
                newest = record.value
    if not newest:
        return None
    try:
        return decode_state(newest)
    except msgspec.DecodeError as error:
        raise StreamStopped(f"{topic}: a record is no state of this version") from error
