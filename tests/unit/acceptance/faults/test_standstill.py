from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from tests.acceptance.faults.standstill import facts


def away() -> Any:
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def test_what_cannot_be_asked_says_why_and_the_rest_is_told() -> None:
    site: Any = SimpleNamespace(
        load=SimpleNamespace(state=lambda: "7 sent, 5 acknowledged"),
        watch=SimpleNamespace(answers=lambda: 3),
        committed=away,
        topic_ends=lambda: {"events/0": 5},
        members=lambda: "STABLE [[0, 1]]",
        workers=[SimpleNamespace(pid=os.getpid())],
    )
    lines = [*facts(site)]
    assert lines[0] == "load: 7 sent, 5 acknowledged"
    assert lines[1] == "answers that the follower has seen: 3"
    assert lines[2].startswith("offsets that the group has committed: KafkaException: ")
    assert lines[4] == "members of the group: STABLE [[0, 1]]"
    assert lines[5].startswith(f"threads of worker {os.getpid()}: {{'")
