"""The store of a partition, filled from the topic of states.

Faust fills it as well, and does not do it reliably: it clears its queue of such records whenever reading goes
on, and counts those that come after as though none was missing. So what it did is thrown away. The store is a
cache: what counts is the topic.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from workers.adapters.kafka_options import client_options
from workers.adapters.topics_io import STALLED, read_span
from workers.errors import StreamStopped
from workers.settings import KafkaSettings

_TO_THE_END: Final = 2**62
# Where Faust notes up to which offset it has read; its own reading begins there, and then ends soon.
FAUSTS: Final = b"__faust\0"


def refill(store: Any, kafka: KafkaSettings, topic: str, partition: int, ends: threading.Event) -> None:
    """Give the store what the partition's newest records say, and nothing else. Blocks; `ends` ends it, with
    the next records that come.

    Raises `StreamStopped`: the store is then not to be used.
    """
    for key in list(store.keys()):
        if not key.startswith(FAUSTS):
            del store[key]
    silence_s = kafka.start_timeout_s * STALLED
    for batch in read_span(client_options(kafka), topic, partition, 0, _TO_THE_END, silence_s=silence_s):
        if ends.is_set():
            raise StreamStopped(f"reading {topic}: the process is stopping")
        for record in batch:
            if record.value is None:
                del store[record.key]
            else:
                store[record.key] = record.value
