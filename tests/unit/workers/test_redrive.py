"""Which dead letters are put back, as what, and that each goes once, on a broker in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from schemas.dead_letter import DeadLetter, DeadLetterReason, dead_letter_headers
from schemas.redrive import Headers, read_mark
from workers.adapters.topics_io import Record
from workers.errors import StreamStopped
from workers.redrive import BATCH_BYTES, BATCH_RECORDS, Outgoing, chosen, look, put_back
from workers.redrive_account import Choice, Found, Summary

SOURCE, DEAD = "chat.events", "moderation.dead-letters"


@dataclass
class Topics:
    """The dead-letters topic, and what was put back: transactions that happen or do not."""

    partitions: dict[int, list[Record]] = field(default_factory=dict)
    source: list[Outgoing] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    largest: int | None = None
    """The source topic takes values up to so many bytes."""
    killed_after: int | None = None
    """Batches, after which nothing is written any more."""

    def append(
        self,
        partition: int,
        headers: Headers,
        *,
        value: bytes | None = b"v",
        key: bytes | None = b"k",
        timestamp_ms: int = 0,
    ) -> Record:
        records = self.partitions.setdefault(partition, [])
        records.append(Record(DEAD, partition, len(records), timestamp_ms, key, value, headers))
        return records[-1]

    def letter(
        self,
        offset: int,
        *,
        reason: DeadLetterReason = "invalid",
        partition: int = 0,
        timestamp_ms: int = 0,
        value: bytes | None = b"v",
        key: bytes | None = b"k",
        topic: str = SOURCE,
        left_out_bytes: int = 0,
    ) -> None:
        letter = DeadLetter(
            topic=topic,
            partition=0,
            offset=offset,
            reason=reason,
            sentence="s",
            left_out_bytes=left_out_bytes,
        )
        self.append(
            partition, [*dead_letter_headers(letter)], value=value, key=key, timestamp_ms=timestamp_ms
        )

    def all(self) -> Iterator[list[Record]]:
        yield from map(list, self.partitions.values())

    def span(self, partition: int, first: int, last: int) -> Iterator[list[Record]]:
        yield [record for record in self.partitions[partition] if first <= record.offset <= last]

    def write(self, records: Sequence[Outgoing]) -> bool:
        if self.killed_after is not None and len(self.batches) >= self.killed_after:
            raise StreamStopped("killed")
        sizes = [len(record.value or b"") for record in records if record.topic == SOURCE]
        if self.largest is not None and max(sizes) > self.largest:
            return False
        self.batches.append(len(records))
        for record in records:
            if record.topic == DEAD:
                assert record.partition is not None
                self.append(record.partition, record.headers, value=record.value, key=record.key)
            else:
                self.source.append(record)
        return True

    def origins(self) -> list[int]:
        """The offset that each record on the source topic had first."""
        return [int(dict(record.headers)["rsafe-origin-offset"] or b"") for record in self.source]


def run(
    topics: Topics, choice: Choice | None = None, *, take: Callable[..., object] = iter
) -> tuple[Found, Summary]:
    summary = Summary()
    found = Found()
    look(topics, found, lambda: None)
    letters = chosen(topics, found, SOURCE, choice or Choice(), summary, lambda: None)
    put_back(take(letters), topics, summary, source_partitions={0, 1})  # type: ignore[arg-type]
    return found, summary


def test_letters_go_back_once_in_their_order_with_a_mark_behind_each() -> None:
    topics = Topics()
    for offset in (5, 3, 9):
        topics.letter(offset)
    found, summary = run(topics)
    assert topics.origins() == [5, 3, 9]
    assert (found.letters, summary.put_back) == (3, Counter(invalid=3))
    assert [read_mark(record.headers) is not None for record in topics.partitions[0]] == [False] * 3 + [
        True
    ] * 3
    found, summary = run(topics)
    assert topics.origins() == [5, 3, 9]
    assert (found.letters, summary.earlier, summary.put_back.total()) == (3, 3, 0)


def test_a_record_goes_back_as_it_was() -> None:
    topics = Topics()
    topics.letter(1, value=None, key=None)
    topics.letter(2, value=b"", key=b"")
    topics.letter(3, value=b"\xff\x00", key=b"acme/room")
    run(topics)
    assert [(record.key, record.value) for record in topics.source] == [
        (None, None),
        (b"", b""),
        (b"acme/room", b"\xff\x00"),
    ]


def test_without_a_key_the_partition_is_kept_where_there_is_one() -> None:
    topics = Topics()
    for offset, (partition, key) in enumerate([(1, None), (1, b"k"), (7, None)]):
        letter = DeadLetter(topic=SOURCE, partition=partition, offset=offset, reason="empty", sentence="s")
        topics.append(0, [*dead_letter_headers(letter)], key=key)
    run(topics)
    assert [(record.key, record.partition) for record in topics.source] == [
        (None, 1),
        (b"k", None),
        (None, None),
    ]


def test_two_letters_of_one_record_put_it_back_once() -> None:
    topics = Topics()
    for partition in (0, 0, 1):
        topics.letter(4, partition=partition)
    _, summary = run(topics)
    assert topics.origins() == [4]
    assert summary.earlier == 2
    topics.letter(4, partition=1)  # the worker was killed before its commit, and read the record again
    run(topics)
    assert topics.origins() == [4]


def test_what_is_not_chosen_stays_for_another_run() -> None:
    topics = Topics()
    topics.letter(1, reason="unknown_policy", timestamp_ms=1000)
    topics.letter(2, reason="invalid", timestamp_ms=2000)
    topics.letter(3, reason="unknown_policy", timestamp_ms=3000)
    _, summary = run(topics, Choice(frozenset({"unknown_policy"}), since_ms=2000))
    assert (topics.origins(), summary.not_chosen) == ([3], 2)
    run(topics, Choice(until_ms=2000))
    assert topics.origins() == [3, 1]
    run(topics)
    assert topics.origins() == [3, 1, 2]


@pytest.mark.parametrize(
    ("choice", "offsets"),
    [
        (Choice(), [1, 2, 3]),
        (Choice(since_ms=2000), [2, 3]),
        (Choice(until_ms=2000), [1]),
        (Choice(since_ms=2000, until_ms=3000), [2]),
        (Choice(frozenset({"empty", "over_limit"})), [2, 3]),
        (Choice(frozenset({"empty"}), since_ms=3000), []),
    ],
)
def test_choices(choice: Choice, offsets: list[int]) -> None:
    topics = Topics()
    topics.letter(1, reason="invalid", timestamp_ms=1000)
    topics.letter(2, reason="empty", timestamp_ms=2000)
    topics.letter(3, reason="over_limit", timestamp_ms=3000)
    run(topics, choice)
    assert topics.origins() == offsets


def test_letters_of_another_topic_are_left_alone() -> None:
    topics = Topics()
    topics.letter(1, topic="other")
    _, summary = run(topics)
    assert (topics.source, summary.elsewhere) == ([], 1)


def test_what_fails_again_is_a_letter_of_its_own_and_for_another_run() -> None:
    topics = Topics()
    topics.letter(1)
    original = topics.write

    def write(records: Sequence[Outgoing]) -> bool:
        taken = original(records)
        topics.letter(2)  # the worker read it at offset 2, and it failed again
        return taken

    topics.write = write  # type: ignore[method-assign]
    run(topics)
    assert topics.origins() == [1]
    run(topics)
    assert topics.origins() == [1, 2]


def test_what_the_topic_refuses_is_named_and_the_rest_goes() -> None:
    topics = Topics(largest=10)
    for offset in range(6):
        topics.letter(offset, value=b"x" * (50 if offset in (1, 4) else 5))
    _, summary = run(topics)
    assert topics.origins() == [0, 2, 3, 5]
    assert (summary.refused.count, summary.refused.first) == (2, [(0, 1), (0, 4)])
    topics.largest = None
    run(topics)
    assert sorted(topics.origins()) == [0, 1, 2, 3, 4, 5]


def test_a_letter_without_its_record_is_named_and_not_put_back() -> None:
    topics = Topics()
    topics.letter(1)
    topics.letter(2, left_out_bytes=900, value=None)
    _, summary = run(topics)
    assert topics.origins() == [1]
    assert (summary.without_record.count, summary.without_record.first, summary.seen) == (1, [(0, 1)], 2)


def test_batches_are_bounded_in_records_and_bytes() -> None:
    topics = Topics()
    for offset in range(2 * BATCH_RECORDS + 1):
        topics.letter(offset)
    run(topics)
    assert topics.batches == [2 * BATCH_RECORDS, 2 * BATCH_RECORDS, 2]
    topics = Topics()
    for offset in range(3):
        topics.letter(offset, value=b"x" * (BATCH_BYTES // 2))
    run(topics)
    assert topics.batches == [4, 2]


def test_what_is_no_dead_letter_is_counted_and_left() -> None:
    topics = Topics()
    topics.letter(1)
    for _ in range(30):
        topics.append(0, [("other", b"x")])
    found, _ = run(topics)
    assert (found.letters, found.unreadable.count, found.unreadable.first[0]) == (1, 30, (0, 1))
    assert len(found.unreadable.first) == 20


class Redrives(RuleBasedStateMachine):
    """Letters come, runs with any choice are killed between any two batches: nothing goes twice."""

    @initialize()
    def begin(self) -> None:
        self.topics = Topics()
        self.sent = 0

    @rule(reason=st.sampled_from(["invalid", "empty"]), partition=st.integers(0, 2), again=st.booleans())
    def fail(self, reason: DeadLetterReason, partition: int, again: bool) -> None:
        if not again or not self.sent:
            self.sent += 1
        self.topics.letter(self.sent, reason=reason, partition=partition, timestamp_ms=self.sent)

    @rule(
        reasons=st.sets(st.sampled_from(["invalid", "empty"])),
        since=st.none() | st.integers(0, 20),
        batches=st.none() | st.integers(0, 2),
    )
    def redrive(self, reasons: set[str], since: int | None, batches: int | None) -> None:
        self.topics.killed_after = None if batches is None else len(self.topics.batches) + batches
        try:
            run(self.topics, Choice(frozenset(reasons), since))
        except StreamStopped:
            assert batches is not None

    @invariant()
    def nothing_goes_twice(self) -> None:
        if hasattr(self, "topics"):
            assert max(Counter(self.topics.origins()).values(), default=0) <= 1

    def teardown(self) -> None:
        if hasattr(self, "topics"):
            self.topics.killed_after = None
            run(self.topics)
            assert sorted(self.topics.origins()) == list(range(1, self.sent + 1))


def test_any_interleaving_puts_each_letter_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.redrive.BATCH_RECORDS", 2)
    run_state_machine_as_test(Redrives)
