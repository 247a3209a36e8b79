"""The source: what of a message is taken over, which errors stop it, and what is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from workers.adapters import kafka as module
from workers.adapters.kafka import KafkaSource, _record
from workers.errors import StreamStopped
from workers.ports import Position
from workers.settings import KafkaSettings

SETTINGS = KafkaSettings(events_topic="t")


class Message:
    def __init__(self, *, error: Any = None, timestamp: int = 5, headers: Any = None) -> None:
        self._error, self._timestamp, self._headers = error, timestamp, headers

    def error(self) -> Any:
        return self._error

    def timestamp(self) -> tuple[int, int]:
        return (1, self._timestamp)

    def headers(self) -> Any:
        if isinstance(self._headers, Exception):
            raise self._headers
        return self._headers

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return 2

    def key(self) -> None:
        return None

    def value(self) -> bytes:
        return b"v"


class Place:
    """A partition with an offset as the client library returns it."""

    def __init__(
        self, partition: int, metadata: Any = None, error: KafkaError | None = None, offset: int = 0
    ) -> None:
        self.partition, self._metadata, self.error, self.offset = partition, metadata, error, offset

    @property
    def metadata(self) -> Any:
        if isinstance(self._metadata, Exception):
            raise self._metadata
        return self._metadata


class Consumer:
    """Stands for the client library: what it is asked, and answers in turn."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.calls: list[tuple[str, Any]] = []
        self.held = [TopicPartition("t", 0), TopicPartition("t", 1)]
        self.messages: list[Message] = []
        self.callbacks: dict[str, Any] = {}
        self.ends: list[Any] = []
        self.asked_for_ends: list[list[int]] = []

    async def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self.callbacks = callbacks

    async def consume(self, limit: int, timeout_s: float) -> list[Message]:
        return self.messages

    async def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> Any:
        self.calls.append(("commit", [(p.partition, p.offset, p.metadata) for p in offsets]))
        return self._answer()

    async def committed(self, partitions: Any, timeout_s: float) -> Any:
        return self._answer()

    async def assignment(self) -> list[TopicPartition]:
        return self.held

    async def list_topics(self, topic: str, timeout_s: float) -> Any:
        return await self.offsets_for_times([])

    async def offsets_for_times(self, asked: Sequence[TopicPartition], **_: float) -> Any:
        self.asked_for_ends.append([place.partition for place in asked])
        answer = self.ends.pop(0) if len(self.ends) > 1 else next(iter(self.ends), [])  # the last one stays
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        self.calls.append(("assign", [(place.partition, place.offset) for place in places]))

    async def pause(self, places: Sequence[TopicPartition]) -> None:
        self.calls.append(("pause", [place.partition for place in places]))

    async def resume(self, places: Sequence[TopicPartition]) -> None:
        self.calls.append(("resume", [place.partition for place in places]))

    async def close(self) -> None:
        self.calls.append(("close", None))

    async def set_sasl_credentials(self, username: str, password: str) -> None:
        self.calls.append(("log in", (username, password)))

    def _answer(self) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    async def assigned(self, partitions: Mapping[int, str]) -> None:
        self.told.append(("assigned", dict(partitions)))

    async def revoked(self, partitions: Sequence[int]) -> None:
        self.told.append(("revoked", list(partitions)))

    async def lost(self, partitions: Sequence[int]) -> None:
        self.told.append(("lost", list(partitions)))


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Consumer:
    made = Consumer()
    monkeypatch.setattr(module, "AIOConsumer", lambda options, max_workers: made)
    return made


@pytest.mark.parametrize(("given", "expected"), [(5, 5), (-1, 0), (2**62, 253_402_214_400_000)])
def test_timestamps_that_no_calendar_has_are_bounded(given: int, expected: int) -> None:
    record = _record(Message(timestamp=given))
    assert record is not None
    assert record.timestamp_ms == expected


