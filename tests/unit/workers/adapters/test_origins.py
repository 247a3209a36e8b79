"""Records by their coordinates, from a client that is replaced: in turns, over gaps, and with silence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from workers.adapters import origins
from workers.adapters.origins import Gone, fetch_records
from workers.adapters.topics_io import Record, as_record
from workers.errors import StartError, StreamStopped


class Message:
    def __init__(self, place: tuple[str, int], offset: int, code: int | None = None) -> None:
        self._place, self._offset = place, offset
        self._error = None if code is None else KafkaError(code)

    def error(self) -> KafkaError | None:
        return self._error

    def topic(self) -> str:
        return self._place[0]

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"%d" % self._offset

    def timestamp(self) -> tuple[int, int]:
        return 2, 5

    def headers(self) -> None:
        return None


class Metadata:
    def __init__(self, error: Any, partitions: Any = ()) -> None:
        self.error, self.partitions = error, partitions


class Topics:
    """Partitions with the offsets that they still hold, and the end at which the next record will stand."""

    def __init__(self, partitions: dict[tuple[str, int], tuple[int, list[int], int]]) -> None:
        self.partitions = partitions
        self.assigned: list[tuple[str, int, int]] = []
        self.asked: list[str] = []
        self.skips: set[int] = set()
        """Offsets that do not come in their turn."""
        self.silent = self.closed = False
        self.clock_s = self.again_takes_s = 0.0
        self.errors: list[int] = []
        self.metadata_error: int | None = None
        self._left: Iterator[Message] = iter(())

    def list_topics(self, topic: str, timeout: float) -> Any:
        self.asked.append(topic)
        if self.metadata_error is not None:
            return type("All", (), {"topics": {topic: Metadata(KafkaError(self.metadata_error))}})
        found = {partition: None for name, partition in self.partitions if name == topic}
        error = None if found else KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        return type("All", (), {"topics": {topic: Metadata(error, found)}})

    def get_watermark_offsets(self, place: Any, timeout: float) -> tuple[int, int]:
        low, _, high = self.partitions[place.topic, place.partition]
        return low, high

    def assign(self, places: list[Any]) -> None:
        (place,) = places
        self.assigned.append((place.topic, place.partition, place.offset))
        key = place.topic, place.partition
        offsets = [n for n in self.partitions[key][1] if n >= place.offset and n not in self.skips]
        end = Message(key, offsets[-1] + 1 if offsets else 0, KafkaError._PARTITION_EOF)
        self._left = itertools.chain((Message(key, n) for n in offsets), [end])

    def consume(self, count: int, wait_s: float) -> list[Message]:
        if self.errors:
            return [Message(("t", 0), 0, self.errors.pop())]
        return [] if self.silent else list(itertools.islice(self._left, 7))

    def close(self) -> None:
        self.closed = True

    def span(
        self, _: Any, topic: str, partition: int, first: int, last: int, *, silence_s: float
    ) -> Iterator[list[Record]]:
        assert silence_s > 0
        self.clock_s += self.again_takes_s
        held = self.partitions[topic, partition][1]
        yield [as_record(Message((topic, partition), n)) for n in held if first <= n <= last]


def fetched(topics: Topics, wanted: dict[tuple[str, int], list[int]]) -> list[Record | Gone]:

    def clock() -> float:
        topics.clock_s += 1.0
        return topics.clock_s

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(origins, "reader", lambda options: topics)
        patch.setattr(origins, "read_span", topics.span)
        patch.setattr(origins, "_READ_OVER", 1000)
        found = fetch_records({}, wanted, needed_topic="a", timeout_s=5, clock=clock)
        return list(found)


def places(found: list[Record | Gone]) -> list[tuple[str, int, int, str]]:
    return [
        (one.topic, one.partition, one.offset, one.why if isinstance(one, Gone) else "there") for one in found
    ]


def test_records_come_in_order_with_those_that_are_gone() -> None:
    topics = Topics({("a", 0): (10, list(range(10, 40)), 40), ("a", 1): (0, [0, 1, 2], 3)})
    found = fetched(topics, {("a", 1): [1], ("a", 0): [39, 40, 5, 12, 9]})
    assert places(found) == [
        ("a", 0, 5, "expired"),
        ("a", 0, 9, "expired"),
        ("a", 0, 12, "there"),
        ("a", 0, 39, "there"),
        ("a", 0, 40, "absent"),
        ("a", 1, 1, "there"),
    ]
    assert topics.closed


def test_far_records_are_jumped_to_and_near_ones_read_over() -> None:
    topics = Topics({("a", 0): (0, list(range(5000)), 5000)})
    found = fetched(topics, {("a", 0): [3, 500, 4000]})
    assert [one.offset for one in found] == [3, 500, 4000]
    assert topics.assigned == [("a", 0, 3), ("a", 0, 4000)]


def test_a_hole_is_absent_and_what_was_only_late_is_found() -> None:
    topics = Topics({("a", 0): (0, [0, 1, 3, 5], 8)})
    topics.skips = {3}
    found = fetched(topics, {("a", 0): [1, 2, 3, 5, 7]})
    assert places(found) == [
        ("a", 0, 1, "there"),
        ("a", 0, 2, "absent"),
        ("a", 0, 3, "there"),
        ("a", 0, 5, "there"),
        ("a", 0, 7, "absent"),
    ]


def test_a_topic_or_partition_that_is_not_there_is_absent() -> None:
    topics = Topics({("a", 0): (0, [0], 1)})
    found = fetched(topics, {("a", 3): [0], ("gone", 0): [4, 2]})
    assert places(found) == [("a", 3, 0, "absent"), ("gone", 0, 2, "absent"), ("gone", 0, 4, "absent")]


@pytest.mark.parametrize("name", ["a\0b", "x" * 600, "", "ä", "a b", "a\n", "\ufdd0"])
def test_a_name_that_no_topic_can_have_is_absent_and_the_client_is_not_asked(name: str) -> None:
    topics = Topics({("a", 0): (0, [0], 1)})
    found = fetched(topics, {("a", 0): [0], (name, 2): [1]})
    assert sorted(places(found)) == sorted([("a", 0, 0, "there"), (name, 2, 1, "absent")])
    assert topics.asked == ["a"]


def test_without_the_right_to_look_at_it_the_needed_topic_is_an_error_and_another_refused() -> None:
    topics = Topics({})
    topics.metadata_error = KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert places(fetched(topics, {("b", 1): [4, 2]})) == [("b", 1, 2, "refused"), ("b", 1, 4, "refused")]
    with pytest.raises(StartError, match=r"topic a: .*uthorization"):
        fetched(topics, {("a", 0): [0]})
    assert topics.closed


def test_without_the_right_to_read_it_the_needed_topic_is_an_error_and_another_refused() -> None:
    topics = Topics({("a", 0): (0, [0], 1), ("b", 0): (1, [1, 2], 3)})
    topics.errors = [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    assert places(fetched(topics, {("b", 0): [0, 1, 2]})) == [
        ("b", 0, 0, "expired"),
        ("b", 0, 1, "refused"),
        ("b", 0, 2, "refused"),
    ]
    topics.errors = [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    with pytest.raises(StartError, match=r"topic a: .*uthorization"):
        fetched(topics, {("a", 0): [0]})


def test_another_error_of_a_topic_is_not_taken_for_its_absence() -> None:
    topics = Topics({})
    topics.metadata_error = KafkaError.LEADER_NOT_AVAILABLE
    with pytest.raises(StartError, match="topic b: "):
        fetched(topics, {("b", 0): [0]})


def test_to_ask_again_for_long_is_no_silence_of_the_broker() -> None:
    topics = Topics({("a", 0): (0, list(range(20)), 20)})
    topics.skips, topics.again_takes_s = {3, 9}, 100.0
    assert len(fetched(topics, {("a", 0): [*range(20)]})) == 20


def test_a_failing_or_silent_broker_ends_the_reading() -> None:
    topics = Topics({("a", 0): (0, [0], 1)})
    topics.errors = [KafkaError.GROUP_AUTHORIZATION_FAILED]
    assert len(fetched(topics, {("a", 0): [0]})) == 1
    topics.errors = [KafkaError._ALL_BROKERS_DOWN]
    with pytest.raises(StreamStopped, match="reading a: "):
        fetched(topics, {("a", 0): [0]})
    topics.silent = True
    with pytest.raises(StreamStopped, match="reading a: the broker has fallen silent"):
        fetched(topics, {("a", 0): [0]})


def test_a_refusal_of_the_client_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = Topics({("a", 0): (0, [0], 1)})

    def refuse(*_: Any, **__: Any) -> Any:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr(topics, "get_watermark_offsets", refuse)
    with pytest.raises(StreamStopped, match="reading events: "):
        fetched(topics, {("a", 0): [0]})


@given(
    held=st.sets(st.integers(0, 3000), max_size=60),
    low=st.integers(0, 1500),
    wanted=st.lists(st.integers(0, 3500), max_size=20, unique=True),
)
def test_every_wanted_record_comes_once_whatever_is_held(held: set[int], low: int, wanted: list[int]) -> None:
    kept = sorted(n for n in held if n >= low)
    topics = Topics({("a", 0): (low, kept, 3001)})
    found = fetched(topics, {("a", 0): wanted} if wanted else {})
    assert [one.offset for one in found] == sorted(wanted)
    for one in found:
        if isinstance(one, Gone):
            assert one.why == ("expired" if one.offset < low else "absent")
            assert one.offset not in kept
        else:
            assert one.offset in kept
            assert one.value == b"%d" % one.offset
