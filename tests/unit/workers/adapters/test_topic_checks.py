"""Topics that must be there with as many partitions as each other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from workers.adapters import topic_checks
from workers.adapters.topic_checks import require_equal_partitions
from workers.errors import StartError


def check(monkeypatch: pytest.MonkeyPatch, counts: dict[str, int]) -> None:
    """As though the broker had topics with so many partitions."""

    class Admin:
        def __init__(self, options: Any) -> None:
            assert options["bootstrap.servers"] == "b"

        def __enter__(self) -> Admin:
            return self

        def __exit__(self, *_: object) -> None: ...

        def list_topics(self, topic: str, timeout: float) -> Any:
            assert timeout == 3.0
            error = None if topic in counts else KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
            partitions = dict.fromkeys(range(counts.get(topic, 0)))
            return SimpleNamespace(topics={topic: SimpleNamespace(error=error, partitions=partitions)})

    monkeypatch.setattr(topic_checks, "AdminClient", Admin)
    require_equal_partitions({"bootstrap.servers": "b"}, ("entries", "state"), ("decisions",), 3.0)


def test_equal_topics_pass_whatever_the_others_have(monkeypatch: pytest.MonkeyPatch) -> None:
    check(monkeypatch, {"entries": 6, "state": 6, "decisions": 12})


def test_unequal_ones_are_named_with_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartError, match="topic state has 3 partitions and topic entries has 6"):
        check(monkeypatch, {"entries": 6, "state": 3, "decisions": 12})


@pytest.mark.parametrize("absent", ["entries", "state", "decisions"])
def test_an_absent_topic_is_named(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    counts = {"entries": 6, "state": 6, "decisions": 12}
    del counts[absent]
    with pytest.raises(StartError, match=f"there is no topic {absent}"):
        check(monkeypatch, counts)