def test_headers_that_cannot_be_read_do_not_stop_the_stream() -> None:
    record = _record(Message(headers=UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")))
    assert record is not None
    assert record.headers is None


async def test_errors_that_pass_are_passed_over_and_others_stop_the_stream(consumer: Consumer) -> None:
    source = KafkaSource(SETTINGS)
    consumer.messages = [Message(error=KafkaError(KafkaError._TRANSPORT)), Message()]
    assert [record.offset for record in await source.fetch(10, 0.1)] == [2]
    for error in (
        KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED),
        KafkaError(KafkaError._FATAL, "fatal", fatal=True),
        KafkaError(KafkaError._FATAL, "Fatal error: of a kind that nobody foresaw"),
    ):
        consumer.messages = [Message(error=error)]
        with pytest.raises(StreamStopped):
            await source.fetch(10, 0.1)


@pytest.mark.parametrize("code", [KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID])
async def test_a_name_that_another_worker_has_stops_with_exit_code_4(consumer: Consumer, code: int) -> None:
    source = KafkaSource(SETTINGS)
    # As the client gives it among the records: one code for all that is fatal, the cause in words, no mark.
    words = KafkaError(code).str()
    consumer.messages = [Message(error=KafkaError(KafkaError._FATAL, f"Fatal error: {words}: {words}"))]
    with pytest.raises(StreamStopped, match="RSAFE_KAFKA__GROUP_INSTANCE_ID") as caught:
        await source.fetch(10, 0.1)
    assert caught.value.exit_code == 4
    assert KafkaError(code).name() in str(caught.value)


async def test_a_note_goes_with_the_offset_and_comes_back_at_assignment(consumer: Consumer) -> None:
    source, listener = KafkaSource(SETTINGS), Listener()
    consumer.answers = [[Place(0), Place(1)], [Place(0, None), Place(1, "a note")]]
    assert await source.commit({0: Position(7), 1: Position(9, "a note")}) == {0, 1}
    assert consumer.calls == [("commit", [(0, 7, ""), (1, 9, "a note")])]
    await source.join(listener)
    await consumer.callbacks["on_assign"](None, consumer.held)
    assert listener.told == [("assigned", {0: "", 1: "a note"})]


async def test_partitions_are_read_from_the_offsets_that_were_asked_for_with_the_notes(
    consumer: Consumer,
) -> None:
    source, listener = KafkaSource(SETTINGS), Listener()
    consumer.answers = [
        KafkaException(KafkaError(KafkaError.NOT_COORDINATOR)),
        [Place(0, offset=7), Place(1, offset=-1001)],
    ]
    await source.join(listener)
    await consumer.callbacks["on_assign"](None, consumer.held)
    assert consumer.calls == [("assign", [(0, 7), (1, OFFSET_BEGINNING)])]


async def test_a_note_that_is_no_text_is_none(consumer: Consumer) -> None:
    source, listener = KafkaSource(SETTINGS), Listener()
    consumer.answers = [[Place(0, UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"))]]
    await source.join(listener)
    await consumer.callbacks["on_assign"](None, consumer.held)
    assert listener.told == [("assigned", {0: ""})]


async def test_notes_are_asked_for_again_while_the_broker_is_away(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COMMITTED_PAUSE_S", 0)
    source, listener = KafkaSource(SETTINGS), Listener()
    away = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    unstable = [Place(0, None, KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT))]
    consumer.answers = [away, unstable, [Place(0, "n")]]
    await source.join(listener)
    await consumer.callbacks["on_assign"](None, consumer.held)
    assert listener.told == [("assigned", {0: "n"})]


async def test_without_its_notes_no_partition_is_read(consumer: Consumer) -> None:
    source, listener = KafkaSource(SETTINGS), Listener()
    consumer.answers = [KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))]
    await source.join(listener)
    await consumer.callbacks["on_assign"](None, consumer.held)
    assert listener.told == []
    with pytest.raises(StreamStopped, match="GROUP_AUTHORIZATION_FAILED"):
        await source.fetch(10, 0.1)


async def test_partitions_that_come_while_paused_are_paused(consumer: Consumer) -> None:
    source, listener = KafkaSource(SETTINGS), Listener()
    await source.join(listener)
    await source.pause()
    consumer.answers = [[Place(0), Place(1)]]
    await consumer.callbacks["on_assign"](None, consumer.held)
    await source.resume()
    assert consumer.calls == [
        ("pause", [0, 1]),
        ("assign", [(0, 0), (1, 0)]),
        ("pause", [0, 1]),
        ("resume", [0, 1]),
    ]


async def test_single_partitions_are_paused_and_those_not_held_are_passed_over(consumer: Consumer) -> None:
    source = KafkaSource(SETTINGS)
    await source.join(Listener())
    await source.pause([1, 5])
    await source.resume([1])
    consumer.answers = [[Place(0)]]
    await consumer.callbacks["on_assign"](None, consumer.held)
    assert consumer.calls == [("pause", [1]), ("resume", [1]), ("assign", [(0, 0)])]


@pytest.mark.parametrize(
    "code", [KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID]
)
async def test_a_commit_refused_during_a_rebalance_is_not_taken_and_does_not_stop(
    consumer: Consumer, code: int
) -> None:
    source = KafkaSource(SETTINGS)
    consumer.answers = [KafkaException(KafkaError(code)), [Place(0, error=KafkaError(code)), Place(1)]]
    assert await source.commit({0: Position(7), 1: Position(8)}) == set()
    assert await source.commit({0: Position(7), 1: Position(8)}) == {1}


@pytest.mark.parametrize(
    "answer",
    [
        KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)),
        [Place(0, error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))],
    ],
)
async def test_a_commit_that_can_never_be_taken_stops(consumer: Consumer, answer: Any) -> None:
    source = KafkaSource(SETTINGS)
    consumer.answers = [answer]
    with pytest.raises(StreamStopped, match="ACLs"):
        await source.commit({0: Position(7)})


