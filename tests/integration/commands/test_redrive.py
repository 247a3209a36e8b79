"""`rsafe redrive` against a real broker, with the dead letters of a real worker, and under kill −9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.dead_letter import DeadLetter, DeadLetterReason, dead_letter_headers
from schemas.keys import PARTITIONER
from schemas.redrive import read_mark
from tests.acceptance.malformed import HEADERS
from tests.waiting import PATIENCE_S, wait_for
from workers.adapters.admin import WantedTopic, create_topics
from workers.adapters.embedded_addresses import Addresses
from workers.adapters.kafka_options import Option, client_options
from workers.adapters.redrive_topics import TransactionalWriter
from workers.adapters.topics_io import Record, read_records
from workers.commands.decisions import decisions
from workers.commands.redrive import LettersLeft, redrive
from workers.errors import StartError, StreamStopped
from workers.redrive import Outgoing
from workers.settings import KafkaSettings

TIMEOUT_S = 30.0
Made = tuple[bytes | None, bytes | None]


class Stream:
    """A source topic and a dead-letters topic of one test, in force for the command."""

    def __init__(self, options: dict[str, Option], source: str, dead: str) -> None:
        self.options, self.source, self.dead = options, source, dead

    def create(self, **source_config: str) -> None:
        topics = [WantedTopic(self.source, 3, 1, source_config), WantedTopic(self.dead, 2, 1, {})]
        create_topics(self.options, topics, timeout_s=TIMEOUT_S)

    def letters(
        self,
        records: list[Made],
        *,
        reason: DeadLetterReason = "invalid",
        first: int = 0,
        headers: Any = (),
        timestamp_ms: int = 0,
    ) -> None:
        """Dead letters as a worker publishes them; the record at index n stood at offset first + n."""
        producer = Producer({**self.options, "partitioner": PARTITIONER, "linger.ms": 5})
        for index, (key, value) in enumerate(records):
            letter = DeadLetter(
                topic=self.source,
                partition=1,
                offset=first + index,
                reason=reason,
                sentence="s",
                timestamp_ms=5,
            )
            producer.produce(
                self.dead,
                value,
                key,
                headers=[*headers, *dead_letter_headers(letter)],
                timestamp=timestamp_ms,
            )
            producer.poll(0)
        assert producer.flush(TIMEOUT_S) == 0

    def read(self, topic: str) -> list[Record]:
        """Every committed record, in order per partition."""
        batches = read_records(self.options, topic, start="beginning", follow=False, timeout_s=TIMEOUT_S)
        return [record for batch in batches for record in batch]

    def origins(self) -> list[int]:
        return [int(dict(record.headers)["rsafe-origin-offset"] or b"") for record in self.read(self.source)]

    def process(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "workers", "redrive", *arguments],
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def stream(
    local_stack: Addresses, fresh_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Stream:
    found = Stream(
        client_options(KafkaSettings(bootstrap_servers=local_stack.bootstrap_servers)),
        fresh_name("events"),
        fresh_name("dead"),
    )
    monkeypatch.setenv("RSAFE_KAFKA__BOOTSTRAP_SERVERS", local_stack.bootstrap_servers)
    monkeypatch.setenv("RSAFE_KAFKA__EVENTS_TOPIC", found.source)
    monkeypatch.setenv("RSAFE_KAFKA__DEAD_LETTERS_TOPIC", found.dead)
    return found


def _redrive(*arguments: str) -> Result:
    return CliRunner().invoke(redrive, [*arguments], catch_exceptions=False)


def test_records_go_back_byte_for_byte_and_once(stream: Stream) -> None:
    stream.create()
    made: list[Made] = [(None, None), (b"", b""), (b"acme/room", b"\xff\x00text"), (None, b"no key")]
    stream.letters(made, headers=HEADERS)
    result = _redrive()
    assert f"{stream.dead}: 4 dead letters" in result.stdout
    assert f"{stream.source}: 4 put back (invalid 4)" in result.stdout
    for _ in range(2):
        found = stream.read(stream.source)
        assert sorted(map(repr, ((record.key, record.value) for record in found))) == sorted(map(repr, made))
        for record in found:
            assert tuple(record.headers[: len(HEADERS)]) == HEADERS
            added = dict(record.headers[len(HEADERS) :])
            assert added["rsafe-origin-topic"] == stream.source.encode()
            assert added["rsafe-attempts"] == b"1"
        assert {record.partition for record in found if record.key is None} == {1}
        assert "left: 4 put back before" in _redrive().stdout


def test_filters_leave_the_rest_for_later_and_the_order_is_kept(stream: Stream) -> None:
    stream.create()
    now_ms = int(time.time() * 1000)
    stream.letters([(b"one", b"%d" % n) for n in range(10)], reason="invalid", timestamp_ms=now_ms)
    stream.letters([(b"one", b"%d" % n) for n in range(10, 20)], reason="unknown_policy", first=10,
                   timestamp_ms=now_ms - 7_200_000)  # fmt: skip
    assert "10 would be put back" in _redrive("--reason", "unknown_policy", "--dry-run").stdout
    assert stream.read(stream.source) == []
    _redrive("--reason", "unknown_policy", "--since", "1h")
    assert stream.origins() == []
    _redrive("--reason", "unknown_policy", "--until", "1h", "--limit", "4")
    assert stream.origins() == [10, 11, 12, 13]
    _redrive("--since", "1h")
    _redrive()
    assert stream.origins() == [10, 11, 12, 13, *range(10), *range(14, 20)]


def test_a_run_that_is_killed_is_gone_on_with(stream: Stream) -> None:
    """kill −9 at several moments; in the end a reader of what is committed sees each record once."""
    stream.create()
    count = 10_000
    stream.letters([(b"room-%d" % (n % 11), b"x" * 300) for n in range(count)])
    kills = sum(_killed_at(stream, target) for target in (1, 2500, 6000))
    assert kills >= 2
    assert "put back" in _redrive().stdout
    assert f"left: {count} put back before" in _redrive().stdout
    by_room = defaultdict(list)
    for record in stream.read(stream.source):
        by_room[record.key].append(int(dict(record.headers)["rsafe-origin-offset"] or b""))
    assert sorted(offset for offsets in by_room.values() for offset in offsets) == list(range(count))
    for offsets in by_room.values():
        assert offsets == sorted(offsets)


def _killed_at(stream: Stream, target: int) -> bool:
    """Whether a run was killed when so many records stood on the source topic, before it was through."""
    consumer = Consumer({**stream.options, "group.id": "reader"})

    def reached() -> bool:
        """Records and marks of transactions are counted, committed or not.

        The run stands still meanwhile, and until it is killed: a slow look does not let it come to its end.
        """
        process.send_signal(signal.SIGSTOP)
        places = [TopicPartition(stream.source, number) for number in range(3)]
        ends = sum(consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)[1] for place in places)
        if ends >= target:
            return True
        process.send_signal(signal.SIGCONT)
        return process.poll() is not None

    process = stream.process()
    try:
        wait_for(reached, "records on the topic")
    finally:
        process.kill()
        process.communicate()
        consumer.close()
    return process.returncode == -9


def test_of_two_runs_the_later_one_wins_and_nothing_goes_twice(stream: Stream) -> None:
    stream.create()
    count = 3000
    stream.letters([(b"room-%d" % (n % 11), b"x" * 300) for n in range(count)])
    processes = [stream.process() for _ in range(3)]
    outputs = [process.communicate(timeout=PATIENCE_S)[0].decode() for process in processes]
    assert {process.returncode for process in processes} <= {0, 4}, "\n".join(outputs)
    assert 0 in {process.returncode for process in processes}
    for process, output in zip(processes, outputs, strict=True):
        if process.returncode == 4:
            assert "another `rsafe redrive` has begun" in output
    _redrive()
    assert Counter(stream.origins()) == Counter(range(count))


def test_an_earlier_writer_is_shut_out(stream: Stream) -> None:
    stream.create()
    record = Outgoing(stream.source, None, b"k", b"v", [])
    first = TransactionalWriter(stream.options, stream.dead, stream.source, timeout_s=TIMEOUT_S)
    assert first.write([record])
    second = TransactionalWriter(stream.options, stream.dead, stream.source, timeout_s=TIMEOUT_S)
    with pytest.raises(StreamStopped, match="another `rsafe redrive` has begun"):
        first.write([record])
    assert second.write([record])
    assert len(stream.read(stream.source)) == 2


def test_what_the_topic_refuses_is_named_and_its_batch_goes(stream: Stream) -> None:
    stream.create(**{"max.message.bytes": "5000"})
    values = [os.urandom(9000) if n in (3, 7) else os.urandom(1000) for n in range(12)]
    stream.letters([(b"k", value) for value in values])
    for _ in range(2):
        with pytest.raises(LettersLeft, match="2 were refused"):
            _redrive()
        assert stream.origins() == [n for n in range(12) if n not in (3, 7)]


def test_marks_are_seen_by_no_reader_of_dead_letters(stream: Stream) -> None:
    stream.create()
    stream.letters([(b"k", b"v")] * 3)
    _redrive()
    assert sum(read_mark(record.headers) is not None for record in stream.read(stream.dead)) == 3
    result = CliRunner().invoke(decisions, ["--dead-letters"], catch_exceptions=False)
    assert len(result.stdout.splitlines()) == 3


def test_a_broker_or_topic_that_is_not_there_is_told_soon(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StartError, match=f"there is no topic {stream.source}; `rsafe topics create`"):
        _redrive()
    monkeypatch.setenv("RSAFE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("RSAFE_KAFKA__START_TIMEOUT_S", "0.5")
    for arguments in ([], ["--dry-run"]):
        with pytest.raises(StartError, match=r"no broker at 127\.0\.0\.1:1 answered within 0\.5 s"):
            _redrive(*arguments)