async def test_what_needs_the_membership_ends_after_it(consumer: Consumer) -> None:
    source = KafkaSource(SETTINGS)

    async def close() -> None:
        consumer.calls.append(("closer", None))

    source.at_leave(close)
    await source.leave()
    assert consumer.calls == [("close", None), ("closer", None)]


async def test_a_changed_password_goes_to_the_member_and_to_what_publishes(consumer: Consumer) -> None:
    source = KafkaSource(SETTINGS)
    told: list[tuple[str, str]] = []
    source.at_log_in(lambda username, password: told.append((username, password)))
    await source.log_in("me", "later")
    assert told == [("me", "later")]
    assert consumer.calls == [("log in", ("me", "later"))]


async def test_clients_that_are_being_closed_are_given_no_password(consumer: Consumer) -> None:
    source = KafkaSource(SETTINGS)
    told: list[str] = []
    source.at_log_in(lambda username, password: told.append(password))
    closing, go_on = asyncio.Event(), asyncio.Event()

    async def close() -> None:
        closing.set()
        await go_on.wait()

    source.at_leave(close)
    leaving = asyncio.create_task(source.leave())
    await closing.wait()
    changing = asyncio.create_task(source.log_in("me", "later"))
    go_on.set()
    await asyncio.gather(leaving, changing)
    assert (told, consumer.calls) == ([], [("close", None)])


async def test_a_group_is_not_left_while_a_password_is_handed_over(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = KafkaSource(SETTINGS)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(username: str, password: str) -> None:
        asked.set()
        await go_on.wait()
        consumer.calls.append(("log in", password))

    monkeypatch.setattr(consumer, "set_sasl_credentials", slowly)
    changing = asyncio.create_task(source.log_in("me", "later"))
    await asked.wait()
    leaving = asyncio.create_task(source.leave())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(changing, leaving)
    assert consumer.calls == [("log in", "later"), ("close", None)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - of a task that says nothing
            await asyncio.sleep(0.001)


async def test_the_ends_of_partitions_are_known_until_the_broker_is_silent_for_long(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ENDS_EVERY_S", 0.001)
    away = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    consumer.ends = [
        [
            Place(0, offset=7),
            Place(1, error=KafkaError(KafkaError._TIMED_OUT)),
            Place(2, offset=-1),
        ],
        away,
    ]
    source = KafkaSource(SETTINGS)
    await source.join(Listener())
    await until(lambda: len(consumer.asked_for_ends) > 1)
    assert (source.ends, consumer.asked_for_ends[0]) == ({0: 7}, [0, 1])
    monkeypatch.setattr(module, "_ENDS_KNOWN_S", -1.0)
    await until(lambda: not source.ends)
    await source.leave()
    assert consumer.calls[-1] == ("close", None)
    count = len(consumer.asked_for_ends)
    await asyncio.sleep(0)
    assert len(consumer.asked_for_ends) == count


async def test_without_partitions_the_broker_is_asked_for_its_topic_so_that_its_silence_is_seen(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ENDS_EVERY_S", 0.001)
    consumer.held = []
    consumer.ends = [[], KafkaException(KafkaError(KafkaError._TRANSPORT))]
    source = KafkaSource(SETTINGS)
    await source.join(Listener())
    await until(lambda: len(consumer.asked_for_ends) > 1)
    silent_s = source.silent_s()
    await until(lambda: source.silent_s() > silent_s)
    heard_at = source._heard_at
    consumer.ends = [[]]
    await until(lambda: source._heard_at > heard_at)
    await source.leave()


async def test_an_error_of_our_own_while_ends_are_followed_stops_the_stream(consumer: Consumer) -> None:
    consumer.ends = [ValueError("of our own")]
    source = KafkaSource(SETTINGS)
    await source.join(Listener())
    await until(lambda: source._following is not None and source._following.done())
    with pytest.raises(StreamStopped, match="ValueError"):
        await source.fetch(1, 0.1)
    await source.leave()


async def test_what_was_committed_before_is_known_from_the_assignment(consumer: Consumer) -> None:
    source = KafkaSource(SETTINGS)
    consumer.answers = [[Place(0, offset=7), Place(1, offset=-1001)], [Place(0, offset=-1001)]]
    await source.join(Listener())
    await consumer.callbacks["on_assign"](None, consumer.held)
    assert source.starts == {0: 7}
    await consumer.callbacks["on_assign"](None, consumer.held[:1])
    assert source.starts == {}
    await source.leave()
